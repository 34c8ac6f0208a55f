"""Rows of the run database as the values that the rest of the package works with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select, select

from codetune.runlog.local import RunFile, RunRow, with_liveness
from codetune.runlog.process import Process
from codetune.runlog.store import schema


def rows_of(connection: Connection, wanted: Select[Any]) -> list[RunRow]:
    """The runs that a query on the run table finds, with their files and last metric values."""
    found = connection.execute(wanted).all()
    ids = [row.id for row in found]
    files, metrics = _files(connection, ids), _last_values(connection, ids)
    return [_row(row, tuple(files.get(row.id, ())), metrics.get(row.id, {})) for row in found]


def _row(row: Any, files: tuple[RunFile, ...], metrics: Mapping[str, float | None]) -> RunRow:
    process = Process(row.machine, row.pid, row.pid_started) if row.machine else None
    read = RunRow(
        id=row.id,
        name=row.name,
        stage=row.stage,
        status=row.status,
        reason=row.exit_reason or "",
        task=row.task,
        project=row.project,
        parent=row.parent_id,
        created=row.created_at,
        started=row.started_at,
        ended=row.ended_at,
        heartbeat=row.heartbeat_at,
        process=process,
        files=files,
        metrics=metrics,
    )
    return with_liveness(read)


def _files(connection: Connection, ids: list[str]) -> dict[str, list[RunFile]]:
    table = schema.run_io
    wanted = select(table).where(table.c.run_id.in_(ids)).order_by(table.c.run_id, table.c.seq)
    found: dict[str, list[RunFile]] = {}
    for row in connection.execute(wanted):
        found.setdefault(row.run_id, []).append(RunFile(row.role, row.kind, row.path, row.sha256))
    return found


def _last_values(connection: Connection, ids: list[str]) -> dict[str, dict[str, float | None]]:
    table, key = schema.series, schema.metric_key
    wanted = select(table.c.run_id, key.c.key, table.c["last"]).join(key)
    found: dict[str, dict[str, float | None]] = {}
    for run_id, name, last in connection.execute(wanted.where(table.c.run_id.in_(ids))):
        found.setdefault(run_id, {})[name] = last
    return found
