"""Chats as data sets hold them: OpenAI `messages` with tools, ShareGPT, prompt and completion.

`codetune.generic` knows these forms; here a row becomes a session, so that it is cut, redacted and
counted like any log. What a row says about itself (system prompt, tools, which answers to train,
model, group) is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from codetune import sample
from codetune.generic import from_generic
from codetune.logs.claude_code_text import plain
from codetune.logs.conversation import Conversation
from codetune.logs.discover import LogFile
from codetune.logs.documents import values_of
from codetune.logs.memory import Memory
from codetune.logs.pairing import is_shallow
from codetune.logs.session import Result, Session

NAME = "chat_rows"
_PROVIDERS = ("anthropic", "openai", "google")


def detect(head: Sequence[Mapping[str, Any]]) -> float:
    """0.8 when a record is a chat of one of these forms, else 0."""
    return 0.8 * any(_is_chat(record) for record in head)


def read(file: LogFile, memory: Memory) -> Iterator[Session]:
    """One session a row. Every row is counted in `memory.records`."""
    for value in values_of(file, memory):
        session = _session(value, memory)
        if isinstance(session, str):
            memory.records.drop(session)
        else:
            memory.records.keep()
            yield session


def _is_chat(record: Mapping[str, Any]) -> bool:
    messages = record.get("messages", record.get("conversations"))
    if isinstance(messages, list):
        return any(isinstance(m, dict) and ("role" in m or "from" in m) for m in messages)
    return "prompt" in record and "completion" in record


def _session(record: dict[str, Any], memory: Memory) -> Session | str:
    """The session of a row, or why there is none."""
    if not is_shallow(record):
        return "too_deep"
    row = from_generic(record)
    if row is None:
        return "unknown_shape"
    if row.get("task") != "chat":
        return "not_a_chat"
    if reason := sample.check(row):
        return f"row:{reason}"
    meta = row["meta"]
    name, group = row["id"], _text(meta, "group")
    if not memory.is_new(sample.content_sha256(row), name, NAME):
        return "duplicate"
    if group:
        memory.kin.join(name, f"group:{group}")
    talk = _Talk(memory, _text(meta, "model") or _text(record, "model"))
    for message in row["messages"]:
        talk.take(message)
    session = Session(NAME, name, project=_text(meta, "project") or NAME)
    session.provider = meta["provider"] if meta.get("provider") in _PROVIDERS else ""
    session.system, session.tools = talk.system, _tools(row.get("tools"))
    session.segments = talk.conversation.finish()
    return session if session.steps() else "no_answer"


class _Talk:
    """Takes the messages of one row in order."""

    def __init__(self, memory: Memory, model: str) -> None:
        self.system = ""
        self.conversation = Conversation(memory)
        self._memory, self._model = memory, model
        self._waiting: list[tuple[str, str]] = []
        self._calls = 0

    def take(self, message: Mapping[str, Any]) -> None:
        """Takes one message of a valid row."""
        role, text = message["role"], message["content"]
        if role == "assistant":
            self._assistant(message, text)
        elif role == "tool":
            self._tool(message, plain(text))
        elif role == "user":
            if text.strip():
                self.conversation.ask(text)
        elif not self.system:
            self.system = text
        else:
            self._memory.blocks["system:further"] += 1
            self.conversation.ask(text, "context")

    def _assistant(self, message: Mapping[str, Any], text: str) -> None:
        self.conversation.close()
        step = self.conversation.step(self._model)
        if message.get("train") is not True:
            step.masked.add("not_trained")
        if thought := _text(message, "reasoning_content"):
            self.conversation.think(thought)
        self.conversation.say(text)
        self._waiting.clear()
        for call in message.get("tool_calls") or ():
            self._calls += 1
            function, own = call["function"], f"call-{self._calls}"
            if self.conversation.call(own, function["name"], function["arguments"]):
                self._waiting.append((str(call.get("id")), own))

    def _tool(self, message: Mapping[str, Any], text: str) -> None:
        """A result belongs to the call it names, or to the first that has none yet."""
        wanted = message.get("tool_call_id")
        named = next((pair for pair in self._waiting if pair[0] == wanted), None)
        if named is None and wanted is None and self._waiting:
            named = self._waiting[0]
        if named is None:
            self._memory.blocks["result:without_call"] += 1
            return
        self._waiting.remove(named)
        self.conversation.answer(named[1], Result(text))


def _tools(tools: Any) -> list[dict[str, Any]]:
    """The schemas of a row, in OpenAI's form; ShareGPT holds them as JSON text, or bare."""
    if isinstance(tools, str):
        try:
            tools = orjson.loads(tools)
        except orjson.JSONDecodeError:
            return []
    found = [_schema(tool) for tool in tools] if isinstance(tools, list) else []
    return [schema for schema in found if schema]


def _schema(tool: Any) -> dict[str, Any] | None:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not _text(function, "name") or not is_shallow(function):
        return None
    return {"type": "function", "function": function}


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""
