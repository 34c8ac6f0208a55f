"""Claude Code session files (`~/.claude/projects/<project>/*.jsonl`, CLI 1.0 to 2.1).

One line is one record: a prompt, one content block of an assistant message, a tool result, or one
of many kinds of bookkeeping. Records are counted, threaded (main conversation and subagents) and
handed to the rebuild. The format is described by oneryalcin/agent-schemas and claude-code-log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codetune.logs.claude_code_rebuild import Event, rebuild
from codetune.logs.claude_code_text import text_of
from codetune.logs.discover import LogFile
from codetune.logs.documents import values_of
from codetune.logs.memory import Memory
from codetune.logs.session import Session

NAME = "claude_code"
# Bookkeeping of the program: counted by type, never part of a conversation.
META_TYPES = frozenset(
    (
        *("agent-color", "agent-name", "agent-setting", "ai-title", "atis-latch", "attachment"),
        *("bridge-session", "custom-title", "file-history-snapshot", "last-prompt", "mode"),
        *("permission-mode", "pr-link", "progress", "queue-operation", "summary", "system"),
        *("tag", "worktree-state"),
    )
)
_SLUG = re.compile(r"[^A-Za-z0-9_-]")


def detect(head: Sequence[Mapping[str, Any]]) -> float:
    """How sure we are that records like these are Claude Code's: 1, 0.5 (bookkeeping only) or 0."""
    head = [line for record in head for line in _lines(dict(record))]
    if any(_is_message(record) for record in head):
        return 1.0
    known = [record for record in head if _text(record, "type") in META_TYPES]
    return 0.5 if any("sessionId" in r or "leafUuid" in r for r in known) else 0.0


def read(file: LogFile, memory: Memory) -> list[Session]:
    """The conversations of one file: the main one, and subagents that were written into it.

    Every record is counted in `memory.records`; a record of a session read before is dropped.
    """
    reading = _File(file, memory)
    for value in values_of(file, memory):
        for line in _lines(value):
            reading.take(line)
    return reading.sessions()


def _lines(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The records in one: sessions of the web are saved as one object that holds all its lines."""
    lines = record.get("loglines")
    if not isinstance(lines, list):
        return [record]
    return [line if isinstance(line, dict) else {} for line in lines]


def _is_message(record: Mapping[str, Any]) -> bool:
    message = record.get("message")
    known = record.get("type") in ("user", "assistant")
    return known and isinstance(message, dict) and "content" in message


@dataclass
class _Thread:
    """One conversation of a file: records in file order."""

    session: str
    agent: str
    events: list[Event] = field(default_factory=list)


@dataclass
class _File:
    """Takes the records of one file in order."""

    file: LogFile
    memory: Memory
    project: str = ""
    version: str = ""
    _session: str = ""
    _threads: dict[tuple[str, str], _Thread] = field(default_factory=dict)
    _by_uuid: dict[str, _Thread] = field(default_factory=dict)
    _parents: dict[str, str | None] = field(default_factory=dict)
    _queued: set[str] = field(default_factory=set)

    def take(self, record: dict[str, Any]) -> None:
        """Counts one record and puts it where it belongs."""
        self._note(record)
        session = _text(record, "sessionId") or self._session or self.file.path.stem
        if not self._session:
            self._session = session
        self.memory.kin.join(self._session, session)
        uuid = _text(record, "uuid")
        if uuid and not self.memory.is_new(uuid, session, self.folder):
            self.memory.records.drop("duplicate")
            return
        thread = self._thread(record, session, uuid)
        event, reason = self._event(record, uuid)
        if event is None:
            self.memory.records.drop(reason)
        else:
            thread.events.append(event)

    def sessions(self) -> list[Session]:
        """The conversations with at least one step."""
        made = []
        for thread in {id(thread): thread for thread in self._threads.values()}.values():
            segments = rebuild(thread.events, self._parents, self.memory)
            first = next((e.uuid or e.timestamp for e in thread.events), "")
            place = self.project or self.folder
            session = Session(NAME, thread.session, thread.agent, place, self.version, first)
            session.segments = segments
            if session.steps():
                made.append(session)
        return made

    @property
    def folder(self) -> str:
        """The project folder the file lies in, also for subagents below a session's folder."""
        name = self.file.name
        for marker in ("/subagents/", "/agents/"):
            name = name.rsplit(marker, 1)[0] if marker in name else name
        return name.rpartition("/")[0]

    def _note(self, record: Mapping[str, Any]) -> None:
        place, version = _text(record, "cwd"), _text(record, "version")
        if place:
            self.memory.places.add(place)
            self.project = self.project or place
        self.version = version or self.version

    def _thread(self, record: Mapping[str, Any], session: str, uuid: str) -> _Thread:
        """The thread of the parent when it is in the file, else that of the session or agent.

        Sessions change their id when resumed, so links count more than ids.
        """
        agent = _text(record, "agentId") if record.get("isSidechain") is True else ""
        side = bool(agent) or record.get("isSidechain") is True
        parent = _text(record, "parentUuid")
        thread = self._by_uuid.get(parent)
        if thread is None or bool(thread.agent) != side:
            name = (agent or f"side-{uuid}") if side else ""
            thread = self._threads.setdefault((session, name), _Thread(session, name))
        if not side:
            self._threads.setdefault((session, ""), thread)
        if uuid:
            self._by_uuid[uuid] = thread
            self._parents[uuid] = parent or None
        return thread

    def _event(self, record: dict[str, Any], uuid: str) -> tuple[Event | None, str]:
        kind = _text(record, "type")
        if _is_message(record):
            return _message_event(record, kind, uuid), ""
        if kind == "system" and record.get("subtype") == "compact_boundary":
            return Event("cut", uuid, timestamp=_text(record, "timestamp")), ""
        typed = self._typed_while_working(record, kind)
        if typed:
            return Event("typed", uuid, text=typed, timestamp=_text(record, "timestamp")), ""
        if kind in META_TYPES:
            subtype = _text(record, "subtype") if kind == "system" else ""
            return None, f"meta:{kind}" + (f"/{_slug(subtype)}" if subtype else "")
        if kind in ("user", "assistant"):
            return None, "no_content"
        return None, f"unknown:{_slug(kind)}" if kind else "no_type"

    def _typed_while_working(self, record: Mapping[str, Any], kind: str) -> str:
        """A prompt typed while the assistant worked; it is written twice, and told once."""
        text = ""
        if kind == "attachment":
            note = record.get("attachment")
            if isinstance(note, dict) and note.get("type") == "queued_command":
                text = text_of(note.get("prompt"))
        elif kind == "queue-operation" and record.get("operation") == "remove":
            text = text_of(record.get("content"))
        if not text or text in self._queued:
            self._queued.discard(text)
            return ""
        self._queued.add(text)
        return text


def _message_event(record: dict[str, Any], kind: str, uuid: str) -> Event:
    message = record["message"]
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    group = _text(message, "id") or _text(record, "requestId") or uuid
    return Event(
        "assistant" if kind == "assistant" else "user",
        uuid,
        parent=_text(record, "parentUuid"),
        timestamp=_text(record, "timestamp"),
        blocks=[b for b in blocks if isinstance(b, dict)] if isinstance(blocks, list) else [],
        group=group,
        model=_text(message, "model"),
        meta=record.get("isMeta") is True,
        summary=record.get("isCompactSummary") is True,
        synthetic=record.get("isApiErrorMessage") is True or message.get("model") == "<synthetic>",
    )


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _slug(name: str) -> str:
    """A type name of a stranger, short and plain enough for a report."""
    return _SLUG.sub("_", name)[:40]
