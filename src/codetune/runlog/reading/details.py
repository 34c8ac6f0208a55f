"""One run in full, as `runs show` and a run's page need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, select

from codetune.runlog.local import RunRow
from codetune.runlog.reading.rows import rows_of
from codetune.runlog.store import schema

_POINTS = 400


@dataclass(frozen=True)
class Param:
    """A knob of a run; `default` is None where it is at its default."""

    key: str
    value: str
    default: str | None


@dataclass(frozen=True)
class Summary:
    """A metric over a run, in the order logged. None stands for a number that was not finite."""

    key: str
    unit: str
    direction: str
    first: float | None
    last: float | None
    min: float | None
    max: float | None
    steps: int  # the highest
    count: int
    curve: tuple[tuple[int, float], ...]  # (step, value), at most about 400 points

    @property
    def best(self) -> float | None:
        """The lowest or highest value, whichever is better; the last where neither is."""
        return {"lower": self.min, "higher": self.max}.get(self.direction, self.last)


@dataclass(frozen=True)
class Event:
    """Something that happened, at `ts` (ms UTC)."""

    ts: int
    kind: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class RunDetails:
    """Everything that is known of one run."""

    row: RunRow
    version: int | None
    seed: int | None
    argv: list[str]
    commit: str | None
    diff_sha256: str | None
    environment: Mapping[str, Any]
    params: tuple[Param, ...]
    metrics: tuple[Summary, ...]
    tags: tuple[str, ...]
    events: tuple[Event, ...]
    peak_rss: int | None
    children: tuple[RunRow, ...]


def details_of(connection: Connection, run_id: str) -> RunDetails:
    """Everything about the run with this id."""
    run = connection.execute(select(schema.run).where(schema.run.c.id == run_id)).one()
    metrics = list(_metrics(connection, run_id))
    children = select(schema.run).where(schema.run.c.parent_id == run_id).order_by(schema.run.c.id)
    facts = select(schema.env_snapshot.c.facts).where(schema.env_snapshot.c.hash == run.env_hash)
    return RunDetails(
        row=rows_of(connection, select(schema.run).where(schema.run.c.id == run_id))[0],
        version=run.stage_version,
        seed=run.seed,
        argv=run.argv or [],
        commit=run.git_commit,
        diff_sha256=run.git_diff_sha256,
        environment=connection.execute(facts).scalar() or {},
        params=_params(connection, run_id),
        metrics=tuple(metrics),
        tags=tuple(_column(connection, schema.tag.c.text, run_id)),
        events=_events(connection, run_id),
        peak_rss=max(_column(connection, schema.system_sample.c.rss, run_id), default=None),
        children=tuple(rows_of(connection, children)),
    )


def _metrics(connection: Connection, run_id: str) -> Iterator[Summary]:
    table, key = schema.series, schema.metric_key
    columns = [table.c[name] for name in ("first", "last", "min", "max", "steps", "count")]
    wanted = select(table.c.id, key.c.key, key.c.unit, key.c.direction, *columns).join(key)
    for row in connection.execute(wanted.where(table.c.run_id == run_id).order_by(key.c.key)):
        facts = dict(row._mapping)
        series_id = facts.pop("id")
        curve = _curve(connection, series_id) if facts["count"] > 1 else ()
        yield Summary(**facts, curve=curve)


def _curve(connection: Connection, series_id: int) -> tuple[tuple[int, float], ...]:
    """(step, value) of the finite points, thinned out evenly; the last one is always there."""
    table = schema.metric
    finite = (table.c.series_id == series_id) & table.c.value.is_not(None)
    wanted = select(table.c.step, table.c.value).where(finite).order_by(table.c.step)
    points = [(step, value) for step, value in connection.execute(wanted)]
    return tuple(points[:: -max(1, len(points) // _POINTS)][::-1])


def _params(connection: Connection, run_id: str) -> tuple[Param, ...]:
    table = schema.param
    wanted = select(table).where(table.c.run_id == run_id).order_by(table.c.key)
    return tuple(Param(r.key, r.text, r.default_text) for r in connection.execute(wanted))


def _events(connection: Connection, run_id: str) -> tuple[Event, ...]:
    table = schema.event
    wanted = select(table).where(table.c.run_id == run_id).order_by(table.c.seq)
    return tuple(Event(r.ts, r.kind, r.fields) for r in connection.execute(wanted))


def _column(connection: Connection, column: Column[Any], run_id: str) -> list[Any]:
    """The values of one column for a run."""
    wanted = select(column).where(column.table.c.run_id == run_id).order_by(column)
    return list(connection.execute(wanted).scalars())
