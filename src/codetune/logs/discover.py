"""Which files to read: from files, folders and patterns to a sorted list."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codetune.artefact import Counts
from codetune.errors import UserError


@dataclass(frozen=True, order=True, slots=True)
class LogFile:
    """A log file: `name` is its path with the name of the folder asked for, the same anywhere."""

    name: str
    path: Path
    explicit: bool = False


def discover(sources: Sequence[str | Path], counts: Counts) -> list[LogFile]:
    """The .jsonl files of files, folders (searched below) and patterns, sorted by name.

    Links, devices and empty files inside folders are dropped into `counts`. Raises UserError for
    a path that does not exist and a folder without log files.
    """
    found: dict[Path, LogFile] = {}
    for source in sources:
        for file in _asked_for(source, counts):
            found.setdefault(file.path.resolve(), file)
    return sorted(found.values())


def _asked_for(source: str | Path, counts: Counts) -> Iterator[LogFile]:
    path = Path(source).expanduser()
    if path.exists():
        yield from _below(path, counts, explicit=True)
        return
    # Path.glob cannot take an absolute pattern.
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
    if not matches:
        raise UserError(f"{source}: no such file or folder; give --src a path that exists")
    for match in matches:
        yield from _below(Path(match), counts, explicit=False)


def _below(path: Path, counts: Counts, *, explicit: bool) -> Iterator[LogFile]:
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path}: is not a regular file; give --src a .jsonl file or a folder")
        yield LogFile(f"{path.resolve().parent.name}/{path.name}", path, explicit)
        return
    candidates = sorted(_walk(path))
    if not candidates:
        raise UserError(f"{path}: no .jsonl file below this folder; give --src a folder with logs")
    for candidate in candidates:
        reason = _unfit(candidate)
        if reason:
            counts.drop(reason)
        else:
            below = candidate.relative_to(path).as_posix()
            yield LogFile(f"{path.resolve().name}/{below}", candidate)


def _walk(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, followlinks=False):
        yield from (Path(place, name) for name in names if name.endswith(".jsonl"))


def _unfit(path: Path) -> str | None:
    """Why a file found in a folder is not read. Links could lead outside the folder."""
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return "link"
    if not stat.S_ISREG(facts.st_mode):
        return "not_a_regular_file"
    return None if facts.st_size else "empty"
