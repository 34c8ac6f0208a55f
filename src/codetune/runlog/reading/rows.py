"""Rows of the run database as the values that the rest of the package works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from codetune.runlog.local import RunFile, RunRow, with_liveness
from codetune.runlog.process import Process, is_alive
from codetune.runlog.store import schema


def rows_of(connection: Connection, wanted: Select[Any]) -> list[RunRow]:
    """The runs that a query on the run table finds, with their files and last metric values."""
    found = connection.execute(wanted).all()
    ids = [row.id for row in found]
    files, metrics = _files(connection, ids), _last_values(connection, ids)
    return [_row(row, tuple(files.get(row.id, ())), metrics.get(row.id, {})) for row in found]


def tags_of(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The tags of each of these runs that has any, sorted."""
    tag = schema.tag.c
    found: dict[str, tuple[str, ...]] = {}
    for run_id, text in connection.execute(select(tag.run_id, tag.text).where(tag.run_id.in_(ids))):
        found[run_id] = (*found.get(run_id, ()), text)
    return {run_id: tuple(sorted(texts)) for run_id, texts in found.items()}


def notes_of(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The notes on each of these runs that has any, in the order they were written."""
    note = schema.note.c
    found: dict[str, tuple[str, ...]] = {}
    wanted = select(note.run_id, note.text).where(note.run_id.in_(ids))
    for run_id, text in connection.execute(wanted.order_by(note.run_id, note.seq)):
        found[run_id] = (*found.get(run_id, ()), text)
    return found


def crashed_ids(connection: Connection) -> list[str]:
    """The runs that should be running, and whose process is gone."""
    run = schema.run.c
    columns = (run.id, run.machine, run.pid, run.pid_started, run.heartbeat_at)
    started = select(*columns).where(run.status == "running", run.machine.is_not(None))
    return [
        row.id
        for row in connection.execute(started)
        if not is_alive(Process(row.machine, row.pid, row.pid_started), row.heartbeat_at)
    ]


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
    found_last = wanted.where(table.c.run_id.in_(ids)).order_by(key.c.key, key.c.version)
    for run_id, name, last in connection.execute(found_last):
        found.setdefault(run_id, {})[name] = last
    return found
