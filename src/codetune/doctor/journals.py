"""Runs that have not ended, by the ends of their journals: long ones are not read in full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from codetune.runlog import RunRow, events
from codetune.runlog.local import row_of, run_ids

_HEAD = 16  # records: created and started are among the first
_TAIL = 64 * 1024  # bytes


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
        try:
            found = _read(events.journal_path(root, run_id))
        except FileNotFoundError:  # removed while we look
            continue
        if found is None:
            ended.add(run_id)
        else:
            yield found


def _read(journal: Path) -> Unended | None:
    tail = list(events.read(journal, max(0, journal.stat().st_size - _TAIL)))
    if any(record.kind == "finished" for record in tail):
        return None
    row = row_of(chain(islice(events.read(journal), _HEAD), tail))
    if row is None:
        return None
    steps = [record.fields.get("step") for record in tail if record.kind == "metric"]
    return Unended(row, steps[-1] if steps else None)
