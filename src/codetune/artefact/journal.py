"""What grows: an append-only file of records that survives a torn write."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from codetune.artefact.account import Origin, sha256_file
from codetune.artefact.disk import encoded, private_dir, user_errors
from codetune.artefact.files import write_manifest
from codetune.artefact.lines import read_rows

_CHUNK = 1 << 20


class Journal:
    """An append-only JSONL file of one writer, beside whom others may `append_record`; a torn
    tail is cut off at opening.

    `fsync=True` makes each record durable before `append` returns.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path, self._fsync = path, fsync
        private_dir(path.parent)
        with user_errors(path):
            self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            self._end = _cut_torn_tail(self._handle)  # of our last record

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends one record; one that the disk took in part is taken back."""
        line = encoded(record, compact=True)
        with user_errors(self.path):
            while not self._lands(line):
                pass  # what it made longer was torn before and is a damaged line now
            if self._fsync:
                os.fsync(self._handle)

    def _lands(self, line: bytes) -> bool:
        """Writes a line; False when it landed behind a torn one of another writer.

        Looked at afterwards, because before it the other may still come between.
        """
        written = os.write(self._handle, line)
        before, self._end = self._end, os.lseek(self._handle, 0, os.SEEK_CUR)
        start = self._end - written
        if written < len(line):
            _cut(self._handle, start, self._end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return start == before or _is_line_start(self._handle, start)

    def sync(self) -> None:
        """Makes durable what was appended so far."""
        with user_errors(self.path):
            os.fsync(self._handle)

    def close(self) -> None:
        """Makes everything durable and closes the file."""
        if self._handle >= 0:
            os.fsync(self._handle)
            os.close(self._handle)
            self._handle = -1

    def seal(self, origin: Origin) -> Path:
        """Closes the journal and turns it into the next numbered, verified shard; returns it."""
        self.close()
        stem, number = self.path.name.removesuffix(".jsonl"), 1
        while (shard := self.path.with_name(f"{stem}.{number:05d}.jsonl")).exists():
            number += 1
        self.path.rename(shard)
        rows = sum(1 for _ in read_rows(shard))
        write_manifest(shard, origin, None, {"sha256": sha256_file(shard), "rows": rows})
        return shard


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Appends one record to a journal that may have another writer at this moment.

    One write at the end of the file cannot fall into another's. A tail without its newline, from
    a writer that was killed or a disk that is full, becomes a damaged line of its own; nothing is
    cut off, since the other writer may have gone on behind it.
    """
    line = encoded(record, compact=True)
    with user_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_APPEND)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)  # until it is closed: keeps `_cut` away
            if not _is_line_start(handle, os.fstat(handle).st_size):
                line = b"\n" + line
            if os.write(handle, line) < len(line):
                with suppress(OSError):
                    os.write(handle, b"\n")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)


class TextLog:
    """An append-only text file of dated lines, each with a level: what was said during a run.

    It is for people: a line that the disk does not take is let go, and the work goes on.
    """

    def __init__(self, path: Path) -> None:
        private_dir(path.parent)
        with user_errors(path):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._handle = os.open(path, flags, 0o600)

    def fileno(self) -> int:
        """The descriptor, for writers of last words such as faulthandler."""
        return self._handle

    def write(self, level: str, text: str) -> None:
        """Appends each line of `text`: `2026-05-01 12:00:00 warning text`."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        lines = "".join(f"{now} {level:<7} {line}".rstrip() + "\n" for line in text.split("\n"))
        with suppress(OSError):
            os.write(self._handle, lines.encode("utf-8", "replace"))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._handle)


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal; a torn last line is left out."""
    with path.open("rb") as source:
        for line in source:
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)


def _is_line_start(handle: int, place: int) -> bool:
    return place == 0 or os.pread(handle, 1, place - 1) == b"\n"


def _cut_torn_tail(handle: int) -> int:
    """Returns where the file ends."""
    size = end = os.fstat(handle).st_size
    while end > 0:
        start = max(0, end - _CHUNK)
        newline = os.pread(handle, end - start, start).rfind(b"\n")
        end = start + newline + 1
        if newline >= 0:
            break
    _cut(handle, end, size)
    return os.fstat(handle).st_size


def _cut(handle: int, start: int, end: int) -> None:
    """Cuts off what lies from `start` to the end of the file, as long as that is `end`: behind it
    may stand a record of another writer. Then it stays, as a damaged line.
    """
    if start == end:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except OSError:
        pass  # a file system without locks
    if os.fstat(handle).st_size == end:
        os.ftruncate(handle, start)
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)
