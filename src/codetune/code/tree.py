"""What a source tree is, wherever it comes from: a commit of a git repository or a plain folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["file", "symlink", "submodule", "special", "bad_name"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree: POSIX, relative to the tree's root.

    `size` is in bytes, -1 where unknown; `blob` is git's hash of the content, "" where it was not
    computed. Paths that are no UTF-8 have kind `bad_name` and a readable stand-in as path.
    """

    path: str
    kind: Kind
    size: int
    blob: str


class SourceTree(Protocol):
    """A tree that can be listed and read.

    `name` is for people; `identity` stays the same in every clone and is what groups are made of;
    `fingerprint` (SHA-256) changes with any listed path or content.
    """

    name: str
    identity: str
    rev: str | None
    fingerprint: str
    entries: tuple[Entry, ...]

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes | None]]:
        """Each entry with its content, in order; None where the content cannot be had."""
        ...


def fingerprint(entries: Iterable[Entry]) -> str:
    """One SHA-256 over paths, kinds and contents of a listing."""
    import hashlib

    whole = hashlib.sha256()
    for entry in entries:
        whole.update(f"{entry.kind} {entry.size} {entry.blob} {entry.path}\0".encode())
    return whole.hexdigest()
