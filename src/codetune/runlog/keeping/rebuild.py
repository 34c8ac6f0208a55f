"""The database opened for whoever changes what stands in it, and rebuilt from the journals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import console
from codetune.errors import UserError
from codetune.runlog import events
from codetune.runlog.keeping import removal
from codetune.runlog.local import run_ids

if TYPE_CHECKING:
    from sqlalchemy import Engine


def _nothing() -> None:
    """Tells nobody that a run was indexed."""


@contextmanager
def writing(root: Path, database_url: str | None) -> Iterator[Engine]:
    """The run database, once removals that were cut short are ended. UserError when it is lost."""
    from sqlalchemy.exc import DBAPIError

    from codetune.runlog.store.database import engine, locate
    from codetune.runlog.store.revision import prepare, unusable

    place = locate(root, database_url)
    prepare(place)
    database = engine(place)
    try:
        for run_id in removal.complete(root, database).runs:
            console.say(f"run {run_id}: its removal, which was cut short, is done now")
        yield database
    except DBAPIError as problem:
        raise unusable(place, problem.orig) from None


def index(root: Path, run_id: str, database_url: str | None) -> None:
    """Brings the rows of one run up to its journal; a lost database only costs a warning."""
    from codetune.runlog.store.index import index_run

    try:
        with writing(root, database_url) as database:
            index_run(database, events.journal_path(root, run_id))
    except UserError as problem:
        console.warn(f"it stands in the journal and is indexed later: {problem}")


def reindex(
    root: Path, *, database_url: str | None = None, on_run: Callable[[], None] = _nothing
) -> int:
    """Makes the rows of this checkout's runs anew from their journals; returns how many runs.

    Runs of other checkouts that share the database stay.
    """
    from codetune.runlog.store.index import forget_run, index_run

    with writing(root, database_url) as database:
        names = run_ids(root)[::-1]  # in the order they were made, as the first time
        for run_id in names:
            forget_run(database, run_id)
            with suppress(FileNotFoundError):  # somebody is removing this run
                index_run(database, events.journal_path(root, run_id))
            on_run()
    return len(names)
