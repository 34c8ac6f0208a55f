"""Makes the tables, or brings older ones to this version after a copy of them was made.

Everything happens in one transaction: who is killed half-way leaves the old database. SQLite is
copied into a file beside it, a server's tables into a schema beside them.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from codetune.artefact import leftovers
from codetune.artefact.disk import fsync, user_errors
from codetune.errors import UserError
from codetune.runlog.store import database, revision
from codetune.runlog.store.database import Place
from codetune.runlog.store.revision import HEAD

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x636F6465  # any number: makes migrations of one server queue up
_PATIENCE_SECONDS = 120.0  # for another process that upgrades the same database
BACKUP_SCHEMA = "codetune_backup_"


@dataclass(frozen=True)
class Upgraded:
    """What was done: revisions before (None: there were no tables) and after, and the copy."""

    before: str | None
    after: str
    backup: str | None  # a file, or a schema of the server; None when nothing was upgraded

    @property
    def line(self) -> str:
        """What to tell a person."""
        if self.before == self.after:
            return f"already at schema revision {self.after}"
        if self.before is None:
            return f"tables made, schema revision {self.after}"
        return (
            f"upgraded from schema revision {self.before} to {self.after}; "
            f"as it was, it is kept in {self.backup}"
        )


def upgrade(place: Place) -> Upgraded:
    """Brings a database to revision HEAD; one that is there already is left as it is.

    UserError when that is not possible; nothing is changed then.
    """
    from sqlalchemy.exc import DBAPIError

    # Foreign keys are off: with them, rebuilding a parent table would cascade into its children.
    # This has to be said before the transaction begins; inside one SQLite does not listen.
    opened = database.engine(place, create=True, foreign_keys=False, busy_seconds=_PATIENCE_SECONDS)
    try:
        with database.transaction(opened) as connection:
            return _upgraded(connection, place)
    except DBAPIError as problem:
        raise revision.unusable(place, problem.orig) from None


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for work on an open connection; no ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _upgraded(connection: Connection, place: Place) -> Upgraded:
    from alembic import command

    if place.file is None:
        _queue_up(connection)
    before = revision.revision(connection)
    if before == HEAD:
        return Upgraded(HEAD, HEAD, None)
    if before is None:
        command.upgrade(alembic_config(connection), "head")
        return Upgraded(None, HEAD, None)
    if before not in revision.known():
        raise revision.unknown(place, before)
    tables = _our_tables(connection)
    if place.file is None:
        _wait_for_writers(connection, tables)
        backup = _copy_tables(connection, before, tables)
    else:
        backup = str(_copy_file(place.file, before))
    counts = _counts(connection, tables)
    command.upgrade(alembic_config(connection), "head")
    _check(connection, counts)
    return Upgraded(before, HEAD, backup)


def _queue_up(connection: Connection) -> None:
    from sqlalchemy import text

    connection.execute(text(f"SET LOCAL statement_timeout = '{_PATIENCE_SECONDS:.0f}s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATION_LOCK})


def _wait_for_writers(connection: Connection, tables: list[str]) -> None:
    """Takes every table for itself. Readers and writers all begin with `run`, so when that is
    ours, nobody else is at work, and nobody waits for anyone in a circle.
    """
    from sqlalchemy import text

    for table in sorted(tables, key=lambda name: (name != "run", name)):
        connection.execute(text(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE'))


def _our_tables(connection: Connection) -> list[str]:
    """The tables of ours that are there; a server may hold others."""
    from sqlalchemy import inspect

    from codetune.runlog.store.schema import metadata

    ours = {"alembic_version", *metadata.tables, *_renamed(connection)}
    return sorted(ours.intersection(inspect(connection).get_table_names()))


def _renamed(connection: Connection) -> dict[str, str]:
    """Tables of earlier revisions whose rows now stand in one of another name."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(alembic_config(connection))
    found: dict[str, str] = {}
    for script in scripts.walk_revisions():
        found |= getattr(script.module, "RENAMED", {})
    return found


def _counts(connection: Connection, tables: list[str]) -> dict[str, int]:
    from sqlalchemy import text

    count = 'SELECT count(*) FROM "{}"'
    return {t: connection.execute(text(count.format(t))).scalar_one() for t in tables}


def _check(connection: Connection, before: dict[str, int]) -> None:
    """UserError, which takes everything back, when rows were lost or point at nothing."""
    from sqlalchemy import text

    renamed = _renamed(connection)
    after = _counts(connection, _our_tables(connection))
    lost = [name for name, n in before.items() if after.get(renamed.get(name, name)) != n]
    if connection.dialect.name == "sqlite":
        loose = connection.execute(text("PRAGMA foreign_key_check")).all()
        lost += sorted({str(row[0]) for row in loose})
    if lost:
        raise UserError(
            f"the upgrade of the run database would have lost rows of {', '.join(lost)}; "
            "nothing was changed; delete the database and run `./scripts.sh runs reindex`"
        )


def _copy_tables(connection: Connection, before: str, tables: list[str]) -> str:
    from sqlalchemy import text

    schema = f"{BACKUP_SCHEMA}{before}_{_moment().lower()}"
    connection.execute(text(f'CREATE SCHEMA "{schema}"'))
    for table in tables:
        connection.execute(text(f'CREATE TABLE "{schema}"."{table}" AS TABLE "{table}"'))
    return schema


def _copy_file(file: Path, before: str) -> Path:
    """Copies a file while its writer's lock is ours; the copy appears whole, or not at all."""
    target = file.with_name(f"{file.stem}.{before}-{_moment()}{file.suffix}")
    temporary = file.with_name(f"{leftovers.prefix(target, 'tmp')}copy")
    with user_errors(target):
        leftovers.sweep(file.parent)
        try:
            found = _copied(file, temporary)
            if found != "ok":
                raise sqlite3.DatabaseError(f"it is damaged: {found}")
            fsync(temporary)
            temporary.replace(target)
        except sqlite3.Error as problem:
            raise revision.unusable(Place(file), problem) from None
        finally:
            temporary.unlink(missing_ok=True)
        fsync(target.parent)
    return target


def _copied(file: Path, target: Path) -> str:
    """Copies a database; returns what SQLite says of the copy's integrity, `ok` or the damage."""
    only_read = f"file:{quote(str(file.absolute()))}?mode=ro"
    reading = sqlite3.connect(only_read, uri=True, timeout=database.BUSY_SECONDS)
    with closing(reading) as source, closing(sqlite3.connect(target)) as copy:
        copy.execute("PRAGMA schema_version")  # makes the file, still empty
        target.chmod(0o600)
        source.backup(copy)
        return str(copy.execute("PRAGMA integrity_check").fetchone()[0])


def _moment() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
