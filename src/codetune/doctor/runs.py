"""Runs whose process is gone, and the database that runs are looked up in."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from codetune.doctor.finding import Finding
from codetune.doctor.journals import unended_runs
from codetune.errors import UserError
from codetune.runlog import RunRow
from codetune.runlog.store import database, revision

_SHOWN, _SHORT = 5, 8  # runs, and characters of an id
_NOT_YOURS = "read it as the user who started the runs, or take it over with chown"
_UPGRADE = "./scripts.sh runs upgrade"


def stale_runs(root: Path) -> Iterator[Finding]:
    """Runs that their record calls running and whose process is gone; how many are at work."""
    try:
        unended = [run.row for run in unended_runs(root, set())]
    except PermissionError as problem:
        yield Finding("runs at work", "cannot be read", str(problem.filename), _NOT_YOURS)
        return
    active = sum(row.status == "running" for row in unended)
    stale = [row for row in unended if row.status == "crashed"]
    meaning = "./scripts.sh runs list" if active else ""
    yield Finding("runs at work", str(active), meaning)
    for row in stale[:_SHOWN]:
        yield _stale(row)
    if len(stale) > _SHOWN:
        more = f"{len(stale) - _SHOWN} more"
        yield Finding("stale run", more, "", "./scripts.sh runs list --status crashed")


def _stale(row: RunRow) -> Finding:
    where = f"pid {row.process.pid}" if row.process else "its process"
    meaning = f"recorded as running, but {where} is gone"
    short = row.id[-_SHORT:]
    resumed = ", to go on from its last checkpoint" if row.stage == "train" else ""
    again = f"give its command again{resumed}: ./scripts.sh runs show {short}"
    todo = f"{again}\nor forget it: ./scripts.sh runs rm {short}"
    return Finding("stale run", f"{row.name} ({row.stage})", meaning, todo)


def run_database(root: Path, database_url: str | None) -> Iterator[Finding]:
    """Whether the database of the run log answers, at the right schema. Makes and changes nothing.

    No user name, password or query of the URL is ever shown.
    """
    try:
        place = database.locate(root, database_url)
        if place.file is None:
            found, how = _server_revision(place), "DATABASE_URL"
        else:
            found, how = _file_revision(place.file), "SQLite"
    except UserError as problem:
        yield Finding("run database", "cannot be used", "", str(problem))
        return
    yield _judged(place, found, how)


def _judged(place: database.Place, found: str | None, how: str) -> Finding:
    shown = f"{how}: {_relative(place)}"
    if found is None:
        return Finding("run database", shown, "no tables yet: the first run makes them")
    if found == revision.HEAD:
        return Finding("run database", shown, f"answers; schema revision {found}")
    if found in revision.known():
        meaning = f"schema revision {found}, an older one"
        if place.file is not None:
            return Finding("run database", shown, f"{meaning}: the next run upgrades it")
        return Finding("run database", shown, meaning, _UPGRADE)
    return Finding("run database", shown, "", str(revision.unknown(place, found)))


def _relative(place: database.Place) -> str:
    file = place.file
    return str(place) if file is None else shlex.quote(str(Path(file.parent.name) / file.name))


def _server_revision(place: database.Place) -> str | None:
    from sqlalchemy.exc import DBAPIError

    try:
        with database.transaction(database.engine(place), read_only=True) as connection:
            return revision.revision(connection)
    except DBAPIError as problem:
        raise revision.unusable(place, problem.orig) from None


def _file_revision(file: Path) -> str | None:
    try:
        file.stat()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise revision.unusable(database.Place(file), problem) from None
    source = f"file:{quote(str(file.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(source, uri=True, timeout=1.0)) as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as problem:
        if "no such table" in str(problem):
            return None
        raise revision.unusable(database.Place(file), problem) from None
    return str(rows[0][0]) if rows else None
