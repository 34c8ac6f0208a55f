"""Sessions of the Gemini CLI (`~/.gemini/tmp/<project>/chats/session-*`).

Until version 0.38 a session is one object with all its messages; since 0.39 it is a log of lines:
a header, messages that replace earlier ones with their id, `{"$set": {"messages": […]}}` that
replaces all of them, and `{"$rewindTo": id}` that forgets a message and all that followed. One
message of the assistant holds its calls and their results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from codetune.logs.branches import first_new
from codetune.logs.claude_code_text import IMAGE, plain
from codetune.logs.conversation import Conversation
from codetune.logs.discover import LogFile
from codetune.logs.documents import values_of
from codetune.logs.memory import Memory
from codetune.logs.pairing import without_nulls
from codetune.logs.session import Result, Session

NAME = "gemini"
PROVIDER = "google"
_NOTES = ("info", "error", "warning")
_INJECTED = re.compile(r"\s*<(session_context|hook_context)>.*</\1>\s*", re.S)
_CONTINUE = "System: Please continue."
_CANCELLED = "Request cancelled."
_COMMAND = re.compile(
    r"\s*/(?:about|agents|auth|bug|chat|clear|commands|compress|copy|corgi|directory|docs|editor"
    r"|exit|extensions|footer|help|hooks|ide|init|mcp|memory|model|permissions|plan|policies"
    r"|privacy|quit|restore|resume|rewind|settings|setup-github|skills|stats|terminal-setup|theme"
    r"|tools|upgrade|vim)(?:\s[^\n]*)?"
)
# Sessions name no working directory, but tools answer with whole paths.
_HOME = re.compile(r"(?:/home/|/Users/)[A-Za-z0-9._-]+/")
_EXIT_CODE = re.compile(r"^Exit Code: (-?\d+)$", re.M)


def detect(head: Sequence[Mapping[str, Any]]) -> float:
    """1 when a record is the header of a session, else 0."""
    return float(any("sessionId" in record and "projectHash" in record for record in head))


def read(file: LogFile, memory: Memory) -> list[Session]:
    """The session of a file. Records and the messages in them are counted in `memory.records`."""
    reading = _File(file, memory)
    for value in values_of(file, memory):
        reading.take(value)
    return reading.sessions()


class _File:
    """Takes the records of one file in order."""

    def __init__(self, file: LogFile, memory: Memory) -> None:
        self._memory = memory
        self._talk = Conversation(memory)
        self._messages: dict[str, dict[str, Any]] = {}
        self.id = file.path.stem
        self._project = self._agent = ""

    def take(self, record: dict[str, Any]) -> None:
        """Counts one record and puts what is in it where it belongs."""
        given = record.get("$set")
        if "sessionId" in record:
            self._header(record)
        elif isinstance(given, dict):
            self._set(given)
        elif "$rewindTo" in record:
            self._rewind(record["$rewindTo"])
        elif "type" in record:
            self._message(record)
        else:
            self._memory.records.drop("no_type")

    def _header(self, record: Mapping[str, Any]) -> None:
        self.id = _text(record, "sessionId") or self.id
        self._project = _text(record, "projectHash") or self._project
        self._agent = self.id if record.get("kind") == "subagent" else self._agent
        self._set(record, "meta:session")

    def _set(self, facts: Mapping[str, Any], reason: str = "meta:set") -> None:
        self._memory.records.drop(reason)
        self._memory.places.update(d for d in _list(facts.get("directories")) if _filled(d))
        if isinstance(facts.get("messages"), list):
            if self._messages:
                self._memory.records.drop("superseded", len(self._messages))
                self._messages.clear()
            for message in facts["messages"]:
                self._message(message)

    def _rewind(self, message_id: Any) -> None:
        self._memory.records.drop("meta:rewind")
        names = list(self._messages)
        if isinstance(message_id, str) and message_id in self._messages:
            gone = names[names.index(message_id) :]
            self._memory.records.drop("taken_back", len(gone))
            for name in gone:
                del self._messages[name]

    def _message(self, message: Any) -> None:
        if not isinstance(message, dict):
            self._memory.records.drop("not_an_object")
            return
        name = _text(message, "id") or f"#{len(self._messages)}"
        if name in self._messages:
            self._memory.records.drop("superseded")
        self._messages[name] = message

    # -------------------------------------------------------------- the whole

    def sessions(self) -> list[Session]:
        """The session, if the assistant did anything in it that was not read before."""
        copied = {name for name, m in self._messages.items() if self._is_copy(name, m)}
        if copied and len(copied) == len(self._messages):
            self._memory.records.drop("duplicate", len(copied))
            return []
        for name, message in self._messages.items():
            reason = self._said(message, name, copied=name in copied)
            if reason:
                self._memory.records.drop(reason)
            else:
                self._memory.records.keep()
        session = Session(NAME, self.id, self._agent, self._project)
        names = list(self._messages)
        session.first = first_new(names, [name in copied for name in names])
        session.provider = PROVIDER
        session.segments = self._talk.finish()
        return [session] if session.steps() else []

    def _is_copy(self, name: str, message: Mapping[str, Any]) -> bool:
        """Snapshots of a session share messages; one whose calls still run is not done yet."""
        calls = [call for call in _list(message.get("toolCalls")) if isinstance(call, dict)]
        if name.startswith("#") or not all(call.get("result") for call in calls):
            return False
        return not self._memory.is_new(name, self.id, f"{NAME}:{self.id}")

    def _said(self, message: Mapping[str, Any], name: str, *, copied: bool) -> str:
        kind = _text(message, "type")
        text = _parts_text(message.get("content"))
        if kind == "gemini":
            return self._assistant(message, text, name, copied=copied)
        if kind == "user":
            return self._user(message, text)
        if kind in _NOTES:
            if text.strip() == _CANCELLED:
                self._talk.mask_last("interrupted")
            return f"meta:{kind}"
        return "unknown:type"

    def _user(self, message: Mapping[str, Any], text: str) -> str:
        text = plain(text).strip()
        if not text:
            return "empty"
        if text == _CONTINUE or _INJECTED.fullmatch(text):
            return "injected"
        if _COMMAND.fullmatch(text):
            return "local_command"
        self._talk.ask(text, timestamp=_text(message, "timestamp"))
        return ""

    def _assistant(self, message: Mapping[str, Any], text: str, name: str, *, copied: bool) -> str:
        calls = [call for call in _list(message.get("toolCalls")) if isinstance(call, dict)]
        if not text.strip() and not calls:
            return "empty"
        self._talk.close()
        step = self._talk.step(_text(message, "model"))
        step.masked |= {"copied"} if copied else set()
        if thought := _thoughts(message.get("thoughts")):
            self._talk.think(thought)
        self._talk.say(text)
        results: list[tuple[str, Result]] = []
        for number, call in enumerate(calls):
            call_id = f"{self.id}-{name}-{number}"
            made = self._talk.call(call_id, call.get("name"), call.get("args"))
            result = _result(call) if made else None
            if result:
                results.append((call_id, result))
                self._memory.places.update(_HOME.findall(result.text))
        for call_id, result in results:
            self._talk.answer(call_id, result)
        self._talk.close()
        return ""


def _result(call: Mapping[str, Any]) -> Result | None:
    """What a call gave back; None when the log does not say."""
    status, given = call.get("status"), call.get("result")
    if status == "cancelled":
        return Result("The user did not allow this call.", "rejected")
    if not given:
        return None
    parts = given if isinstance(given, list) else [given]
    text = plain("\n".join(filter(None, map(_part_text, parts)))).strip("\n")
    if status == "error":
        return Result(text, "error")
    code = _EXIT_CODE.search(text) if call.get("name") == "run_shell_command" else None
    return Result(text, "failed" if code and code.group(1) != "0" else "ok")


def _parts_text(content: Any) -> str:
    """The text of a content: a string, a part, or a list of them; pictures are replaced."""
    parts = content if isinstance(content, list) else [content]
    return "\n".join(text for text in map(_part_text, parts) if text)


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    if "inlineData" in part or "fileData" in part:
        return IMAGE
    answer = part.get("functionResponse")
    if not isinstance(answer, dict):
        return _text(part, "text")
    response = answer.get("response")
    if not isinstance(response, dict):
        return ""
    held = next((response[key] for key in ("output", "error", "content") if key in response), None)
    return held if isinstance(held, str) else orjson.dumps(without_nulls(response)).decode()


def _thoughts(thoughts: Any) -> str:
    made = []
    for thought in _list(thoughts):
        if isinstance(thought, dict):
            subject, text = _text(thought, "subject"), _text(thought, "description")
            made.append("\n".join(t for t in (subject, text.replace("\\n", " ").strip()) if t))
    return "\n\n".join(text for text in made if text)


def _filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""
