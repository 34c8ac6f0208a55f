"""Keeping one file: telling what happened to it since the last time, and taking what is new.

Order makes it safe against a kill at any moment. Bytes are durable in the archive before the index
says so; before a content is moved aside, the index says where to. What lies between the two is
found again by `repair`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import orjson

from codetune import artefact
from codetune.logs.archive.identity import Forgotten, Identity, identify
from codetune.logs.archive.index import NO_STAMP, Entry, Index, Stamp, Version, version_name
from codetune.logs.archive.places import Found
from codetune.logs.jsonl import LONGEST_LINE

if TYPE_CHECKING:
    from hashlib import _Hash

KEPT = ("new", "grown", "rewritten", "repaired", "unchanged")
_CHUNK = 1 << 20
# A file may change again within the same tick of the file system's clock.
_TICK_NS = 2_000_000_000
# A document is written in one go: one that was touched just now may be half there.
_SETTLED_NS = 60_000_000_000
_BLANKS = b" \t\r\n\x00"


class _ChangedMeanwhileError(Exception):
    """The source became shorter while it was read."""


class Keeper:
    """Keeps files in an archive whose index is `index` and whose lock this process holds."""

    def __init__(self, index: Index, forgotten: Forgotten) -> None:
        self.index, self.forgotten = index, forgotten
        self.added = 0

    def take(self, found: Found) -> tuple[str, str]:
        """Keeps what is new in a file: (outcome, why), where only what is not in KEPT has a why.

        UserError when the archive cannot be written, with nothing half done.
        """
        entry = self.index.entries.get(found.name)
        if entry and entry.stamp == _stamp(found.facts) and found.name not in self.index.damaged:
            return "unchanged", ""
        if _blocked(self.index.archive, found.name):
            return "in_the_way", "a folder and a file of one name"
        try:
            with _opened(found.path) as (file, facts):
                if entry is None and self.forgotten.holds(found.path, found.name):
                    return "forgotten", ""
                if found.name.endswith(".jsonl"):
                    return self._lines(found, entry, file, facts), ""
                return self._document(found, entry, file, facts), ""
        except _ChangedMeanwhileError:
            return "changed_meanwhile", ""
        except FileNotFoundError:
            return "vanished", ""
        except OSError as problem:
            return _REASONS.get(problem.errno or 0, "unreadable"), problem.strerror or ""

    def _lines(
        self, found: Found, entry: Entry | None, file: BinaryIO, facts: os.stat_result
    ) -> str:
        end = _end_of_lines(file, facts.st_size)
        if end == 0:
            return "unfinished" if facts.st_size else "empty"
        digest, outcome = hashlib.sha256(), "new"
        if entry:
            outcome = self._compare(found, entry, (file, end), digest)
            if outcome == "unchanged":
                self.index.keep(replace(entry, stamp=_settled(facts)))
                return outcome
            if outcome != "grown":
                self._set_aside(entry)
                entry, digest = None, hashlib.sha256()
        at = entry.bytes if entry else 0
        artefact.append_chunks(self._path(found.name), at, _chunks(file, at, end, digest))
        self._keep(found, entry, (end, digest.hexdigest()), facts)
        self.added += end - at
        return outcome

    def _compare(
        self, found: Found, entry: Entry, source: tuple[BinaryIO, int], digest: _Hash
    ) -> str:
        """What became of a kept file; `digest` has taken the bytes that are kept already."""
        file, end = source
        if found.name in self.index.damaged:
            return "repaired"
        if end < entry.bytes:
            return "rewritten"
        _hash_range(file, 0, entry.bytes, digest)
        if digest.hexdigest() != entry.sha256:
            return "rewritten"
        return "grown" if end > entry.bytes else "unchanged"

    def _document(
        self, found: Found, entry: Entry | None, file: BinaryIO, facts: os.stat_result
    ) -> str:
        if not facts.st_size:
            return "empty"
        if found.name.endswith(".json") and _recent(facts, _SETTLED_NS) and not _is_json(file):
            return "unfinished"
        digest = hashlib.sha256()
        _hash_range(file, 0, facts.st_size, digest)
        damaged = found.name in self.index.damaged
        if entry and not damaged and digest.hexdigest() == entry.sha256:
            self.index.keep(replace(entry, stamp=_settled(facts)))
            return "unchanged"
        if entry:
            self._set_aside(entry)
        kept = artefact.replace_chunks(
            self._path(found.name), _chunks(file, 0, facts.st_size, hashlib.sha256())
        )
        self._keep(found, None, (facts.st_size, kept), facts)
        self.added += facts.st_size
        return "repaired" if damaged else "rewritten" if entry else "new"

    def _keep(
        self, found: Found, old: Entry | None, content: tuple[int, str], facts: os.stat_result
    ) -> None:
        size, sha256 = content
        if old and old.started and old.cwd:  # what its first records say stays
            self.index.keep(replace(old, bytes=size, sha256=sha256, stamp=_settled(facts)))
            return
        who = identify(self._path(found.name), found.name)
        self.index.keep(described(found.name, size, sha256, who, _settled(facts)))

    def _set_aside(self, entry: Entry) -> None:
        """Moves a content out of the way of its successor."""
        path = self._path(entry.name)
        if not path.exists():
            return  # lost; the successor takes its place
        if entry.name in self.index.damaged:
            entry = replace(entry, bytes=path.stat().st_size, sha256=artefact.sha256_file(path))
        version = version_name(entry.name, entry.sha256)
        self.index.set_aside(Version(version, entry.name, entry.bytes, entry.sha256))
        artefact.move(path, self._path(version))

    def _path(self, name: str) -> Path:
        return self.index.archive / name


def described(name: str, size: int, sha256: str, who: Identity, stamp: Stamp = NO_STAMP) -> Entry:
    """The entry of a file with what it says of itself."""
    return Entry(name, size, sha256, stamp, who.session, who.cwd, who.started)


def expected(found: Found, index: Index) -> str:
    """What `take` would probably do, told without reading the file."""
    entry = index.entries.get(found.name)
    if entry is None:
        return "new" if found.facts.st_size else "empty"
    if entry.stamp == _stamp(found.facts):
        return "unchanged"
    return "grown" if found.facts.st_size > entry.bytes else "rewritten"


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """An open regular file; whatever took its place since it was found is not followed."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "no longer a regular file")
        yield file, facts


