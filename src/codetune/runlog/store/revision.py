"""Makes sure that a database is there and at the schema this code was written for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from codetune.errors import UserError
from codetune.runlog.store import database
from codetune.runlog.store.database import Place

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

# The newest migration, named here so that a current database is recognised without Alembic.
HEAD = "0002"
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x636F6465  # any number: makes migrations of one server queue up


def prepare(place: Place) -> None:
    """Creates the tables where there are none; UserError when the database cannot be used.

    A SQLite file that is already current costs one query, without SQLAlchemy or Alembic.
    """
    if place.file is None:
        found = _server_revision(place)
    else:
        found = _file_revision(place, place.file)
        if found is None:
            database.check_filesystem(place.file)
    if found is None:
        found = migrate(place)
    if found != HEAD:
        raise UserError(
            f"{place}: has schema revision {found}, this version of CodeTune needs {HEAD}; use "
            "the version that wrote it, or another database (it is filled again from logs/runs)"
        )


def migrate(place: Place) -> str:
    """Brings an empty database to the newest revision, in one transaction; returns the revision.

    One that another process has filled in the meantime is left as it is.
    """
    from alembic import command
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    # Foreign keys are off: with them, rebuilding a parent table would cascade into its children.
    opened = database.engine(place, create=True, foreign_keys=False)
    try:
        with database.transaction(opened) as connection:
            if place.file is None:
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATION_LOCK})
            found = revision(connection)
            if found is None:
                command.upgrade(alembic_config(connection), "head")
            return found or HEAD
    except DBAPIError as problem:
        raise unusable(place, problem.orig) from None


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for work on an open connection; no ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revision(connection: Connection) -> str | None:
    """The revision of the database behind `connection`; None when it has no tables of ours."""
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def unusable(place: Place, problem: object) -> UserError:
    """The one line for a database that cannot be used at the start of a run."""
    advice = (
        "check DATABASE_URL and that the server runs"
        if place.file is None
        else "check the path and its permissions; a damaged file may be deleted, "
        "it is filled again from logs/runs"
    )
    return UserError(
        f"{place}: the run database cannot be used ({reason(place, problem)}); {advice}"
    )


def reason(place: Place, problem: object) -> str:
    """What a driver said, on one line, and never with the URL's password."""
    said = " ".join(str(problem).split())[:300]
    password = urlsplit(place.url).password
    for secret in {password, unquote(password)} if password else ():
        said = said.replace(secret, "***")
    return said


def _server_revision(place: Place) -> str | None:
    from sqlalchemy.exc import DBAPIError

    try:
        with database.transaction(database.engine(place), read_only=True) as connection:
            return revision(connection)
    except DBAPIError as problem:
        raise unusable(place, problem.orig) from None


def _file_revision(place: Place, file: Path) -> str | None:
    """The revision of a SQLite file that can be written to; None when it has no tables."""
    if not file.exists():
        return None
    source = f"file:{quote(str(file.absolute()))}?mode=rw"
    try:
        opening = sqlite3.connect(source, uri=True, timeout=0.0, isolation_level=None)
        with closing(opening) as connection:
            _check_writable(connection)
            connection.execute(f"PRAGMA busy_timeout={int(database.BUSY_SECONDS * 1000)}")
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as problem:
        if "no such table" in str(problem):
            return None
        raise unusable(place, problem) from None
    return str(rows[0][0]) if rows else None


def _check_writable(connection: sqlite3.Connection) -> None:
    """sqlite3.Error when the file is read-only or no database; a busy one is fine."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as problem:
        if "locked" not in str(problem):
            raise
