"""From journals to tables: the one way in which rows come to be.

A run's row remembers how many bytes of its journal stand in the tables. Whoever indexes (the run
itself, a reader, a rebuild) locks that row, reads on from there, and moves the mark in the same
transaction, so that doing it twice, or from two processes at once, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from codetune.runlog import events
from codetune.runlog.local import run_ids
from codetune.runlog.store import schema
from codetune.runlog.store.database import transaction

# At most so many records in one transaction: other writers wait while it lasts.
_BATCH = 20_000
_POINT = ("run_id", "key_id", "step")
_SUMMARY = ("first", "last", "min", "max", "steps", "count")


def index_run(database: Engine, journal: Path) -> int:
    """Brings the rows of one run up to its journal; returns how many records were read.

    Raises sqlalchemy.exc.DBAPIError when the database does not take them.
    """
    total = 0
    while True:
        with transaction(database) as connection:
            read = _index_batch(connection, journal)
        total += read
        if read < _BATCH:
            return total


def lagging(database: Engine, root: Path) -> list[Path]:
    """The journals of this checkout that hold more than the tables do, oldest first."""
    with transaction(database, read_only=True) as connection:
        rows = connection.execute(select(schema.run.c.id, schema.run.c.indexed)).all()
    indexed = {row.id: row.indexed for row in rows}
    journals = {run_id: events.journal_path(root, run_id) for run_id in reversed(run_ids(root))}
    return [j for run_id, j in journals.items() if j.stat().st_size > indexed.get(run_id, 0)]


def forget_run(database: Engine, run_id: str) -> None:
    """Removes all rows of a run; its journal stays."""
    with transaction(database) as connection:
        connection.execute(delete(schema.run).where(schema.run.c.id == run_id))


def _index_batch(connection: Connection, journal: Path) -> int:
    run_id = journal.parent.name
    start = _mark(connection, run_id)
    if start is None:
        head = next(events.read(journal), None)
        if head is None or head.kind != "created":
            return 0
        _insert_run(connection, head)
        start = _mark(connection, run_id) or 0  # another process may have been quicker
    records = list(islice(events.read(journal, start), _BATCH))
    if records:
        rows = _Rows(run_id)
        for record in records:
            rows.add(record)
        rows.write(connection)
    return len(records)


def _mark(connection: Connection, run_id: str) -> int | None:
    """How many bytes of the journal are indexed, with the run's row locked; None without a row."""
    place = select(schema.run.c.indexed).where(schema.run.c.id == run_id)
    return connection.execute(place.with_for_update()).scalar()


def _insert_run(connection: Connection, record: events.Record) -> None:
    fields = record.fields
    _insert(connection, schema.project, [{"name": fields["project"]}])
    same = {name: fields[name] for name in ("id", "name", "task", "project", "stage")}
    times = {"created_at": fields["ts"], "heartbeat_at": fields["ts"], "indexed": 0}
    row = {**same, **times, "parent_id": fields["parent"], "status": "created"}
    _insert(connection, schema.run, [row])


