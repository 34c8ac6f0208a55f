"""Which files to read: from files, folders, patterns and zip archives to a sorted list."""

from __future__ import annotations

import glob
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codetune.artefact import Counts
from codetune.errors import UserError
from codetune.logs.archive.identity import Forgotten, forgotten
from codetune.logs.archive.index import Index, is_archive

# Where archive-logs keeps sessions, and which of them were to be forgotten.
ARCHIVE = Path("data/archive")

_SUFFIXES = (".jsonl", ".json", ".zip")
# Deflate reaches 1:1000, text of conversations 1:30: what claims more is there to fill a machine.
_DENSEST = 200
_LARGEST_ARCHIVE = 8 << 30
_MOST_MEMBERS = 100_000
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, order=True, slots=True)
class LogFile:
    """A log file: `name` is its path with the name of the folder asked for, the same anywhere.

    With `member` it is that part of the zip archive at `path`.
    """

    name: str
    path: Path
    explicit: bool = False
    member: str = ""


def discover(
    sources: Sequence[str | Path], counts: Counts, archive: Path = ARCHIVE
) -> list[LogFile]:
    """The log files of files, folders (searched below), patterns and zip archives, sorted by name.

    An archive of archive-logs stands for what it is a copy of: its files have the names of the
    originals, and one that is found at its source as well is read there. Links, devices and empty
    files inside folders are dropped into `counts`, and so is what was forgotten in `archive` or in
    a source. Raises UserError for a path that does not exist and a folder without log files.
    """
    found: dict[Path, LogFile] = {}
    copies: dict[Path, LogFile] = {}
    left_out = forgotten(archive)
    for source in sources:
        if is_archive(kept := Path(source).expanduser()):
            left_out = left_out.joined(forgotten(kept))
            for origin, file in _archived(kept, counts):
                copies.setdefault(origin, file)
        else:
            for file in _asked_for(source, counts):
                found.setdefault(file.path.resolve(), file)
    # Files of one name, from two folders, come in the order of these, also when they are copies.
    whole = {**copies, **found}.items()
    wanted = [(place, file) for place, file in whole if _wanted(file, left_out, counts)]
    parts = [(part, place) for place, file in wanted for part in _parts(file, counts)]
    return [part for part, _ in sorted(parts, key=lambda p: (p[0].name, p[1], p[0].member))]


def _archived(archive: Path, counts: Counts) -> Iterator[tuple[Path, LogFile]]:
    """The files of an archive, each with the path that it is a copy of."""
    index = Index(archive)
    if not index.entries:
        raise UserError(f"{archive}: is an empty archive; run archive-logs first")
    for place in sorted({"/".join(name.split("/")[:2]) for name in index.entries}):
        folder = archive / place
        if any(_walk(folder)):
            for file in _below(folder, counts, explicit=False):
                name = file.path.relative_to(archive).as_posix()
                yield index.origin(name) or file.path.resolve(), file


def _wanted(file: LogFile, left_out: Forgotten, counts: Counts) -> bool:
    if left_out.holds(file.path, file.name):
        counts.drop("forgotten")
        return False
    return True


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
            raise UserError(f"{path}: is not a regular file; give --src a log file or a folder")
        yield LogFile(f"{path.resolve().parent.name}/{path.name}", path, explicit)
        return
    candidates = sorted(_walk(path))
    if not candidates:
        raise UserError(
            f"{path}: no .jsonl, .json or .zip file below it; give --src a folder with logs"
        )
    for candidate in candidates:
        reason = _unfit(candidate)
        if reason:
            counts.drop(reason)
        else:
            below = candidate.relative_to(path).as_posix()
            yield LogFile(f"{path.resolve().name}/{below}", candidate)


def _walk(folder: Path) -> Iterator[Path]:
    for place, inner, names in os.walk(folder, followlinks=False):
        # Outputs of tools that Claude Code spilled: whatever they look like, nobody said them.
        inner[:] = [name for name in inner if name != "tool-results"]
        yield from (Path(place, name) for name in names if name.endswith(_SUFFIXES))


def _unfit(path: Path) -> str | None:
    """Why a file found in a folder is not read. Links could lead outside the folder."""
    facts = path.lstat()
    if stat.S_ISLNK(facts.st_mode):
        return "link"
    if not stat.S_ISREG(facts.st_mode):
        return "not_a_regular_file"
    return None if facts.st_size else "empty"


def _parts(file: LogFile, counts: Counts) -> Iterator[LogFile]:
    """The file itself, or the log files that a zip archive holds."""
    if file.path.suffix != ".zip":
        yield file
        return
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, RuntimeError, ValueError):
        if file.explicit:
            raise UserError(
                f"{file.path}: is no readable zip archive; unpack it or give another"
            ) from None
        counts.drop("damaged_archive")
        return
    # Larger in sum than any export: refused as a whole, whatever its members claim one by one.
    if len(members) > _MOST_MEMBERS or sum(m.file_size for m in members) > _LARGEST_ARCHIVE:
        counts.drop("archive_too_large")
        return
    # The last of several members of one name is the one that is opened by it.
    for member in {member.filename: member for member in members}.values():
        if member.is_dir() or not member.filename.endswith(_SUFFIXES[:2]):
            continue
        reason = _unfit_member(member)
        if reason:
            counts.drop(reason)
        else:
            label = "".join(c if c.isprintable() else "_" for c in member.filename)
            yield LogFile(f"{file.name}/{label}", file.path, False, member.filename)


def _unfit_member(member: zipfile.ZipInfo) -> str | None:
    """Why a member is not read. Names are only labels: nothing is written under them."""
    if member.flag_bits & 0x1:
        return "encrypted"
    if member.compress_type not in _READABLE:
        return "unknown_compression"
    if not member.file_size:
        return "empty"
    return "zip_bomb" if member.file_size > _DENSEST * (member.compress_size + 1024) else None
