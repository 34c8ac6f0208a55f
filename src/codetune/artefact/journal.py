"""What grows: an append-only file of records that survives a torn write."""

from __future__ import annotations

import errno
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
    """An append-only JSONL file of one writer; a torn tail is cut off at opening.

    `fsync=True` makes each record durable before `append` returns.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path, self._fsync = path, fsync
        private_dir(path.parent)
        _cut_torn_tail(path)
        with user_errors(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends one record; one that the disk took in part is taken back."""
        rest = memoryview(encoded(record, compact=True))
        end = os.fstat(self._handle).st_size
        with user_errors(self.path):
            try:
                while rest:
                    rest = rest[os.write(self._handle, rest) :]
            except OSError:
                os.ftruncate(self._handle, end)
                raise
            if self._fsync:
                os.fsync(self._handle)

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
    a writer that was killed, becomes a damaged line of its own; nothing is cut off.
    """
    with user_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_APPEND)
        try:
            end = os.fstat(handle).st_size
            torn = end > 0 and os.pread(handle, 1, end - 1) != b"\n"
            line = (b"\n" if torn else b"") + encoded(record, compact=True)
            if os.write(handle, line) < len(line):
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


def _cut_torn_tail(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _CHUNK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)
