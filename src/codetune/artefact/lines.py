"""Rows read back, line by line, from plain or packed files."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from codetune.errors import UserError

_CHUNK = 1 << 20


def read_rows(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line without its newline) of a .jsonl, .jsonl.zst or .jsonl.gz file.

    Lines end at `\\n` alone: U+2028 and the like are legal inside a JSON string. Raises UserError
    when the file is missing, or an archive that is damaged or cut off.
    """
    with _open_for_reading(path) as source:
        try:
            for number, line in enumerate(source, 1):
                yield number, line.rstrip(b"\r\n")
        except (EOFError, zlib.error, gzip.BadGzipFile, _BadZstd) as problem:
            raise UserError(f"{path}: cannot be unpacked ({problem}); make it again") from None


@contextmanager
def _open_for_reading(path: Path) -> Iterator[Iterable[bytes]]:
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (IsADirectoryError, PermissionError) as problem:
        raise UserError(f"{path}: cannot be read ({problem.strerror}); check the path") from None
    with raw:
        if path.suffix == ".gz":
            with gzip.open(raw) as stream:
                yield stream
        elif path.suffix == ".zst":
            yield io.BufferedReader(_Zstd(raw), _CHUNK)
        else:
            yield raw


class _BadZstd(Exception):
    """A .zst file that is damaged or ends within a frame."""


class _Zstd(io.RawIOBase):
    """Unpacks a .zst stream; the library's own reader takes one that is cut off for whole."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed, self._frame = packed, None
        self._input, self._ready = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._input = self._input or self._packed.read(_CHUNK // 16)
            if not self._input:
                if self._frame is not None:
                    raise _BadZstd("it is cut off")
                return 0
            self._unpack()
        taken = min(len(buffer), len(self._ready))
        buffer[:taken] = self._ready[:taken]
        self._ready = self._ready[taken:]
        return taken

    def _unpack(self) -> None:
        import zstandard

        frame: Any = self._frame or zstandard.ZstdDecompressor().decompressobj()
        try:
            self._ready = memoryview(frame.decompress(self._input))
        except zstandard.ZstdError as problem:
            raise _BadZstd(str(problem)) from None
        self._frame = None if frame.eof else frame
        self._input = frame.unused_data if frame.eof else b""
