"""Where the run database is, and how it is opened.

SQLite: writers say `BEGIN IMMEDIATE` (a deferred transaction that reads first fails at once under
contention, whatever the timeout), and the write-ahead log is used only when the linked SQLite has
the fix for its reset race. PostgreSQL: short timeouts, so that a lost server cannot hold a run.
"""

from __future__ import annotations

import os
import random
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from codetune import artefact
from codetune.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

DEFAULT = Path("logs/runs.db")
BUSY_SECONDS = 10.0
# For a server: seconds to connect, milliseconds until a connection without answers is given up.
_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
_STATEMENT_SECONDS = 30
_LOOK_SECONDS = (0.01, 0.05)
_MOUNTS = Path("/proc/self/mounts")
_SHARED_FILESYSTEMS = {"nfs", "nfs4", "lustre", "cifs", "smb3", "gpfs", "beegfs", "fuse.sshfs"}


@dataclass(frozen=True)
class Place:
    """A database: a SQLite file, or the URL of a PostgreSQL server."""

    file: Path | None
    url: str = ""

    def __str__(self) -> str:
        """What may be shown: never a user name, password or query of the URL."""
        if self.file is not None:
            return str(self.file)
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", "" if parts.port is None else f":{parts.port}"
        return f"postgresql://{f'[{host}]' if ':' in host else host}{port}{parts.path}"

    def __repr__(self) -> str:
        return f"Place({self})"


def locate(root: Path, database_url: str | None) -> Place:
    """The database of the project at `root`; UserError for a URL that we cannot use."""
    if not database_url:
        return Place(root / DEFAULT)
    scheme, separator, rest = database_url.partition("://")
    if separator and scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return Place(root / rest[1:])
    if separator and scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        _check_url(rest)
        return Place(None, f"postgresql+psycopg://{rest}")
    raise UserError(
        f"DATABASE_URL: {scheme if separator else 'this'} is not a database we can use; "
        "write postgresql://user@host/name or sqlite:///path/runs.db"
    )


def _check_url(rest: str) -> None:
    """UserError where a raw special character would end the password early, so that the rest of
    it would be taken for a host or a name, and shown as such.
    """
    try:
        parts = urlsplit(f"postgresql://{rest}")
        login, at, _ = parts.netloc.rpartition("@")
        readable = (parts.port is None or parts.port > 0) and "@" not in login
    except ValueError:  # its message quotes the URL
        readable, at = False, ""
    if not readable or rest.count("@") > len(at) or "#" in rest or not rest.isprintable():
        raise _unreadable()


def _unreadable() -> UserError:
    return UserError(
        "DATABASE_URL: cannot be read; in user and password write special characters as "
        "%-codes, such as %40 for @, %23 for #, %2F for / and %3A for :"
    )


def engine(
    place: Place,
    *,
    create: bool = False,
    foreign_keys: bool = True,
    busy_seconds: float = BUSY_SECONDS,
) -> Engine:
    """An engine without a pool: each transaction opens its own connection, so that a database
    that went away, or a file that was removed, is noticed at the next one.

    `busy_seconds` is how long a SQLite writer waits for another.
    """
    from sqlalchemy import create_engine, event
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.pool import NullPool

    if place.file is None:
        try:
            opened = create_engine(place.url, poolclass=NullPool, connect_args=_PATIENCE)
            event.listen(opened, "begin", _limit)
            return opened
        except ModuleNotFoundError:
            raise UserError(f"{place}: needs the driver psycopg; install psycopg[binary]") from None
        except (ArgumentError, ValueError):  # their messages quote the URL
            raise _unreadable() from None
    file = place.file
    opened = create_engine(
        "sqlite://",
        poolclass=NullPool,
        creator=lambda: _connect(file, busy_seconds, create=create, foreign_keys=foreign_keys),
    )
    event.listen(opened, "begin", _begin)
    return opened


@contextmanager
def transaction(database: Engine, *, read_only: bool = False) -> Iterator[Connection]:
    """A connection inside one transaction; a writer's locks at once."""
    opening = database.connect().execution_options(codetune_read_only=read_only)
    with opening as connection, connection.begin():
        yield connection


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """True when SQLite `version` has the fix for the WAL-reset race (3.51.3 and two backports).

    Source: https://sqlite.org/wal.html
    """
    backports = {(3, 50): 7, (3, 44): 6}
    return version >= (3, 51, 3) or version[2] >= backports.get(version[:2], 1000)


def check_filesystem(file: Path) -> None:
    """UserError when `file` lies, or would lie, on a network file system, also behind links: its
    locks cannot be trusted. Less than a millisecond.
    """
    place = Path(os.path.realpath(file))  # unlike `resolve` no error where links form a circle
    above = {str(path) for path in (place, *place.parents)}
    # Of several at one place, as autofs makes them, the one mounted last is what lies there.
    mounted = [(len(m[0]), n, m[1]) for n, m in enumerate(_mounts()) if m[0] in above]
    kind = max(mounted)[2] if mounted else ""
    if kind in _SHARED_FILESYSTEMS:
        raise UserError(
            f"{file}: lies on {kind}, where SQLite can lose data; set DATABASE_URL to a "
            "PostgreSQL server, or to sqlite:////local/path/runs.db"
        )


def _mounts() -> Iterator[tuple[str, str]]:
    """Where a file system is mounted, and its kind, in the order they were mounted.

    Source: proc(5), /proc/pid/mounts. Read here, since psutil takes ten milliseconds to load.
    """
    try:
        table = os.fsdecode(_MOUNTS.read_bytes())
    except OSError:
        import psutil

        yield from ((mount.mountpoint, mount.fstype) for mount in psutil.disk_partitions(all=True))
        return
    for line in table.split("\n")[:-1]:
        _, place, kind, *_ = line.split(" ")
        yield re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place), kind


def _connect(
    file: Path, busy_seconds: float, *, create: bool, foreign_keys: bool
) -> sqlite3.Connection:
    if create:
        artefact.private_dir(file.parent)
    source = f"file:{quote(str(file.absolute()))}?mode={'rwc' if create else 'rw'}"
    connection = _in_fitting_mode(source, busy_seconds, create=create)
    if create:
        file.chmod(0o600)
    connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
    # As servers do: small letters of every alphabet, and an order by code points, called C.
    connection.create_function("lower", 1, _lower, deterministic=True)
    connection.create_collation("C", lambda one, other: (one > other) - (one < other))
    return connection


def _lower(value: Any) -> str | None:
    return None if value is None else str(value).lower()


def _in_fitting_mode(source: str, busy_seconds: float, *, create: bool) -> sqlite3.Connection:
    """A connection that uses WAL only where that is safe.

    A file that a newer SQLite put into WAL mode cannot be taken out of it while anybody else has
    it open, and that is told at once, whatever the timeout. So that two who want it do not keep
    each other from it, we let go of it between attempts.
    """
    until = time.monotonic() + busy_seconds
    while True:
        connection = sqlite3.connect(
            source, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            if not wal_is_safe(sqlite3.sqlite_version_info):
                connection.execute("PRAGMA journal_mode=TRUNCATE")
            elif create:  # lasts in the file; changing it later would need the file for itself
                connection.execute("PRAGMA journal_mode=WAL")
            return connection
        except sqlite3.Error as problem:
            connection.close()
            if "locked" not in str(problem) or time.monotonic() > until:
                raise
        time.sleep(random.uniform(*_LOOK_SECONDS))


def _begin(connection: Any) -> None:
    read_only = connection.get_execution_options().get("codetune_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _limit(connection: Any) -> None:
    """Said per transaction, since poolers in front of a server refuse it at the connection."""
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")
