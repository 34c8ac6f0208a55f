"""Reads row files one line at a time into a scratch file, keeping only hashes in memory.

What stays in memory of a row is one fixed-size record, whatever the row's length; the text goes
to the scratch file and is read back once, when the split is known.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson

from codetune import artefact, generic, sample
from codetune.artefact import Counts
from codetune.errors import UserError

# One row: hashes of content, group and written bytes; the group's draw; where the text lies in
# the scratch file; where the row came from; its task and source as positions in `names`.
RECORD = np.dtype(
    [
        ("content", "S16"),
        ("group", "S16"),
        ("line_hash", "S16"),
        ("draw", "<f8"),
        ("offset", "<u8"),
        ("length", "<u4"),
        ("file", "<u4"),
        ("line", "<u4"),
        ("kind", "<u4"),
    ]
)
_PACKED = struct.Struct("<16s16s16sdQIIII")
Records = npt.NDArray[np.void]


@dataclass(frozen=True)
class Reject:
    """A dropped row: where it stood, why it was dropped, and its bytes."""

    file: str
    line: int
    reason: str
    row: bytes

    def encode(self) -> bytes:
        """As one JSON object; undecodable bytes become U+FFFD."""
        text = self.row.decode("utf-8", "replace")
        fields = {"file": self.file, "line": self.line, "reason": self.reason, "row": text}
        return orjson.dumps(fields)


@dataclass
class Intake:
    """Everything read so far: `counts` account for every line that was not blank.

    `on_reject` is told of each dropped row; `kinds` are the (task, source) pairs met, which
    `kind` of a record points into; `files` are the names that `file` points into.
    """

    scratch: BinaryIO
    seed: int = 42
    on_reject: Callable[[Reject], None] | None = None
    counts: Counts = field(default_factory=Counts)
    files: list[str] = field(default_factory=list)
    kinds: dict[tuple[str, str], int] = field(default_factory=dict)
    _packed: bytearray = field(default_factory=bytearray)
    _end: int = 0

    def take_file(self, path: Path) -> int:
        """Reads a row file; returns the number of valid rows.

        Raises UserError when it is damaged, or holds lines but not one valid row.
        """
        self.files.append(str(path))
        before, first = self.counts.in_, ""
        valid = 0
        for number, line in artefact.read_rows(path):
            if not line.strip():
                continue
            reason = self._take(number, line)
            valid += reason is None
            if reason and not first:
                first = f"line {number}: {reason}"
        if not valid and self.counts.in_ > before:
            lost = self.counts.in_ - before
            raise UserError(
                f"{path}: not one valid row in {lost} lines ({first}); leave it out or fix it"
            )
        return valid

    def records(self) -> Records:
        """The records of all valid rows, in reading order; call when all files are taken."""
        return np.frombuffer(self._packed, dtype=RECORD)

    def text(self, record: np.void) -> bytes:
        """The row's line, read back from the scratch file."""
        self.scratch.seek(int(record["offset"]))
        return self.scratch.read(int(record["length"]))

    def texts(self, records: Records) -> Iterator[bytes]:
        """The lines of `records`, in their order."""
        return (self.text(record) for record in records)

    def reject(self, record: np.void, reason: str) -> None:
        """Moves a row that was valid from kept to dropped."""
        self.counts.kept -= 1
        self.counts.drop(reason)
        if self.on_reject is not None:
            name, number = self.files[int(record["file"])], int(record["line"])
            self.on_reject(Reject(name, number, reason, self.text(record)))

    def _take(self, number: int, line: bytes) -> str | None:
        """Stores one row; or counts why it cannot be one, and returns the reason."""
        try:
            row, text = valid_row(line)
        except sample.BadRow as bad:
            self.counts.drop(bad.reason)
            if self.on_reject is not None:
                self.on_reject(Reject(self.files[-1], number, bad.reason, line))
            return bad.reason
        self._packed += self._record(row, text, number)
        self.scratch.write(text)
        self._end += len(text)
        self.counts.keep()
        return None

    def _record(self, row: dict[str, Any], text: bytes, number: int) -> bytes:
        group = group_of(row)
        kind = (row["task"], str(row["meta"].get("source", "")))
        return _PACKED.pack(
            bytes.fromhex(sample.content_sha256(row))[:16],
            bytes.fromhex(group_hash(group)),
            hashlib.sha256(text).digest()[:16],
            sample.draw(group, f"split:{self.seed}"),
            self._end,
            len(text),
            len(self.files) - 1,
            number,
            self.kinds.setdefault(kind, len(self.kinds)),
        )


def valid_row(line: bytes) -> tuple[dict[str, Any], bytes]:
    """The row of one line, in our shape, and its canonical bytes; BadRow says why it is none."""
    row = generic.read_row(line)
    return row, sample.dump(row)


def group_of(row: dict[str, Any]) -> str:
    """What the split may not cut: `meta.group`, or the row's own id where it has none."""
    group = row["meta"].get("group")
    return group if isinstance(group, str) and group else str(row["id"])


def group_hash(group: str) -> str:
    """32 hex digits that stand for a group in a certificate, which names no session or file."""
    return sample.digest("group", group, n=32)
