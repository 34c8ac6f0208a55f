"""Exports of claude.ai: `conversations.json`, a list of conversations, or one saved by itself.

A conversation is a list of messages with blocks. `text` is a flattened copy of the blocks and may
hold thinking, so it is only used where there are none. A message holds its calls with their
results; in exports they carry no ids and stand in order. Account ids are never read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from codetune.logs.branches import first_new, path_to
from codetune.logs.claude_ai_text import attached, said_by_assistant
from codetune.logs.claude_code_text import IMAGE, plain
from codetune.logs.conversation import Conversation
from codetune.logs.discover import LogFile
from codetune.logs.documents import values_of
from codetune.logs.memory import Memory
from codetune.logs.pairing import without_nulls
from codetune.logs.session import Result, Session

NAME = "claude_ai"
PROVIDER = "anthropic"
_ROOT = "00000000-0000-4000-8000-000000000000"
_FILLERS = ("This block is not supported on your current device yet.",)
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".heic", ".svg")
FILE = "[file omitted]"
_QUIET = frozenset(("token_budget", "flag", "image", "document"))


def detect(head: Sequence[Mapping[str, Any]]) -> float:
    """1 when a record holds chat messages, else 0."""
    return float(any(isinstance(record.get("chat_messages"), list) for record in head))


def read(file: LogFile, memory: Memory) -> Iterator[Session]:
    """The conversations of an export. Every message is counted in `memory.records`."""
    for value in values_of(file, memory):
        if not isinstance(value.get("chat_messages"), list):
            memory.records.drop("not_a_conversation")
        else:
            yield from _Chat(value, memory).sessions()


class _Chat:
    """One conversation."""

    def __init__(self, record: Mapping[str, Any], memory: Memory) -> None:
        self._record, self._memory = record, memory
        self.id = _text(record, "uuid") or _text(record, "name") or NAME
        self._model = _text(record, "model")
        self._talk = Conversation(memory)

    def sessions(self) -> list[Session]:
        """The session, if the assistant said anything that is not in an earlier export."""
        messages = []
        for message in self._record["chat_messages"]:
            if isinstance(message, dict):
                messages.append(message)
            else:
                self._memory.records.drop("not_an_object")
        shown = self._branch(messages)
        known = [not self._is_new(message) for message in shown]
        if known and all(known):
            self._memory.records.drop("duplicate", len(known))
            return []
        for message, copied in zip(shown, known, strict=True):
            reason = self._take(message, copied=copied)
            if reason:
                self._memory.records.drop(reason)
            else:
                self._memory.records.keep()
        session = Session(NAME, self.id, project=_text(self._record, "project_uuid") or NAME)
        session.first = first_new([_text(m, "uuid") for m in shown], known)
        session.provider = PROVIDER
        session.segments = self._talk.finish()
        return [session] if session.steps() else []

    def _is_new(self, message: Mapping[str, Any]) -> bool:
        uuid = _text(message, "uuid")
        return not uuid or self._memory.is_new(uuid, self.id, f"{NAME}:{self.id}")

    def _branch(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages on the way to the one shown last; without whole links, all of them."""
        parents = {_text(m, "uuid"): _text(m, "parent_message_uuid") for m in messages}
        leaf = _text(self._record, "current_leaf_message_uuid")
        if leaf not in parents and messages:
            leaf = _text(messages[-1], "uuid")
        path = path_to(leaf, {uuid: "" if up == _ROOT else up for uuid, up in parents.items()})
        if path is None or len(parents) < len(messages) or not any(parents.values()):
            return messages
        if path[0] != _text(messages[0], "uuid") and parents[path[0]] != _ROOT:
            return messages
        if len(path) < len(messages):
            self._memory.records.drop("abandoned_branch", len(messages) - len(path))
        held = {_text(m, "uuid"): m for m in messages}
        return [held[uuid] for uuid in path]

    def _take(self, message: Mapping[str, Any], *, copied: bool) -> str:
        sender = message.get("sender")
        if sender == "human":
            text = _human_text(message)
            if text:
                self._talk.ask(text, timestamp=_text(message, "created_at"))
            return "" if text else "empty"
        if sender != "assistant":
            return "unknown:sender"
        return self._assistant(message, copied=copied)

    def _assistant(self, message: Mapping[str, Any], *, copied: bool) -> str:
        marks = {"copied"} if copied else set()
        if message.get("truncated") is True or message.get("stop_reason") == "user_canceled":
            marks.add("cut_off")
        self._talk.close()
        blocks = [b for b in _list(message.get("content")) if isinstance(b, dict)]
        waiting: deque[tuple[str, str]] = deque()
        taken = 0
        for number, block in enumerate(blocks):
            taken += self._block(block, f"{_text(message, 'uuid')}-{number}", waiting, marks)
        if not taken:
            taken = self._say(_fallback(message, blocks), marks)
        self._talk.close()
        return "" if taken else "empty"

    def _block(
        self,
        block: Mapping[str, Any],
        name: str,
        waiting: deque[tuple[str, str]],
        marks: set[str],
    ) -> int:
        """Takes one block; 1 when something was in it. `waiting` holds calls without a result."""
        kind = _text(block, "type")
        if kind == "text":
            return self._say(block.get("text"), marks | _cut_off(block))
        if kind == "thinking":
            self._talk.think(_text(block, "thinking"), self._model)
            return 0
        if kind == "tool_use":
            return self._call(block, name, waiting, marks)
        if kind == "tool_result":
            return self._result(block, waiting)
        self._memory.blocks["block:quiet" if kind in _QUIET else "block:other"] += 1
        return 0

    def _say(self, text: Any, marks: set[str]) -> int:
        written, thought = said_by_assistant(text if isinstance(text, str) else "")
        if thought:
            self._talk.think(thought, self._model)
        if not written or written in _FILLERS:
            return 0
        self._talk.say(written, self._model)
        self._talk.step().masked |= marks
        return 1

    def _call(
        self,
        block: Mapping[str, Any],
        name: str,
        waiting: deque[tuple[str, str]],
        marks: set[str],
    ) -> int:
        call_id = f"{self.id}-{name}"
        if self._talk.call(call_id, block.get("name"), block.get("input"), self._model):
            waiting.append((_text(block, "id"), call_id))
        self._talk.step().masked |= marks
        return 1

    def _result(self, block: Mapping[str, Any], waiting: deque[tuple[str, str]]) -> int:
        """A result belongs to the call it names, or to the first that has none yet."""
        wanted = _text(block, "tool_use_id")
        named = next((pair for pair in waiting if wanted and pair[0] == wanted), None)
        if named is None and waiting and not (wanted and waiting[0][0]):
            named = waiting[0]
        if named is None:
            self._memory.blocks["result:without_call"] += 1
            return 0
        waiting.remove(named)
        failed = block.get("is_error") is True
        text = plain(_content_text(block.get("content")))
        self._talk.answer(named[1], Result(text.strip("\n"), "failed" if failed else "ok"))
        return 1


