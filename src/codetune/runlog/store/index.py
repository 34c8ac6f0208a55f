"""From journals to tables: the one way in which rows come to be.

A run's row remembers how many bytes of its journal stand in the tables. Whoever indexes (the run
itself, a reader, a rebuild) locks that row, reads on from there, and moves the mark in the same
transaction, so that doing it twice, or from two processes at once, changes nothing.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, select

from codetune.runlog import events
from codetune.runlog.local import run_ids
from codetune.runlog.store import schema
from codetune.runlog.store.database import transaction
from codetune.runlog.store.insert import insert
from codetune.runlog.store.records import Stretch, beginning

# At most so many records in one transaction: other writers wait while it lasts.
_BATCH = 20_000


def index_run(database: Engine, journal: Path) -> int:
    """Brings the rows of one run up to its journal; returns how many records were read.

    Raises sqlalchemy.exc.DBAPIError when the database does not take them.
    """
    total = 0
    while True:
        read = index_some(database, journal, _BATCH)
        total += read
        if read < _BATCH:
            return total


def index_some(database: Engine, journal: Path, limit: int) -> int:
    """Indexes the next records, at most `limit`, in one transaction; returns how many."""
    with transaction(database) as connection:
        return _index_batch(connection, journal, limit)


def lagging(database: Engine, root: Path) -> list[Path]:
    """The journals of this checkout that hold more than the tables do, oldest first."""
    with transaction(database, read_only=True) as connection:
        rows = connection.execute(select(schema.run.c.id, schema.run.c.indexed)).all()
    indexed = {row.id: row.indexed for row in rows}
    journals = {run_id: events.journal_path(root, run_id) for run_id in reversed(run_ids(root))}
    return [j for run_id, j in journals.items() if _size(j) > indexed.get(run_id, 0)]


def _size(journal: Path) -> int:
    """Bytes of a journal; 0 when somebody just removed it."""
    try:
        return journal.stat().st_size
    except FileNotFoundError:
        return 0


def forget_run(database: Engine, run_id: str) -> None:
    """Removes all rows of a run; its journal stays."""
    with transaction(database) as connection:
        connection.execute(delete(schema.run).where(schema.run.c.id == run_id))


def _index_batch(connection: Connection, journal: Path, limit: int) -> int:
    run_id = journal.parent.name
    start = _mark(connection, run_id)
    if start is None:
        if not _insert_run(connection, journal):
            return 0
        start = _mark(connection, run_id) or 0  # another process may have been quicker
    records = list(islice(events.read(journal, start), limit))
    if records:
        stretch = Stretch(run_id)
        for record in records:
            stretch.add(record)
        stretch.write(connection)
    return len(records)


def _mark(connection: Connection, run_id: str) -> int | None:
    """How many bytes of the journal are indexed, with the run's row locked; None without a row."""
    place = select(schema.run.c.indexed).where(schema.run.c.id == run_id)
    return connection.execute(place.with_for_update()).scalar()


def _insert_run(connection: Connection, journal: Path) -> bool:
    """False when the journal does not begin a run, or the run of another folder."""
    head = next(events.read(journal), None)
    try:
        row = None if head is None else beginning(head)
    except ValueError:
        return False
    if row is None or row["id"] != journal.parent.name:
        return False
    insert(connection, schema.project, [{"name": row["project"]}])
    insert(connection, schema.run, [row])
    return True
