"""One run in full, as `runs show` and a run's page need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, func, select

from codetune.runlog.local import RunRow
from codetune.runlog.reading.rows import rows_of
from codetune.runlog.store import schema


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
    version: int
    unit: str
    direction: str
    first: float | None
    last: float | None
    min: float | None
    max: float | None
    min_step: int | None  # of the first point that was as low
    max_step: int | None
    steps: int  # the highest
    count: int

    @property
    def best(self) -> float | None:
        """The lowest or highest value, whichever is better; the last where neither is."""
        return {"lower": self.min, "higher": self.max}.get(self.direction, self.last)

    @property
    def best_step(self) -> int | None:
        """The step of the best value; None where neither direction is better."""
        return {"lower": self.min_step, "higher": self.max_step}.get(self.direction)


@dataclass(frozen=True)
class Event:
    """Something that happened, at `ts` (ms UTC)."""

    ts: int
    kind: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Note:
    """What a person wrote about a run, at `ts` (ms UTC)."""

    ts: int
    text: str


@dataclass(frozen=True)
class Peaks:
    """The highest of each system sample; None where nothing was sampled."""

    cpu_percent: float | None = None  # of one core
    rss: int | None = None  # bytes
    gpu_percent: float | None = None
    gpu_memory: int | None = None  # bytes
    gpu_temperature: float | None = None  # degrees Celsius
    gpu_power: float | None = None  # watts


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
    notes: tuple[Note, ...]
    events: tuple[Event, ...]
    peaks: Peaks
    children: tuple[RunRow, ...]

    @property
    def peak_rss(self) -> int | None:
        """The most memory the process held, in bytes; None where it was never sampled."""
        return self.peaks.rss


def details_of(connection: Connection, run_id: str) -> RunDetails:
    """Everything about the run with this id."""
    run = connection.execute(select(schema.run).where(schema.run.c.id == run_id)).one()
    children = select(schema.run).where(schema.run.c.parent_id == run_id).order_by(schema.run.c.id)
    facts = select(schema.env_snapshot.c.facts).where(schema.env_snapshot.c.hash == run.env_hash)
    tags = select(schema.tag.c.text).where(schema.tag.c.run_id == run_id)
    return RunDetails(
        row=rows_of(connection, select(schema.run).where(schema.run.c.id == run_id))[0],
        version=run.stage_version,
        seed=run.seed,
        argv=run.argv or [],
        commit=run.git_commit,
        diff_sha256=run.git_diff_sha256,
        environment=connection.execute(facts).scalar() or {},
        params=_params(connection, run_id),
        metrics=tuple(_metrics(connection, run_id)),
        tags=tuple(sorted(connection.execute(tags).scalars())),
        notes=_notes(connection, run_id),
        events=_events(connection, run_id),
        peaks=_peaks(connection, run_id),
        children=tuple(rows_of(connection, children)),
    )


def _metrics(connection: Connection, run_id: str) -> Iterator[Summary]:
    table, key = schema.series, schema.metric_key
    names = ("first", "last", "min", "max", "min_step", "max_step", "steps", "count")
    columns = [table.c[name] for name in names]
    wanted = select(key.c.key, key.c.version, key.c.unit, key.c.direction, *columns).join(key)
    wanted = wanted.where(table.c.run_id == run_id)
    found = (Summary(**row) for row in connection.execute(wanted).mappings())
    yield from sorted(found, key=lambda metric: (metric.key, metric.version))


def _params(connection: Connection, run_id: str) -> tuple[Param, ...]:
    found = _rows(connection, schema.param.c.key, run_id)
    return tuple(sorted((Param(r.key, r.text, r.default_text) for r in found), key=_key))


def _key(param: Param) -> str:
    return param.key  # sorted here: servers sort text each by its own rules


def _events(connection: Connection, run_id: str) -> tuple[Event, ...]:
    found = _rows(connection, schema.event.c.seq, run_id)
    return tuple(Event(r.ts, r.kind, r.fields) for r in found)


def _notes(connection: Connection, run_id: str) -> tuple[Note, ...]:
    return tuple(Note(r.ts, r.text) for r in _rows(connection, schema.note.c.seq, run_id))


def _peaks(connection: Connection, run_id: str) -> Peaks:
    table = schema.system_sample
    highest = [func.max(table.c[name]).label(name) for name in Peaks.__dataclass_fields__]
    found = connection.execute(select(*highest).where(table.c.run_id == run_id)).mappings().one()
    return Peaks(**found)


def _rows(connection: Connection, order: Column[Any], run_id: str) -> list[Any]:
    """The rows of the table of `order` for a run, in that order."""
    table = order.table
    wanted = select(table).where(table.c.run_id == run_id).order_by(order)
    return list(connection.execute(wanted))
