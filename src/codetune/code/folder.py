"""Reads a folder that is no git repository: a plain walk that never leaves the folder.

A `.gitignore` is not interpreted here; make the folder a repository and commit to have it obeyed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from codetune.code.selection import SUFFIXES
from codetune.code.tree import Entry, Kind, fingerprint
from codetune.sample import digest

_VERSION_CONTROL = (".git", ".hg", ".svn")


class FolderTree:
    """The files below a folder. Its identity is its name: a plain folder has no root commit."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.name = place.name or "root"
        self.rev: str | None = None
        self.identity = digest("folder", self.name)
        self.entries = tuple(sorted(self._walk(), key=lambda entry: entry.path))
        self.fingerprint = fingerprint(self.entries)

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes | None]]:
        """Each entry with its bytes; None when it vanished or is no longer what was listed."""
        for entry in entries:
            data = _content(self._place / entry.path)
            yield entry, data if data is not None and _blob(data) == entry.blob else None

    def _walk(self) -> Iterator[Entry]:
        for folder, folders, files in os.walk(self._place):  # does not follow symbolic links
            folders[:] = [name for name in folders if name not in _VERSION_CONTROL]
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            for name in [*files, *links]:
                yield self._entry(Path(folder) / name)

    def _entry(self, path: Path) -> Entry:
        relative = path.relative_to(self._place).as_posix()
        state = path.lstat()
        try:
            relative.encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(relative).decode("utf-8", "backslashreplace")
            return Entry(shown, "bad_name", state.st_size, "")
        kind = _kind(state.st_mode)
        # git's own hash, so that a file has one name wherever it was read; only code is hashed
        data = _content(path) if kind == "file" and path.name.endswith(SUFFIXES) else None
        return Entry(relative, kind, state.st_size, "" if data is None else _blob(data))


def _kind(mode: int) -> Kind:
    if stat.S_ISLNK(mode):
        return "symlink"
    return "file" if stat.S_ISREG(mode) else "special"


def _content(path: Path) -> bytes | None:
    """The bytes of a regular file; None for anything else, and nothing is ever followed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(handle).st_mode) else None


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
