"""The lowest level of writing: temporary name, hash, sync, rename; the disk's refusals in words."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from codetune.artefact.leftovers import prefix, sweep
from codetune.errors import UserError


def private_dir(path: Path) -> Path:
    """Makes `path` and its parents, readable by the owner alone; returns it."""
    missing = []
    place = path
    while not place.exists():
        missing.append(place)
        place = place.parent
    with user_errors(path):
        for place in reversed(missing):
            place.mkdir(mode=0o700, exist_ok=True)
    return path


def write_atomically(path: Path, fill: Callable[[BinaryIO], None]) -> str:
    """Fills a temporary file beside `path` and renames it; returns the SHA-256 of its bytes."""
    private_dir(path.parent)
    with user_errors(path):
        sweep(path.parent, path.name)
        handle, name = tempfile.mkstemp(prefix=prefix(path, "tmp"), dir=path.parent)
        temporary = Path(name)
        try:
            with _HashingWriter(os.fdopen(handle, "wb")) as out:
                fill(out)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync(path.parent)
    return out.hexdigest


class _HashingWriter(io.RawIOBase, BinaryIO):
    """Writes through to a file and hashes what it writes; fsyncs when closed without error."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, hashlib.sha256()
        self.hexdigest = ""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        self.hexdigest = self._hash.hexdigest()


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Turns the disk's own refusals into one line for the user."""
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"{path}: the disk is full; free some space and run again") from None
        if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{path}: not writable; check the folder's permissions") from None
        if problem.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
            raise UserError(f"{path}: something is in the way; choose another path") from None
        raise


def encoded(record: Mapping[str, Any], *, compact: bool = False) -> bytes:
    """`record` as UTF-8 JSON with a newline: one line when compact, else indented."""
    separators = (",", ":") if compact else None
    indent = None if compact else 1
    text = json.dumps(record, ensure_ascii=False, separators=separators, indent=indent)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def write_all(out: BinaryIO, data: bytes) -> None:
    """Writes `data`; a filler for `write_atomically`."""
    out.write(data)


def fsync(path: Path) -> None:
    """Makes a file's content, or a folder's entries, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
