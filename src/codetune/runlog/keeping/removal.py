"""Runs removed from the run log: first out of sight by one rename, then for good.

Who is killed in between has lost nothing that was not to be removed; `complete` ends it next time.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import artefact
from codetune.errors import RefusedError
from codetune.machine.storage import size_on_disk
from codetune.runlog import events
from codetune.runlog.capture import patch_path
from codetune.runlog.ends import beginning
from codetune.runlog.keeping.amend import journal_of
from codetune.runlog.local import RunRow, read_ends, run_ids

if TYPE_CHECKING:
    from sqlalchemy import Engine

# Beside the runs and not among them: what lies in here is a run no more.
_ASIDE = events.RUNS / ".removed"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Left:
    """What stays of a removed run: a file or folder it made, and the bytes it takes."""

    run: RunRow
    path: str
    size: int


@dataclass(frozen=True)
class Ended:
    """Removals that are done: the ids of the runs, and the patches that went with them."""

    runs: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()  # relative to the project


def check(root: Path, rows: Sequence[RunRow]) -> None:
    """RefusedError for a run at work now, UserError for one of another checkout.

    The journals say so: what was read before a person was asked may be old.
    """
    for row in rows:
        found = read_ends(journal_of(root, row.id))
        if found is not None and found.status == "running":
            raise RefusedError(f"run {row.name} ({row.id}) is at work; end it first")


def left_behind(root: Path, rows: Sequence[RunRow]) -> Iterator[Left]:
    """What these runs made and is still there; removing a run does not touch it."""
    told: set[str] = set()
    for row in rows:
        for file in row.outputs:
            place = root / file.path
            if file.path not in told and place.exists():
                told.add(file.path)
                yield Left(row, file.path, size_on_disk(place))


def remove(root: Path, database: Engine, rows: Sequence[RunRow]) -> Ended:
    """Removes journals and rows, if `check` lets all pass. Raises DBAPIError as indexing does."""
    check(root, rows)
    aside = artefact.private_dir(root / _ASIDE)
    try:
        for row in rows:
            check(root, [row])  # it may have begun while the others went
            events.journal_path(root, row.id).parent.rename(aside / row.id)
    finally:
        ended = complete(root, database)
    return ended


def complete(root: Path, database: Engine) -> Ended:
    """Ends removals that were begun, and lets go of patches that no other run refers to."""
    from codetune.runlog.store.index import forget_run

    aside = root / _ASIDE
    if not aside.is_dir():
        return Ended()
    ids = sorted(folder.name for folder in aside.iterdir())
    patches = _free_patches(root, [aside / run_id / events.JOURNAL for run_id in ids])
    for run_id in ids:
        # Rows first: a folder that is gone would leave nobody to remember them.
        if not (root / events.RUNS / run_id).exists():
            forget_run(database, run_id)
        shutil.rmtree(aside / run_id, ignore_errors=True)
    with suppress(OSError):  # another process may be removing runs too
        aside.rmdir()
    return Ended(tuple(ids), tuple(patches))


def _free_patches(root: Path, removed: Sequence[Path]) -> list[str]:
    """Removes the patches of these runs that no run of this checkout refers to any more."""
    going = {sha for journal in removed if (sha := _patch_of(journal))}
    if going:
        going -= {_patch_of(events.journal_path(root, run_id)) for run_id in run_ids(root)}
    patches = [patch_path(root, sha) for sha in sorted(filter(None, going))]
    there = [patch for patch in patches if patch.is_file()]
    for patch in there:
        patch.unlink(missing_ok=True)
    return [patch.relative_to(root).as_posix() for patch in there]


def _patch_of(journal: Path) -> str | None:
    """The hash of a run's patch; None without one, and for a journal that is gone."""
    try:
        started = [r.fields for r in beginning(journal) if r.kind == "started"]
    except FileNotFoundError:
        return None
    sha = started[0].get("diff_sha256") if started else None
    return sha if isinstance(sha, str) and _SHA256.fullmatch(sha) else None
