"""Runs that have not ended, by the ends of their journals: long ones are not read in full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codetune.runlog import RunRow, ends, events
from codetune.runlog.local import read_ends, run_ids

_UNENDED = ("created", "running", "crashed")
_TAIL = 64 * 1024  # bytes in which the last metric is looked for


@dataclass(frozen=True)
class Unended:
    """A run that was made or started, and has not said how it ended."""

    row: RunRow  # status: created, running, or crashed
    step: int | None  # of its last metric


def unended_runs(root: Path, ended: set[str]) -> Iterator[Unended]:
    """The runs of this checkout without an end, newest first.

    `ended` holds ids that need no second look, and gains those that are found to have ended.
    """
    for run_id in run_ids(root):
        if run_id in ended:
            continue
        journal = events.journal_path(root, run_id)
        try:
            row = read_ends(journal)
            if row is None:  # no beginning, or not yet
                continue
            if row.status in _UNENDED:
                yield Unended(row, _last_step(journal))
            else:
                ended.add(run_id)
        except FileNotFoundError:  # removed while we look
            continue


def _last_step(journal: Path) -> int | None:
    metrics = (r for r in ends.last_ones(journal, within=_TAIL) if r.kind == "metric")
    step = next((record.fields.get("step") for record in metrics), None)
    return step if isinstance(step, int) else None
