"""Whose session a file belongs to, and which sessions must never come back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from codetune import artefact
from codetune.errors import UserError
from codetune.logs.jsonl import read_records

FORGOTTEN = "archive.forgotten"
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HASH = re.compile(r"[0-9a-f]{64}")
# Bookkeeping comes first in a file; so many records reach the first of the conversation.
_HEAD_RECORDS = 20
_HEAD_BYTES = 64 << 10
_DOCUMENT_ID = re.compile(rb'"sessionId"\s*:\s*"([^"\\]{1,200})"')
_DOCUMENT_START = re.compile(rb'"(?:startTime|timestamp)"\s*:\s*"([^"\\]{1,40})"')
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
# Copies of a session begin with its first records: the ids of so many tell one.
_MOST_IDS = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file says of itself: its session, its project, and the ids of its first records.

    `folders` are the folders it lies in, from the one asked for down; `started` is a timestamp.
    """

    session: str
    folders: tuple[str, ...] = ()
    cwd: str = ""
    started: str = ""
    ids: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        """The ids that a copy of this file, also under another name, has as well."""
        return (self.session, *self.ids)


def identify(path: Path, name: str) -> Identity:
    """Reads the first records of the file at `path`, which is called `name` below its source.

    A session is known by what its records say, else by the UUID in its path, else by its name.
    OSError when it cannot be read.
    """
    pure = PurePosixPath(name)
    named = UUID.findall(name)
    session = named[0] if named else pure.name.removesuffix(".jsonl")
    folders = pure.parts[:-1]
    if not name.endswith(".jsonl"):
        with path.open("rb") as source:
            head = source.read(_HEAD_BYTES)
        found, started = _DOCUMENT_ID.search(head), _DOCUMENT_START.search(head)
        said = found[1].decode("utf-8", "replace") if found else session
        return Identity(said, folders, "", _day(started[1].decode() if started else ""))
    read = _Head()
    for record in islice(read_records(path), _HEAD_RECORDS):
        if record.value is not None:
            read.take(record.value)
        if read.knows_enough():
            break
    return Identity(read.session or session, folders, read.cwd, read.started, tuple(read.ids))


class _Head:
    """Collects what the first records of a file say."""

    def __init__(self) -> None:
        self.session = self.cwd = self.started = ""
        self.ids: list[str] = []

    def knows_enough(self) -> bool:
        return bool(self.session and self.cwd and self.started and len(self.ids) >= _MOST_IDS)

    def take(self, record: dict[str, Any]) -> None:
        payload = record.get("payload")
        inner = payload if isinstance(payload, dict) else {}
        about = inner if record.get("type") == "session_meta" else {}
        self.session = self.session or _text(record, "sessionId") or _text(about, "id")
        self.cwd = self.cwd or _text(record, "cwd") or _text(inner, "cwd")
        self.started = self.started or _day(_text(record, "timestamp"))
        uuid = _text(record, "uuid")
        if UUID.fullmatch(uuid) and len(self.ids) < _MOST_IDS:
            self.ids.append(uuid)


@dataclass(frozen=True)
class Forgotten:
    """Hashes of sessions and projects to leave out wherever they turn up."""

    hashes: frozenset[str] = frozenset()

    def covers(self, who: Identity) -> bool:
        """True when this session, a session it is a copy of, or its project was forgotten."""
        if not self.hashes:
            return False
        return not self.hashes.isdisjoint(_hashes(who))

    def holds(self, path: Path, name: str) -> bool:
        """As `covers`, for a file; one that cannot be read is judged by its path alone."""
        if not self.hashes:
            return False
        by_path = Identity("", PurePosixPath(name).parts[:-1], ids=tuple(UUID.findall(name)))
        if self.covers(by_path):
            return True
        try:
            return self.covers(identify(path, name))
        except OSError:
            return False

    def joined(self, other: Forgotten) -> Forgotten:
        """What either of two lists leaves out."""
        return Forgotten(self.hashes | other.hashes)


def forgotten(archive: Path) -> Forgotten:
    """What was forgotten in `archive`: nothing when there is no such archive.

    UserError for a damaged list, since what it left out would come back.
    """
    path = archive / FORGOTTEN
    if not path.is_file():
        return Forgotten()
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    if not all(map(_HASH.fullmatch, lines)):
        raise UserError(f"{path}: is damaged; put back a copy of it, or forget the sessions again")
    return Forgotten(frozenset(lines))


def remember(archive: Path, sessions: Iterable[str], projects: Iterable[str]) -> Forgotten:
    """Adds the hashes of ids and of projects (names of folders, or paths) to the list."""
    added = {_hash("session", one) for one in sessions} | {
        _hash("project", one) for one in projects
    }
    whole = forgotten(archive).hashes | added
    artefact.write_file(archive / FORGOTTEN, "".join(f"{h}\n" for h in sorted(whole)).encode())
    return Forgotten(whole)


def _hashes(who: Identity) -> Iterable[str]:
    yield from (_hash("session", one) for one in (who.session, *who.ids) if one)
    yield from (_hash("project", one) for one in who.folders)
    if who.cwd:
        place = PurePosixPath(who.cwd)
        yield from (_hash("project", str(one)) for one in (place, *place.parents))


def _hash(kind: str, text: str) -> str:
    said = f"codetune forgotten {kind}\0{text}"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _day(text: str) -> str:
    """`text` when it begins with a date."""
    return text[:30] if _DAY.match(text) else ""
