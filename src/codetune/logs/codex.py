"""Codex CLI rollouts (`~/.codex/sessions/**/rollout-*.jsonl`, 2025 to 2026).

A line is `{timestamp, type, payload}`; in the first months it was the bare payload. What the model
saw are the response items; events tell the same once more for the screen. A fork or a subagent
begins with a copy of its parent's history, which is context and never trained again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codetune.logs.codex_copies import Copies
from codetune.logs.codex_items import (
    BOOKKEEPING,
    CALLS,
    OUTPUTS,
    SERVER_SIDE,
    assistant_text,
    call_of,
    reasoning_text,
    result_of,
    summary_of,
    user_text,
)
from codetune.logs.conversation import Conversation
from codetune.logs.discover import LogFile
from codetune.logs.documents import values_of
from codetune.logs.memory import Memory
from codetune.logs.session import Session

NAME = "codex"
_ENVELOPES = frozenset(("session_meta", "response_item", "event_msg", "turn_context", "compacted"))
_ITEMS = frozenset(("message", "reasoning", *CALLS, *OUTPUTS, *SERVER_SIDE))
_META_RECORDS = frozenset(
    (
        *("turn_context", "world_state", "token_usage_record", "state", "security_risk_score"),
        "inter_agent_communication_metadata",
    )
)
_MIRRORS = frozenset(("user_message", "agent_message", "agent_reasoning"))
_SLUG = re.compile(r"[^A-Za-z0-9_-]")


def detect(head: Sequence[Mapping[str, Any]]) -> float:
    """How sure we are that records like these are Codex's: 1, 0.9 (flat), 0.5 or 0."""
    if any(r.get("type") == "response_item" and _payload(r) for r in head):
        return 1.0
    if any(_is_flat(record) for record in head):
        return 0.9
    known = (r.get("type") for r in head if _payload(r))
    return 0.5 if any(isinstance(kind, str) and kind in _ENVELOPES for kind in known) else 0.0


def read(file: LogFile, memory: Memory) -> list[Session]:
    """The conversation of one rollout. Every record is counted in `memory.records`."""
    reading = _Rollout(file, memory)
    for value in values_of(file, memory):
        reading.take(value)
    return reading.sessions()


def _is_flat(record: Mapping[str, Any]) -> bool:
    kind = record.get("type")
    if record.get("record_type") == "state":
        return True
    if not isinstance(kind, str) or kind not in _ITEMS:
        return False
    return "call_id" in record or "role" in record or kind == "reasoning"