def _end_of_lines(file: BinaryIO, size: int) -> int:
    """Where the whole lines of the first `size` bytes end.

    A last line without its newline is whole when it is a JSON object: no part of one is.
    """
    place, tail = size, b""
    while place > 0:
        start = max(0, place - _CHUNK)
        file.seek(start)
        piece = file.read(place - start)
        newline = piece.rfind(b"\n")
        tail = piece[newline + 1 :] + tail
        if newline >= 0:
            break
        place = start
    else:
        newline, start = -1, 0
    return size if _is_object(tail) else start + newline + 1


def _is_object(tail: bytes) -> bool:
    body = tail.strip(_BLANKS)
    if len(body) > LONGEST_LINE or not (body.startswith(b"{") and body.endswith(b"}")):
        return False
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False


def _is_json(file: BinaryIO) -> bool:
    file.seek(0)
    data = file.read(LONGEST_LINE)
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return len(data) == LONGEST_LINE
    return True


def _chunks(file: BinaryIO, start: int, end: int, digest: _Hash) -> Iterator[bytes]:
    """The bytes from `start` to `end`, which also go into `digest`."""
    file.seek(start)
    while start < end:
        chunk = file.read(min(_CHUNK, end - start))
        if not chunk:
            raise _ChangedMeanwhileError
        digest.update(chunk)
        start += len(chunk)
        yield chunk


def _hash_range(file: BinaryIO, start: int, end: int, digest: _Hash) -> None:
    for _ in _chunks(file, start, end, digest):
        pass


def _stamp(facts: os.stat_result) -> Stamp:
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _settled(facts: os.stat_result) -> Stamp:
    """The stamp, or none for a file that was touched so lately that it tells nothing."""
    return NO_STAMP if _recent(facts, _TICK_NS) else _stamp(facts)


def _recent(facts: os.stat_result, nanoseconds: int) -> bool:
    return abs(time.time_ns() - facts.st_mtime_ns) < nanoseconds


def _blocked(archive: Path, name: str) -> bool:
    """Whether a folder stands where the file should be, or a file where its folder should be."""
    path = archive / name
    if path.is_dir() or path.parent.is_dir():
        return path.is_dir()
    return any(one.is_file() for one in path.parents if archive in one.parents)


_REASONS = {errno.ELOOP: "link", errno.ENAMETOOLONG: "name_too_long"}
