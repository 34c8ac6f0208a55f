"""Files that only ever grow, byte by byte: copies of what other programs are still writing."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from codetune.artefact.disk import fsync, private_dir, user_errors, write_atomically
from codetune.errors import UserError

_POLL = 0.1


def append_chunks(path: Path, at: int, chunks: Iterable[bytes]) -> None:
    """Appends to a private file that has `at` bytes (0: it may be missing); durable on return.

    Each chunk is read back. Whatever stops it (a full disk, an error of `chunks`) takes all of it
    back. UserError when the file has another size, or gives back other bytes than it was given.
    """
    private_dir(path.parent)
    with user_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(handle).st_size != at:
                raise UserError(f"{path}: was changed by another program; run again")
            with _all_or_nothing(handle, at, path):
                _append(handle, at, chunks, path)
        finally:
            os.close(handle)


@contextmanager
def _all_or_nothing(handle: int, at: int, path: Path) -> Iterator[None]:
    """Takes back what was appended when it did not come to its end, whatever the reason."""
    complete = False
    try:
        yield
        complete = True
    finally:
        if not complete:
            os.ftruncate(handle, at)
            if at == 0:
                path.unlink()


def _append(handle: int, at: int, chunks: Iterable[bytes], path: Path) -> None:
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.pwrite(handle, rest, at + len(chunk) - len(rest)) :]
        if os.pread(handle, len(chunk), at) != chunk:
            raise UserError(f"{path}: the disk gives back other bytes than it took; check it")
        at += len(chunk)
    # With the content of a new file the file systems of Linux also make its name durable.
    os.fsync(handle)


def replace_chunks(path: Path, chunks: Iterable[bytes]) -> str:
    """Puts a whole private file in place, piece by piece and atomically; returns its SHA-256."""

    def fill(out: BinaryIO) -> None:
        for chunk in chunks:
            out.write(chunk)

    return write_atomically(path, fill)


def move(path: Path, target: Path) -> None:
    """Renames a file within its folder, durably."""
    with user_errors(target):
        path.replace(target)
        fsync(target.parent)


@contextmanager
def locked(path: Path, seconds: float, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file `path`, which ends with the process, however that ends.

    Waits for up to `seconds` after calling `on_wait`; then UserError.
    """
    private_dir(path.parent)
    with user_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + seconds
        if not _lock(handle):
            on_wait()
            while not _lock(handle):
                if time.monotonic() >= deadline:
                    raise UserError(f"{path.parent}: another process is at work in it; try later")
                time.sleep(_POLL)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