class _Rows:
    """The rows that a stretch of a journal stands for."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.run: dict[str, Any] = {}
        self.environments: list[dict[str, Any]] = []
        self.plain: dict[Table, list[dict[str, Any]]] = {}
        self.keys: set[tuple[str, int]] = set()
        self.definitions: dict[tuple[str, int], dict[str, Any]] = {}
        self.points: list[tuple[tuple[str, int], dict[str, Any]]] = []

    def add(self, record: events.Record) -> None:
        """Takes in one record."""
        fields = record.fields
        self.run["indexed"] = record.end
        self.run["heartbeat_at"] = fields.get("ts", self.run.get("heartbeat_at", 0))
        match record.kind:
            case "started":
                self._started(fields)
            case "finished":
                ended = {"status": fields["status"], "exit_reason": fields["reason"]}
                self.run |= ended | {"ended_at": fields["ts"]}
            case "define":
                meaning = {"unit": fields["unit"], "direction": fields["direction"]}
                self.definitions[self._key(fields)] = meaning
            case "metric":
                point = {name: fields[name] for name in ("step", "value", "ts")}
                self.points.append((self._key(fields), point))
            case "input" | "output":
                role = "in" if record.kind == "input" else "out"
                file = {"role": role, "kind": fields["role"], "path": fields["path"]}
                self._row(schema.run_io, **file, seq=record.start, sha256=fields["sha256"])
            case "tag":
                self._row(schema.tag, text=fields["text"])
            case "system":
                sample = {name: fields[name] for name in ("ts", "cpu_percent", "rss")}
                self._row(schema.system_sample, **sample)
            case "event":
                said = {"ts": fields["ts"], "kind": fields["name"], "fields": fields["fields"]}
                self._row(schema.event, seq=record.start, **said)

    def write(self, connection: Connection) -> None:
        """Puts everything into the tables, and moves the run's mark."""
        _insert(connection, schema.env_snapshot, self.environments)
        for table, rows in self.plain.items():
            _insert(connection, table, rows)
        self._write_points(connection)
        where = schema.run.c.id == self.run_id
        connection.execute(update(schema.run).where(where).values(**self.run))

    def _started(self, fields: Mapping[str, Any]) -> None:
        facts = {"hash": fields["environment_hash"], "facts": fields["environment"]}
        self.environments.append(facts)
        self.run |= {
            "status": "running",
            "started_at": fields["ts"],
            "stage_version": fields["version"],
            "seed": fields["seed"],
            "argv": fields["argv"],
            "machine": fields["process"]["machine"],
            "pid": fields["process"]["pid"],
            "pid_started": fields["process"]["started"],
            "git_commit": fields["commit"],
            "git_diff_sha256": fields["diff_sha256"],
            "env_hash": fields["environment_hash"],
        }
        for key, value in fields["params"].items():
            texts = {"text": value["text"], "default_text": value.get("default")}
            default = "default" not in value
            self._row(schema.param, key=key, num=value.get("num"), is_default=default, **texts)

    def _row(self, table: Table, **values: Any) -> None:
        self.plain.setdefault(table, []).append({"run_id": self.run_id, **values})

    def _key(self, fields: Mapping[str, Any]) -> tuple[str, int]:
        name = (fields["key"], fields["version"])
        self.keys.add(name)
        return name

    def _write_points(self, connection: Connection) -> None:
        """Points, the last one logged winning a step, and what they add to the summaries."""
        ids = _key_ids(connection, self.keys, self.definitions)
        points: dict[tuple[int, int], dict[str, Any]] = {}
        summaries = _summaries(connection, self.run_id, ids.values())
        for name, point in self.points:
            key_id = ids[name]
            at = {"run_id": self.run_id, "key_id": key_id}
            points[key_id, point["step"]] = at | point
            summaries[key_id] = at | _added(summaries.get(key_id), point)
        rows = list(points.values())
        _upsert(connection, schema.metric, rows, _POINT, changing=("value", "ts"))
        totals = list(summaries.values())
        _upsert(connection, schema.metric_summary, totals, _POINT[:2], changing=_SUMMARY)


def _key_ids(
    connection: Connection,
    names: set[tuple[str, int]],
    definitions: Mapping[tuple[str, int], dict[str, Any]],
) -> dict[tuple[str, int], int]:
    """Ids of metric keys. New ones are registered, and newly defined ones take their definition,
    always in one order, so that no two writers wait for each other.
    """
    table, unknown = schema.metric_key, {"unit": "", "direction": "none"}
    rows = {name: {"key": name[0], "version": name[1], **unknown} for name in sorted(names)}
    _insert(connection, table, list(rows.values()))
    defined = [rows[name] | definitions[name] for name in sorted(definitions)]
    _upsert(connection, table, defined, ("key", "version"), changing=("unit", "direction"))
    wanted = select(table).where(table.c.key.in_({name for name, _ in names}))
    return {(row.key, row.version): row.id for row in connection.execute(wanted)}


def _summaries(
    connection: Connection, run_id: str, key_ids: Iterable[int]
) -> dict[int, dict[str, Any]]:
    table = schema.metric_summary
    wanted = select(table).where(table.c.run_id == run_id, table.c.key_id.in_(list(key_ids)))
    return {row["key_id"]: dict(row) for row in connection.execute(wanted).mappings()}


def _added(summary: Mapping[str, Any] | None, point: Mapping[str, Any]) -> dict[str, Any]:
    """A summary with one more point; points without a finite value only count."""
    value, step = point["value"], point["step"]
    if summary is None:
        ends = {"first": value, "last": value, "min": value, "max": value}
        return {**ends, "steps": step, "count": 1}
    seen = [v for v in (summary["min"], summary["max"], value) if v is not None]
    return {
        "first": summary["first"],
        "last": value,
        "min": min(seen, default=None),
        "max": max(seen, default=None),
        "steps": max(summary["steps"], step),
        "count": summary["count"] + 1,
    }


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Inserts rows; one that is there already stays as it is."""
    if rows:
        connection.execute(_dialect(connection).insert(table).on_conflict_do_nothing(), rows)


def _upsert(
    connection: Connection,
    table: Table,
    rows: list[dict[str, Any]],
    key: tuple[str, ...],
    changing: tuple[str, ...],
) -> None:
    """Inserts rows; one that is there already takes the new values of the `changing` columns."""
    if rows:
        insert = _dialect(connection).insert(table)
        values = {name: insert.excluded[name] for name in changing}
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_=values), rows)


def _dialect(connection: Connection) -> Any:
    return sqlite if connection.dialect.name == "sqlite" else postgresql
