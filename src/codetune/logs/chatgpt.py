"""Exports of ChatGPT: `conversations.json`, a list of conversations, each a tree of messages.

Regenerated answers and edited prompts are siblings: what counts is the way from `current_node` up
to the root. A message of the assistant whose recipient is not "all" is a tool call, and what tools
say until it speaks again is its result. Custom instructions and account ids are never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from codetune.logs.branches import first_new, path_to
from codetune.logs.chatgpt_text import (
    arguments_of,
    attachments_of,
    found_by_search,
    text_of_content,
    thoughts_of,
    written,
)
from codetune.logs.claude_code_text import plain
from codetune.logs.conversation import Conversation
from codetune.logs.discover import LogFile
from codetune.logs.documents import values_of
from codetune.logs.memory import Memory
from codetune.logs.session import Result, Session

NAME = "chatgpt"
PROVIDER = "openai"
_OUTPUT = "execution_output"
_PRIVATE = ("user_editable_context", "model_editable_context")
_CUT_OFF = ("interrupted", "max_tokens", "client_error", "server_error")


def detect(head: Sequence[Mapping[str, Any]]) -> float:
    """1 when a record is a tree of messages, else 0."""
    return float(any(_is_tree(record) for record in head))


def read(file: LogFile, memory: Memory) -> Iterator[Session]:
    """The conversations of an export. Every node is counted in `memory.records`."""
    for value in values_of(file, memory):
        if not isinstance(value.get("mapping"), dict):
            memory.records.drop("not_a_conversation")
        else:
            yield from _Chat(value, memory).sessions()


def _is_tree(record: Mapping[str, Any]) -> bool:
    mapping = record.get("mapping")
    if not isinstance(mapping, dict):
        return False
    nodes = list(mapping.values())
    return any(isinstance(node, dict) and "message" in node for node in nodes[:20])


class _Chat:
    """One conversation."""

    def __init__(self, record: Mapping[str, Any], memory: Memory) -> None:
        self._record, self._memory = record, memory
        self._nodes: dict[str, Any] = record["mapping"]
        self.id = _text(record, "conversation_id") or _text(record, "id") or _text(record, "title")
        self._model = _text(record, "default_model_slug")
        self._talk = Conversation(memory)
        self._waiting: list[_Waiting] = []
        self._blind = False

    def sessions(self) -> list[Session]:
        """The session, if the assistant said anything that is not in an earlier export."""
        path = self._branch()
        known = [not self._is_new(name) for name in path]
        if known and all(known):
            self._memory.records.drop("duplicate", len(known))
            return []
        for name, copied in zip(path, known, strict=True):
            reason = self._take(_dict(self._nodes[name]), name, copied=copied)
            if reason:
                self._memory.records.drop(reason)
            else:
                self._memory.records.keep()
        self._settle()
        session = Session(NAME, self.id or NAME, project=_text(self._record, "gizmo_id") or NAME)
        session.first = first_new(path, known)
        session.provider = PROVIDER
        session.segments = self._talk.finish()
        return [session] if session.steps() else []

    def _is_new(self, name: str) -> bool:
        return self._memory.is_new(name, self.id or NAME, f"{NAME}:{self.id}")

    def _branch(self) -> list[str]:
        """The nodes from the root to the one shown last; all others are counted as abandoned."""
        parents = {name: _text(_dict(node), "parent") for name, node in self._nodes.items()}
        inner = set(parents.values())
        leaves = sorted((name for name in parents if name not in inner), key=self._written_at)
        wanted = [_text(self._record, "current_node"), *leaves[::-1]]
        # A parent that is not in the file is above the root of what is.
        held = {name: up if up in parents else "" for name, up in parents.items()}
        paths = (path_to(leaf, held) for leaf in wanted if leaf in parents)
        path = next((path for path in paths if path), [])
        if len(path) < len(parents):
            self._memory.records.drop("abandoned_branch", len(parents) - len(path))
        return path

    def _written_at(self, name: str) -> float:
        time = _dict(_dict(self._nodes[name]).get("message")).get("create_time")
        return time if isinstance(time, int | float) else 0.0

    def _take(self, node: Mapping[str, Any], name: str, *, copied: bool) -> str:
        """Takes one node; returns why it is dropped, or nothing."""
        message = node.get("message")
        if not isinstance(message, dict):
            return "no_message"
        facts, content = _dict(message.get("metadata")), _dict(message.get("content"))
        role = _text(_dict(message.get("author")), "role")
        if facts.get("is_visually_hidden_from_conversation") is True or message.get("weight") == 0:
            return "hidden"
        if _text(content, "content_type") in _PRIVATE:
            return "custom_instructions"
        if role == "user":
            return self._user(message, facts)
        if role == "tool":
            return self._tool(message, facts)
        if role == "assistant":
            return self._assistant(message, facts, name, copied=copied)
        return f"meta:{role}" if role == "system" else "unknown:role"

    def _user(self, message: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
        self._settle()
        self._blind = False
        written_text = plain(text_of_content(_dict(message.get("content")))).strip()
        text = "\n\n".join(part for part in (written_text, *attachments_of(facts)) if part)
        if text:
            self._talk.ask(text, timestamp=_time(message.get("create_time")))
        return "" if text else "empty"

    def _assistant(
        self, message: Mapping[str, Any], facts: Mapping[str, Any], name: str, *, copied: bool
    ) -> str:
        content = _dict(message.get("content"))
        kind = _text(content, "content_type")
        self._model = _text(facts, "model_slug") or self._model
        if kind == "reasoning_recap":
            return "meta:reasoning_recap"
        if any(call.said for call in self._waiting):
            self._settle()
        if kind == "thoughts":
            thought = thoughts_of(content)
            self._talk.think(thought, self._model)
            return "" if thought else "empty"
        reason = self._say(message, text_of_content(content), name)
        if not reason:
            ending = _text(_dict(facts.get("finish_details")), "type")
            marks = {"copied"} if copied else set()
            marks |= {"cut_off"} if ending in _CUT_OFF else set()
            # What follows a call may rest on a result that the export does not hold.
            self._talk.step().masked |= marks | ({"result_not_in_log"} if self._blind else set())
        return reason

    def _say(self, message: Mapping[str, Any], text: str, name: str) -> str:
        recipient = _text(message, "recipient")
        if recipient in ("", "all", "user"):
            text = written(text)
            if text and self._waiting:
                self._settle()
            self._talk.say(text, self._model)
            return "" if text else "empty"
        call_id = f"{self.id}-{name}"
        if not self._talk.call(call_id, recipient, arguments_of(recipient, text), self._model):
            return "malformed_call"
        self._waiting.append(_Waiting(recipient, call_id))
        return ""

    def _tool(self, message: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
        """A part of the result of a call: of this tool if one waits, of the first else."""
        if not self._waiting:
            return "orphan_result"
        author = _text(_dict(message.get("author")), "name")
        named = [call for call in self._waiting if call.tool == author] or self._waiting
        call = next((call for call in named if not call.said), named[-1])
        content = _dict(message.get("content"))
        text = plain(text_of_content(content)).strip("\n") or found_by_search(facts)
        call.said.append(text)
        # Only code prints nothing; what other tools gave back was left out of the export.
        self._blind = self._blind or not (text or content.get("content_type") == _OUTPUT)
        status = _text(_dict(facts.get("aggregate_result")), "status")
        if content.get("content_type") == "system_error" or status.startswith("failed"):
            call.failed = True
        return ""

    def _settle(self) -> None:
        """Calls are answered by all that their tool said; what comes next is another message."""
        for call in self._waiting:
            if call.said:
                text = "\n\n".join(part for part in call.said if part)
                self._talk.answer(call.id, Result(text, "failed" if call.failed else "ok"))
            else:
                self._blind = True
        self._waiting.clear()
        self._talk.close()


@dataclass(slots=True)
class _Waiting:
    """A call, and what its tool said so far."""

    tool: str
    id: str
    said: list[str] = field(default_factory=list)
    failed: bool = False


def _time(seconds: Any) -> str:
    """A time of the export, seconds since 1970, as ISO 8601."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""
