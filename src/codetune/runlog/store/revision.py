"""Makes sure that a database is there and at the schema this code was written for."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from codetune import console
from codetune.errors import UserError
from codetune.runlog.store import database
from codetune.runlog.store.database import Place

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The newest migration, named here so that a current database is recognised without Alembic.
HEAD = "0002"
_VERSIONS = Path(__file__).parent / "migrations/versions"
_WAITS = (0.5, 1.0, 2.0)  # seconds between attempts to reach a server at the start of a run
# What a server or the network says that will be no different in a second, and what to do.
_FINAL = (
    (r"authentication failed|no password supplied", "correct user and password in DATABASE_URL"),
    (r"database .* does not exist", "create it on the server, or correct DATABASE_URL"),
    (r"role .* does not exist", "correct the user in DATABASE_URL"),
    (
        r"pg_hba\.conf|permission denied|no schema has been selected",
        "this user lacks a right: ask the keeper of the server",
    ),
    (r"Name or service not known|not known|No address", "correct the host in DATABASE_URL"),
)
_PUNCTUATION = (".", ",", ":", ";", "!", "?")  # behind it a next line needs no other
_CONNECTING = re.compile(r"connection (?:failed: |to server [^:]*failed: )|FATAL: ")


def prepare(place: Place) -> None:
    """Creates the tables where there are none, and upgrades an older file, after a copy of it.

    UserError when the database cannot be used. A SQLite file that is already current costs one
    query, without SQLAlchemy or Alembic. A server is upgraded only on request, since other
    checkouts may share it.
    """
    file = place.file
    if file is not None:
        database.check_filesystem(file)
    found = _server_revision(place) if file is None else _file_revision(place, file)
    if found == HEAD:
        return
    if found is not None and found not in known():
        raise unknown(place, found)
    if file is None and found is not None:
        raise UserError(
            f"{place}: has schema revision {found}, this version of CodeTune needs {HEAD}; run "
            "`./scripts.sh runs upgrade` (all checkouts that share it then need this version)"
        )
    from codetune.runlog.store.upgrade import upgrade

    done = upgrade(place)
    if done.backup is not None:
        console.say(f"{place}: {done.line}")


def known() -> list[str]:
    """The revisions that this version of the code has migrations for, oldest first."""
    names = (re.match(r"r(\d+)_", path.name) for path in _VERSIONS.glob("r*.py"))
    return sorted(found[1] for found in names if found)


def revision(connection: Connection) -> str | None:
    """The revision of the database behind `connection`; None when it has no tables of ours."""
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def unknown(place: Place, found: str) -> UserError:
    """The one line for a database that a newer version of the code has upgraded."""
    return UserError(
        f"{place}: has schema revision {console.clean(found)[:40]}, newer than this version of "
        f"CodeTune, which needs {HEAD}; use the newer version, or go back: {_way_back(place)}"
    )


def unusable(place: Place, problem: object) -> UserError:
    """The one line for a database that cannot be used at the start of a run."""
    said = reason(place, problem)
    return UserError(f"{place}: the run database cannot be used ({said}); {_advice(place, said)}")


def reason(place: Place, problem: object) -> str:
    """What a driver said, on one line, and never with the URL's password."""
    said, parts = str(problem), urlsplit(place.url)
    hidden = [parts.password or "", *re.findall(r"password=([^&]*)", parts.query)]
    for secret in {*hidden, *map(unquote, hidden), *map(unquote_plus, hidden)} - {""}:
        said = said.replace(secret, "***")
    told = ""
    for line in filter(None, map(str.strip, said.splitlines())):
        told += f"{' ' if told.endswith(_PUNCTUATION) else '; '}{line}" if told else line
    return " ".join(_CONNECTING.sub("", " ".join(told.split())).split())[:300]


def _way_back(place: Place) -> str:
    if place.file is None:
        return (
            "let DATABASE_URL name an empty database and run `./scripts.sh runs reindex` in each "
            f"checkout (the rows as they were are in a schema codetune_backup_{HEAD}_...)"
        )
    copies = sorted(place.file.parent.glob(f"{place.file.stem}.{HEAD}-*{place.file.suffix}"))
    copy = f"put back its copy {copies[-1]}, or " if copies else ""
    return f"{copy}delete it and run `./scripts.sh runs reindex`"


def _advice(place: Place, said: str) -> str:
    if place.file is None:
        fitting = (advice for pattern, advice in _FINAL if re.search(pattern, said))
        return next(fitting, "check DATABASE_URL and that the server runs")
    if "locked" in said:
        return "another process holds it, perhaps to upgrade it; try again in a minute"
    return (
        "check the path and its permissions; a damaged file may be deleted, "
        "it is filled again from logs/runs"
    )


def _server_revision(place: Place) -> str | None:
    from sqlalchemy.exc import DBAPIError, OperationalError

    opened, waits = database.engine(place), list(_WAITS)
    while True:
        try:
            with database.transaction(opened, read_only=True) as connection:
                return revision(connection)
        except DBAPIError as problem:
            said = reason(place, problem.orig)
            final = any(re.search(pattern, said) for pattern, _ in _FINAL)
            if not waits or final or not isinstance(problem, OperationalError):
                raise unusable(place, problem.orig) from None
        if len(waits) == len(_WAITS):
            console.say(f"{place}: no answer yet ({said}); trying again for some seconds")
        time.sleep(waits.pop(0))


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
