"""Inserts that may be done twice, spelled for both engines."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Inserts rows; one that is there already stays as it is."""
    if rows:
        connection.execute(_dialect(connection).insert(table).on_conflict_do_nothing(), rows)


def upsert(
    connection: Connection,
    table: Table,
    rows: list[dict[str, Any]],
    key: tuple[str, ...],
    changing: tuple[str, ...],
) -> None:
    """Inserts rows; one that is there already takes the new values of the `changing` columns."""
    if rows:
        statement = _dialect(connection).insert(table)
        values = {name: statement.excluded[name] for name in changing}
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=values), rows)


def _dialect(connection: Connection) -> Any:
    return sqlite if connection.dialect.name == "sqlite" else postgresql
