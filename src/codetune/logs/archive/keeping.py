"""A whole run over all sources, and what it tells."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from codetune.artefact import Counts
from codetune.errors import UserError
from codetune.logs.archive.copying import KEPT, Keeper, expected
from codetune.logs.archive.identity import FORGOTTEN, Forgotten
from codetune.logs.archive.index import INDEX, LOCK, Index
from codetune.logs.archive.places import Found, Left, Source, scan, sources

Listed = list[tuple[Source, list[Found | Left]]]


@dataclass
class Tally:
    """What a run found below one root; `bytes` lie there, `added` came into the archive."""

    source: Source
    outcomes: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    added: int = 0


@dataclass
class Kept:
    """What a run did: one tally a root, the account of files, and what needs a look.

    `gone` are kept files (and their bytes) that are no longer at their source.
    """

    tallies: list[Tally] = field(default_factory=list)
    files: Counts = field(default_factory=Counts)
    problems: list[Left] = field(default_factory=list)
    gone: int = 0
    gone_bytes: int = 0

    @property
    def added(self) -> int:
        """Bytes that came into the archive."""
        return sum(tally.added for tally in self.tallies)

    def total(self, *outcomes: str) -> int:
        """How many files had one of these outcomes."""
        return sum(tally.outcomes[one] for tally in self.tallies for one in outcomes)


def checked(archive: Path) -> Path:
    """`archive`, open to its owner alone if it is there. UserError for a folder of other files."""
    if archive.is_dir():
        names = {one.name for one in archive.iterdir()}
        if names and not names & {INDEX, LOCK, FORGOTTEN}:
            raise UserError(f"{archive}: holds other files; give --out a new or empty folder")
        if stat.S_IMODE(archive.stat().st_mode) & 0o077:
            archive.chmod(0o700)
    elif archive.exists():
        raise UserError(f"{archive}: is no folder; give --out a new or empty folder")
    return archive


def listed(asked: Iterable[str | Path], usual: list[Path], index: Index) -> Listed:
    """All files of what is asked for, else of the usual places. UserError when there are none."""
    chosen = sources(asked, usual, index, index.archive)
    if not chosen:
        raise UserError("no sessions of Claude Code, Codex or Gemini here; give --src a folder")
    known = {*index.roots.values(), *(one.root for one in chosen)}
    return [(one, list(scan(one, known, index.archive))) for one in chosen]


def keep_all(
    listed: Listed,
    index: Index,
    forgotten: Forgotten,
    on_file: Callable[[], None],
    *,
    only_look: bool = False,
) -> Kept:
    """Keeps what is new in all listed files; with `only_look` nothing is read or written."""
    keeper, done = Keeper(index, forgotten), Kept()
    for source, files in listed:
        tally = Tally(source)
        done.tallies.append(tally)
        if not only_look:
            index.add_root(source.place, source.root)
        for one in files:
            on_file()
            if isinstance(one, Left):
                outcome, why = one.reason, one.why
            else:
                tally.bytes += one.facts.st_size
                before = keeper.added
                outcome, why = (expected(one, index), "") if only_look else keeper.take(one)
                tally.added += keeper.added - before
            _count(done, tally, outcome, Left(one.path, outcome, why))
        _count_gone(done, source, files, index)
    return done


def _count(done: Kept, tally: Tally, outcome: str, one: Left) -> None:
    tally.outcomes[outcome] += 1
    if outcome in KEPT:
        done.files.keep()
    else:
        done.files.drop(outcome)
    if outcome in ("unreadable", "name_too_long", "in_the_way"):
        done.problems.append(one)


def _count_gone(done: Kept, source: Source, files: list[Found | Left], index: Index) -> None:
    if source.root not in source.starts:
        return
    there = {one.name for one in files if isinstance(one, Found)}
    for name, entry in index.entries.items():
        if name.startswith(f"{source.place}/") and name not in there:
            done.gone += 1
            done.gone_bytes += entry.bytes
