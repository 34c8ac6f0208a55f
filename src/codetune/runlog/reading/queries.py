"""Questions to the run database, of this checkout's runs and of others that share it.

Before it answers, it is brought up to the journals of this checkout, so that a run that lost the
database, or died, is there with everything it wrote.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from codetune import console
from codetune.errors import UserError
from codetune.runlog.local import run_ids
from codetune.runlog.store import schema
from codetune.runlog.store.database import Place, engine, locate, transaction
from codetune.runlog.store.index import index_runs, lagging
from codetune.runlog.store.revision import prepare, reason, unusable

_PATIENCE = 3.0  # seconds that a look waits for a writer before it answers with what is indexed
_SILENCE = 1.0  # seconds of catching up, after which it is shown


def nothing_ran(root: Path, database_url: str | None = None) -> bool:
    """True where there is no run, and no database that could know of one."""
    return _is_new(root, locate(root, database_url))


@contextmanager
def reading(root: Path, database_url: str | None = None) -> Iterator[Connection]:
    """A connection for questions, after catching up with the journals.

    UserError when the database cannot be used, or nothing ever ran here.
    """
    place = locate(root, database_url)
    if _is_new(root, place):
        raise UserError("there are no runs here yet")
    prepare(place)
    try:
        _catch_up(engine(place, busy_seconds=_PATIENCE), root)
    except DBAPIError as problem:
        console.warn(f"{place}: not all runs are up to date ({reason(place, problem.orig)})")
    try:
        with transaction(engine(place), read_only=True) as connection:
            yield connection
    except DBAPIError as problem:
        raise unusable(place, problem.orig) from None


def find(connection: Connection, name: str | None) -> str:
    """The id of the run with this id, of the newest with this name that did something, or of the
    only one whose id begins or ends with it; of the newest run for None.

    UserError when there is none, or more than one.
    """
    run = schema.run.c
    name = name if name is None else console.clean(name)  # as names were when they were recorded
    if name is None:
        newest = connection.execute(select(run.id).order_by(run.id.desc()).limit(1)).scalar()
        if newest is None:
            raise UserError("there are no runs here yet")
        return str(newest)
    exact = select(run.id).where((run.id == name.upper()) | (run.name == name))
    # Of runs with one name, one that did something tells more than one that found all done.
    idle = run.status == "up to date"
    found = connection.execute(exact.order_by(idle, run.id.desc())).scalars().first()
    if found:
        return str(found)
    part = name.upper()
    near = run.id.startswith(part, autoescape=True) | run.id.endswith(part, autoescape=True)
    ids = connection.execute(select(run.id).where(near).order_by(run.id.desc())).scalars().all()
    if len(ids) == 1:
        return str(ids[0])
    if not ids:
        raise UserError(f"no run is called {name!r}; `runs list` shows them")
    raise UserError(f"{len(ids)} runs have ids like {name!r}; write more of it")


def _is_new(root: Path, place: Place) -> bool:
    """True where nothing ever ran: looking must not create a database there."""
    return place.file is not None and not place.file.exists() and not run_ids(root)


def _catch_up(database: Engine, root: Path) -> None:
    behind, began = lagging(database, root), time.monotonic()
    with ExitStack() as shown:
        bar, before = None, 0
        for done in index_runs(database, behind):
            before += done
            if bar is not None:
                bar.advance(done)
            elif time.monotonic() - began > _SILENCE:
                bar = shown.enter_context(console.progress("indexing runs", len(behind)))
                bar.advance(before)