def _human_text(message: Mapping[str, Any]) -> str:
    """What a person wrote, with the texts they attached and a sign for each picture."""
    content = message.get("content")
    parts = [content] if isinstance(content, str) else []
    parts += [_text(b, "text") for b in _list(content) if isinstance(b, dict)]
    parts = [part for part in parts if part.strip()] or [_text(message, "text")]
    parts = [attached(file) for file in _list(message.get("attachments"))] + parts
    files = message.get("files") or message.get("files_v2")
    parts += [_sign(file) for file in _list(files) if isinstance(file, dict)]
    return "\n\n".join(text for part in parts if (text := plain(part).strip()))


def _sign(file: Mapping[str, Any]) -> str:
    """What stands for a file of which an export holds no more than the name."""
    picture = file.get("file_kind", "image") == "image"
    name = _text(file, "file_name").lower()
    return IMAGE if picture and ("." not in name or name.endswith(_PICTURES)) else FILE


def _fallback(message: Mapping[str, Any], blocks: list[dict[str, Any]]) -> str:
    """The flattened text, where there are no blocks that it could be a copy of."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return _text(message, "text") if all(b.get("type") == "text" for b in blocks) else ""


def _content_text(content: Any) -> str:
    """The text of a tool result: a string, blocks, or whatever the tool gave as JSON."""
    if isinstance(content, str):
        return content
    parts = []
    for block in _list(content):
        if not isinstance(block, dict):
            continue
        if block.get("type") in ("image", "document"):
            parts.append(IMAGE)
            continue
        title, text = _text(block, "title"), _text(block, "text")
        source = _text(block, "url")
        parts.append("\n".join(part for part in (title, source, text) if part))
    if isinstance(content, dict):
        parts.append(orjson.dumps(without_nulls(content)).decode())
    return "\n\n".join(part for part in parts if part)


def _cut_off(block: Mapping[str, Any]) -> set[str]:
    return {"cut_off"} if block.get("cut_off") is True else set()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""
