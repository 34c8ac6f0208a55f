"""What tests ask of the run database, by the very functions that answer `runs list` and `show`."""

from __future__ import annotations

from pathlib import Path

from codetune.runlog.local import RunRow
from codetune.runlog.reading.details import RunDetails, details_of
from codetune.runlog.reading.filters import Condition
from codetune.runlog.reading.listing import Wanted, listed
from codetune.runlog.reading.queries import find, nothing_ran, reading


def list_runs(
    root: Path, *, stage: str | None = None, limit: int = 20, database_url: str | None = None
) -> list[RunRow]:
    """The newest runs, newest first; none where nothing ever ran."""
    if nothing_ran(root, database_url):
        return []
    where = () if stage is None else (Condition("stage", "=", stage, quoted=True),)
    with reading(root, database_url) as connection:
        return [run.row for run in listed(connection, Wanted(where, limit=limit))]


def get_run(root: Path, name: str, *, database_url: str | None = None) -> RunDetails:
    """The run that `name` stands for."""
    with reading(root, database_url) as connection:
        return details_of(connection, find(connection, name))
