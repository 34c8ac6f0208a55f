"""Bringing index and files together again after a kill, a lost index or a damaged disk."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from codetune import artefact
from codetune.logs.archive.copying import described
from codetune.logs.archive.identity import UUID, Forgotten, Identity, identify
from codetune.logs.archive.index import Entry, Index, Version, superseded

_CHUNK = 1 << 20
_SLOT = re.compile(r"[A-Za-z0-9_-]+-[0-9a-f]{8}")


@dataclass
class Repaired:
    """How many files were found without their record, and which differ from theirs."""

    adopted: int = 0
    damaged: list[str] = field(default_factory=list)


def files_of(archive: Path) -> dict[str, int]:
    """Name and size of every file that an archive keeps; what dead writers left is removed."""
    found: dict[str, int] = {}
    for slot in sorted(archive.iterdir()):
        if _SLOT.fullmatch(slot.name) and slot.is_dir() and not slot.is_symlink():
            found.update(_sizes(archive, slot))
    return found


def repair(index: Index, forgotten: Forgotten) -> Repaired:
    """Finishes what a killed run began, and notes what differs from the index in size.

    Bytes that are in the archive stay, whether a record tells of them or not, but for those of
    sessions that were to be forgotten.
    """
    done = Repaired()
    _finish_moves(index)
    sizes = files_of(index.archive)
    for name, entry in list(index.entries.items()):
        size = sizes.pop(name, None)
        if size == entry.bytes or name in index.damaged:
            continue
        if size is not None and size > entry.bytes and _begins_with(index.archive / name, entry):
            _adopt(index, name)
            done.adopted += 1
        else:
            index.mark_damaged(name)
    for name in sorted(set(sizes) - set(index.versions)):
        _adopt(index, name)
        done.adopted += 1
    _bring_back(index)
    finish_forgetting(index, forgotten)
    done.damaged = sorted(index.damaged)
    return done


def verify(index: Index) -> tuple[int, list[tuple[str, str]]]:
    """Reads every file again: (how many are right, [(name, what is wrong)])."""
    sizes, right, wrong = files_of(index.archive), 0, []
    contents = [(e.name, e.bytes, e.sha256) for e in index.entries.values()]
    contents += [(v.name, v.bytes, v.sha256) for v in index.versions.values()]
    for name, size, sha256 in sorted(contents):
        present = sizes.pop(name, None)
        if present is None:
            wrong.append((name, "missing"))
        elif present != size or artefact.sha256_file(index.archive / name) != sha256:
            wrong.append((name, "differs"))
        else:
            right += 1
    return right, wrong + [(name, "unrecorded") for name in sorted(sizes)]


def remove(index: Index, names: set[str]) -> int:
    """Removes kept files with their earlier versions, and every trace in the index; bytes freed."""
    freed = 0
    for name in sorted(names | {v.name for v in index.versions.values() if v.of in names}):
        path = index.archive / name
        if path.is_file():
            freed += path.stat().st_size
            path.unlink()
            _remove_empty(path.parent, index.archive)
        index.entries.pop(name, None)
        index.versions.pop(name, None)
        index.damaged.discard(name)
    index.rewrite()
    return freed


def finish_forgetting(index: Index, forgotten: Forgotten) -> int:
    """Removes what was forgotten but is still there: how many files."""
    if not forgotten.hashes:
        return 0
    still = {name for name, entry in index.entries.items() if forgotten.covers(owner(entry))}
    if still:
        remove(index, still)
    return len(still)


def owner(entry: Entry) -> Identity:
    """Whose the file of an entry is, as far as the index tells."""
    folders = PurePosixPath(entry.name).parts[:-1]
    ids = tuple(UUID.findall(entry.name))
    return Identity(entry.session, folders, entry.cwd, entry.started, ids)


def _finish_moves(index: Index) -> None:
    """Moves aside what the index says was to be moved."""
    for version in index.versions.values():
        path, target = index.archive / version.of, index.archive / version.name
        if target.exists() or version.of in index.entries or not path.is_file():
            continue
        if path.stat().st_size == version.bytes and artefact.sha256_file(path) == version.sha256:
            artefact.move(path, target)


def _bring_back(index: Index) -> None:
    """Puts an earlier content in place again where no later one has come, whatever the reason."""
    last = {version.of: version for version in index.versions.values()}
    for of, version in last.items():
        target, path = index.archive / of, index.archive / version.name
        if of not in index.entries and not target.exists() and path.is_file():
            index.bring_back(version)
            artefact.move(path, target)


def _adopt(index: Index, name: str) -> None:
    """Notes a file that is there without its record."""
    path, first = index.archive / name, superseded(name)
    size, sha256 = path.stat().st_size, artefact.sha256_file(path)
    if first is None:
        index.keep(described(name, size, sha256, identify(path, name)))
        return
    # Its successor has a record or is adopted too: a version alone must not hide it.
    current = index.entries.get(first)
    index.set_aside(Version(name, first, size, sha256))
    if current:
        index.keep(current)


def _begins_with(path: Path, entry: Entry) -> bool:
    digest, left = hashlib.sha256(), entry.bytes
    with path.open("rb") as file:
        while left and (chunk := file.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest() == entry.sha256


def _sizes(archive: Path, slot: Path) -> Iterator[tuple[str, int]]:
    for place, _, names in os.walk(slot, followlinks=False):
        folder = Path(place)
        if any(name.startswith(".") and ".tmp-" in name for name in names):
            gone = {path.name for path in artefact.sweep(folder)}
            names = [name for name in names if name not in gone]
        below = folder.relative_to(archive).as_posix()
        for name in names:
            path = folder / name
            if folder != slot and not path.is_symlink() and path.is_file():
                yield f"{below}/{name}", path.stat().st_size


def _remove_empty(folder: Path, archive: Path) -> None:
    while folder != archive and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
