"""From journals to tables: the one way in which rows come to be.

A run's row remembers how many bytes of its journal stand in the tables. Whoever indexes (the run
itself, a reader, a rebuild) locks that row, reads on from there, and moves the mark in the same
transaction, so that doing it twice, or from two processes at once, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, select

from codetune.runlog import events
from codetune.runlog.local import run_ids
from codetune.runlog.store import schema
from codetune.runlog.store.database import transaction
from codetune.runlog.store.insert import insert
from codetune.runlog.store.records import Stretch, beginning

# At most so many records and runs in one transaction: other writers wait while it lasts.
_BATCH = 20_000
_RUNS = 200
_LOCK = 0x636F6465  # of a server: its number is ours alone


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
        _announce(connection, several=False)
        return _index_batch(connection, journal, limit)


def index_runs(database: Engine, journals: Sequence[Path]) -> Iterator[int]:
    """Brings many runs up to their journals, several in one transaction, since each waits for the
    disk; tells after each how many are done by it. A run that somebody removes is passed over.
    """
    waiting = list(journals)
    while waiting:
        done = _index_several(database, waiting[:_RUNS])
        yield done
        del waiting[:done]


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


def _index_several(database: Engine, journals: Sequence[Path]) -> int:
    """Indexes these in one transaction, as far as it may go; returns how many are done."""
    room = _BATCH
    with transaction(database) as connection:
        _announce(connection, several=True)
        for done, journal in enumerate(journals):
            with suppress(FileNotFoundError), connection.begin_nested():
                room -= _index_batch(connection, journal, room)
            if room == 0:  # there may be more of this one
                return done
    return len(journals)


def _announce(connection: Connection, *, several: bool) -> None:
    """Lets a writer of several runs work alone on a server. Each run locks the names of metrics
    that it shares with others in one order, but several after each other do not.
    """
    if connection.dialect.name == "postgresql":
        shared = "" if several else "_shared"
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock{shared}({_LOCK})")


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
