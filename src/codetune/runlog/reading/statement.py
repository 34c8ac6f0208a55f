"""A person's own SQL, which changes no row: not by looking at its words, but by the engine's rules.

SQLite: the file is opened read-only, and an authorizer refuses whatever is not a query (ATTACH and
VACUUM INTO would write other files). PostgreSQL: the statement becomes a cursor in a read-only
transaction, and the extended protocol takes one statement only. The server's own functions may act
all the same, with the rights of the user of DATABASE_URL: only fewer rights can prevent that.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.text import Text

from codetune.errors import UserError
from codetune.runlog import events
from codetune.runlog.reading.layout import Column, drawn, one_line
from codetune.runlog.store.database import Place, locate
from codetune.runlog.store.revision import reason

SECONDS = 30.0  # a statement that takes longer is ended
_STEPS = 10_000  # of SQLite's machine between two looks at the clock
_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
Rows = Generator[tuple[Any, ...], None, None]
_ONLY_READS = "only reading is allowed; use SELECT (the verbs of `runs` change things)"


@dataclass(frozen=True)
class Answer:
    """What a statement found; `more` when there were rows beyond the limit."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool

    def as_dicts(self) -> list[dict[str, Any]]:
        """The rows as JSON values by column; a name that comes twice gets a number."""
        return [dict(zip(self.columns, map(_json, row), strict=True)) for row in self.rows]


def answer_lines(answer: Answer, width: int | None) -> list[Text]:
    """The rows as a table; numbers to the right."""
    numbers = [
        all(isinstance(row[n], int | float | None) for row in answer.rows)
        for n in range(len(answer.columns))
    ]
    columns = [
        Column(one_line(name), right=right, fold=not right)
        for name, right in zip(answer.columns, numbers, strict=True)
    ]
    rows = [["NULL" if v is None else _json(v) for v in row] for row in answer.rows]
    return drawn(columns, rows, width)


def tables() -> Answer:
    """The tables and columns that can be asked for."""
    from codetune.runlog.store import schema

    rows = tuple(
        (table.name, ", ".join(column.name for column in table.columns))
        for table in schema.metadata.tables.values()
    )
    return Answer(("table", "columns"), rows, more=False)


def ask(root: Path, statement: str, *, limit: int, database_url: str | None = None) -> Answer:
    """The first `limit` rows that `statement` finds.

    UserError when it is wrong, would write, or takes more than `SECONDS`.
    """
    place = locate(root, database_url)
    statement = statement.encode("utf-8", "replace").decode("utf-8").strip().rstrip(";")
    if not statement:
        raise UserError("sql: the statement is empty; leave it out to see the tables")
    asked = _ask_server(place, statement) if place.file is None else _ask_file(place, statement)
    with closing(asked) as found:
        columns, *first = islice(found, limit + 2)
    return Answer(_distinct(columns), tuple(first[:limit]), more=len(first) > limit)


def _ask_file(place: Place, statement: str) -> Rows:
    """The names of the columns, then the rows."""
    assert place.file is not None
    source = f"file:{quote(str(place.file.absolute()))}?mode=ro"
    until = time.monotonic() + SECONDS
    try:
        with closing(sqlite3.connect(source, uri=True, isolation_level=None)) as connection:
            connection.text_factory = _text
            connection.execute("PRAGMA query_only=ON")
            connection.set_authorizer(_authorized)
            connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            cursor = connection.execute(statement)
            yield _names(cursor.description)
            yield from cursor
    except (sqlite3.Error, sqlite3.Warning) as problem:
        code = getattr(problem, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_AUTH or "not authorized" in str(problem):
            raise UserError(f"sql: {_ONLY_READS}") from None
        if code == sqlite3.SQLITE_INTERRUPT:
            raise UserError(f"sql: took more than {SECONDS:.0f} seconds and was ended") from None
        raise UserError(f"sql: {reason(place, problem)}") from None


def _ask_server(place: Place, statement: str) -> Rows:
    """The same of a server."""
    import psycopg

    url = place.url.replace("postgresql+psycopg://", "postgresql://", 1)
    declared = f"DECLARE answer NO SCROLL CURSOR FOR {statement}".encode()
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            # Not as options of the connection: the URL may have its own, and poolers refuse them.
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute(f"SET LOCAL statement_timeout = {SECONDS * 1000:.0f}")
            # Binary: that sends it by the extended protocol, which takes one statement only.
            connection.execute(declared, binary=True)
            cursor = connection.execute("FETCH 0 FROM answer")
            yield _names(cursor.description)
            while rows := connection.execute("FETCH 1000 FROM answer").fetchall():
                yield from rows
            connection.rollback()  # what a function of the statement may have done goes with it
    except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.FeatureNotSupported):
        raise UserError(f"sql: {_ONLY_READS}") from None
    except psycopg.errors.SyntaxError as problem:  # so it says of INSERT where a query must stand
        said = reason(place, problem.diag.message_primary)
        raise UserError(f"sql: {said}; {_ONLY_READS}") from None
    except psycopg.errors.QueryCanceled:
        raise UserError(f"sql: took more than {SECONDS:.0f} seconds and was ended") from None
    except psycopg.Error as problem:
        raise UserError(f"sql: {reason(place, problem.diag.message_primary or problem)}") from None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _authorized(action: int, *_: Any) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _names(description: Sequence[Any] | None) -> tuple[str, ...]:
    if description is None:
        raise UserError(f"sql: {_ONLY_READS}")
    return tuple(str(column[0]) for column in description)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with numbers behind those that came before."""
    found: list[str] = []
    for name in names:
        fresh, n = name, 1
        while fresh in found:
            n += 1
            fresh = f"{name}_{n}"
        found.append(fresh)
    return tuple(found)


def _json(value: Any) -> Any:
    """A value of a database as one that JSON has."""
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, float):
        return events.finite(value)
    return value if isinstance(value, str | int | dict | list | None) else str(value)