@dataclass
class _Rollout:
    """Takes the records of one file in order."""

    file: LogFile
    memory: Memory
    id: str = ""
    agent: str = ""
    project: str = ""
    version: str = ""
    provider: str = ""
    model: str = ""
    first: str = ""
    _talk: Conversation = field(init=False)
    _copies: Copies = field(init=False)
    _own_calls: set[str] = field(default_factory=set)
    _outputs: list[str] = field(default_factory=list)
    _kept: int = 0
    _copied: bool = False
    _fresh: str = ""
    _marks: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._talk = Conversation(self.memory)
        self._copies = Copies(self.memory)

    def take(self, record: dict[str, Any]) -> None:
        """Counts one record and puts it where it belongs."""
        reason = self._take(record)
        if not reason:
            self._kept += 1
        elif reason != "later":
            self.memory.records.drop(reason)

    def sessions(self) -> list[Session]:
        """The session, if the assistant did anything in it."""
        for call_id in self._outputs:
            if self._talk.was_called(call_id):
                self._kept += 1
            else:
                self.memory.records.drop("orphan_result")
        self.memory.records.keep(self._kept)
        session = Session(
            NAME, self.id or self.file.path.stem, self.agent, self.project, self.version
        )
        session.first = f"{self.first}{self._fresh}"
        session.provider = self.provider
        session.segments = self._talk.finish()
        return [session] if session.steps() else []

    # -------------------------------------------------------------- records

    def _take(self, record: dict[str, Any]) -> str:
        """Takes one record; why it is dropped, "" when kept, "later" for what is counted then."""
        kind, item = _text(record, "type"), _payload(record)
        stamp = _text(record, "timestamp")
        self._copies.watch(stamp)
        if kind == "session_meta" and item:
            return self._meta(item)
        if kind == "response_item" and item:
            return self._item(item, stamp)
        if kind == "event_msg" and item:
            return self._event(item)
        if kind == "compacted" and item:
            return self._compacted(item, stamp)
        if kind in _META_RECORDS or record.get("record_type") == "state":
            return self._context(kind or "state", item or record)
        if not item and kind in _ITEMS:
            return self._item(record, stamp)
        if not kind and "id" in record and ("instructions" in record or "git" in record):
            return self._meta(record)
        return f"unknown:{_slug(kind)}" if kind else "no_type"

    def _meta(self, item: Mapping[str, Any]) -> str:
        """The first meta record is this file's own; others came with a copied history."""
        own = _text(item, "id")
        if self.id:
            self._copies.another_meta(own)
            return "meta:session_meta"
        self.id = own or self.file.path.stem
        self.version = _text(item, "cli_version")
        # Another provider's models are told by their names; without one it is the default.
        self.provider = "" if _text(item, "model_provider") not in ("", "openai") else "openai"
        self._place(_text(item, "cwd"))
        source = item.get("source")
        spawned = source.get("subagent") if isinstance(source, dict) else None
        thread = spawned.get("thread_spawn") if isinstance(spawned, dict) else None
        parent = _text(item, "forked_from_id") or _text(item, "parent_thread_id")
        parent = parent or (_text(thread, "parent_thread_id") if isinstance(thread, dict) else "")
        if spawned or item.get("thread_source") == "subagent":
            self.agent = self.id
        self._copies.begin(self.id, _text(item, "timestamp"), parent)
        return "meta:session_meta"

    def _context(self, kind: str, item: Mapping[str, Any]) -> str:
        self.model = _text(item, "model") or self.model
        self._place(_text(item, "cwd"))
        return f"meta:{kind}"

    def _place(self, folder: str) -> None:
        if folder:
            self.memory.places.add(folder)
            self.project = self.project or folder

    def _event(self, item: Mapping[str, Any]) -> str:
        kind = _text(item, "type")
        if kind == "turn_aborted":
            self._talk.mask_last("interrupted")
        elif kind == "thread_rolled_back":
            self._take_back(item.get("num_turns"))
        prefix = "mirror" if kind in _MIRRORS else "meta"
        return f"{prefix}:{_slug(kind)}"

    def _take_back(self, prompts: Any) -> None:
        if not isinstance(prompts, int) or prompts <= 0 or not self._marks:
            return
        self._talk.take_back(prompts)
        place = max(0, len(self._marks) - prompts)
        kept, outputs = self._marks[place]
        gone = self._kept - kept + len(self._outputs) - outputs
        self.memory.records.drop("taken_back", gone)
        self._kept = kept
        del self._marks[place:], self._outputs[outputs:]

    def _compacted(self, item: Mapping[str, Any], stamp: str) -> str:
        """The history was replaced: by a summary, or by what users said and a sealed one."""
        self._talk.cut()
        self._marks.clear()
        text = summary_of(item)
        if not text:
            return "meta:compacted"
        self._talk.ask(f"Summary of the conversation so far:\n{text}", "summary", stamp)
        return ""

    # -------------------------------------------------------------- items

    def _item(self, item: dict[str, Any], stamp: str) -> str:
        kind = _text(item, "type")
        self.first = self.first or stamp or _text(item, "id")
        if kind in BOOKKEEPING:
            return f"meta:{kind}"
        if kind not in _ITEMS:
            return f"unknown:{_slug(kind)}"
        if self._copies.is_replayed(item):
            return "replayed"
        if kind == "message":
            return self._message(item, stamp)
        if kind == "reasoning":
            text = reasoning_text(item)
            self._talk.think(text, self.model)
            return "" if text.strip() else "sealed_reasoning"
        if kind in CALLS:
            return self._call(item)
        if kind in OUTPUTS:
            return self._output(item)
        self._talk.step(self.model).masked.add("server_side_call")
        return f"server_side:{kind}"

    def _message(self, item: Mapping[str, Any], stamp: str) -> str:
        role = item.get("role")
        if role == "user":
            said = user_text(item.get("content"))
            if said.text:
                self._copies.heard("user", said.text)
                if not said.context:
                    self._marks.append((self._kept, len(self._outputs)))
                self._talk.ask(said.text, "context" if said.context else "human", stamp)
            return said.reason
        if role == "assistant":
            text = assistant_text(item.get("content"))
            if not text.strip():
                return "empty"
            self._talk.say(text, self.model)
            self._mask_copy("assistant", text)
            return ""
        return "injected:system" if role in ("developer", "system") else "unknown:message_role"

    def _call(self, item: Mapping[str, Any]) -> str:
        call_id, name, arguments, broken = call_of(item)
        if call_id in self._own_calls:
            return "replayed"
        if broken:
            self.memory.blocks["call:arguments_not_json"] += 1
        if not self._talk.call(call_id, name, arguments, self.model):
            return "malformed_call"
        if broken:
            self._talk.step().masked.add("malformed_call")
        self._own_calls.add(call_id)
        self._mask_copy(name, call_id, call_id)
        return ""

    def _mask_copy(self, *said: str) -> None:
        if self._copies.is_copy(*said):
            self._talk.step().masked.add("copied")
            self._copied = True
        elif self._copied and not self._fresh:
            # Two files of one session that went on differently must not share the ids of rows.
            self._fresh = said[-1]

    def _output(self, item: Mapping[str, Any]) -> str:
        call_id = _text(item, "call_id") or _text(item, "id")
        result, aborted = result_of(item.get("output"))
        if aborted:
            self._talk.mask_last("interrupted")
        self._talk.answer(call_id, result)
        self._outputs.append(call_id)
        return "later"


def _payload(record: Mapping[str, Any]) -> dict[str, Any]:
    payload = record.get("payload")
    return payload if isinstance(payload, dict) else {}


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _slug(name: str) -> str:
    """A type name of a stranger, short and plain enough for a report."""
    return _SLUG.sub("_", name)[:40]
