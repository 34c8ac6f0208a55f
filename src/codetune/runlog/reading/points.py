"""The points of a metric: all of them, or as a curve of few that hides no spike."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from codetune.runlog.reading.layout import one_line
from codetune.runlog.store import schema

# Up to so many points a bucket, reading them all costs less than asking for each bucket.
_READ_WHOLE = 4
_BATCH = 10_000


@dataclass(frozen=True)
class Bucket:
    """The finite values from `step` up to the next bucket's step."""

    step: int
    low: float
    mean: float
    high: float


Curve = tuple[Bucket, ...]


@dataclass(frozen=True)
class Point:
    """One logged value at `ts` (ms UTC); None where it was not finite."""

    step: int
    value: float | None
    ts: int


def series_of(connection: Connection, run_id: str) -> dict[str, tuple[int, int]]:
    """(id, number of points) of each metric of a run; of its newest definition, if it has two."""
    table, key = schema.series, schema.metric_key
    wanted = select(key.c.key, table.c.id, table.c.count).join(key)
    wanted = wanted.where(table.c.run_id == run_id).order_by(key.c.key, key.c.version)
    return {name: (series, count) for name, series, count in connection.execute(wanted)}


def curves_of(
    connection: Connection, run_id: str, keys: Iterable[str], buckets: int, *, fewest: int = 2
) -> dict[str, Curve]:
    """The curves of the metrics named in `keys`, each with at most about `buckets` buckets.

    Metrics with less than `fewest` finite points have none.
    """
    series = series_of(connection, run_id)
    found = {key: _curve(connection, *series[key], buckets) for key in keys if key in series}
    return {key: curve for key, curve in found.items() if len(curve) >= fewest}


def points_of(connection: Connection, series: int) -> Iterator[Point]:
    """All points by step, a few thousand in memory at a time."""
    table = schema.metric
    wanted = select(table.c.step, table.c.value, table.c.ts).where(table.c.series_id == series)
    streamed = connection.execution_options(yield_per=_BATCH).execute(wanted.order_by(table.c.step))
    for step, value, ts in streamed:
        yield Point(step, value, ts)


def as_text(connection: Connection, run_id: str, keys: Sequence[str]) -> Iterator[str]:
    """The points of some metrics as lines `key step value time`, in pieces of many lines."""
    series = series_of(connection, run_id)
    for key in keys:
        points = points_of(connection, series[key][0])
        while some := list(islice(points, _BATCH)):
            yield "\n".join(
                f"{one_line(key)} {p.step} {_value_of(p)} {_moment(p.ts)}" for p in some
            )


def as_json(
    connection: Connection, run_id: str, head: dict[str, Any], series: Sequence[dict[str, Any]]
) -> Iterator[str]:
    """One JSON object, in pieces: `head`, and under `series` each of these with its points as
    [step, value, ms UTC].
    """
    ids = series_of(connection, run_id)
    yield json.dumps(head)[:-1] + ', "series": ['
    for number, facts in enumerate(series):
        yield ("," if number else "") + json.dumps(facts)[:-1] + ', "points": ['
        points = points_of(connection, ids[facts["key"]][0])
        comma = ""
        while some := list(islice(points, _BATCH)):
            yield comma + json.dumps([[p.step, p.value, p.ts] for p in some])[1:-1]
            comma = ","
        yield "]}"
    yield "]}"


def _value_of(point: Point) -> str:
    return "nan" if point.value is None else repr(point.value)


def _moment(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(ms / 1000))


def _curve(connection: Connection, series: int, count: int, buckets: int) -> Curve:
    table = schema.metric
    mine = table.c.series_id == series
    if count <= _READ_WHOLE * buckets:
        wanted = select(table.c.step, table.c.value).where(mine, table.c.value.is_not(None))
        rows = connection.execute(wanted.order_by(table.c.step))
        return tuple(Bucket(step, value, value, value) for step, value in rows)
    # Each end by a seek in the index: asked for together, they would cost a walk over all points.
    first = connection.execute(select(func.min(table.c.step)).where(mine)).scalar_one()
    last = connection.execute(select(func.max(table.c.step)).where(mine)).scalar_one()
    size = max(1, -(-(last - first + 1) // buckets))
    starts = range(first, last + 1, size)
    found = (_bucket(connection, series, start, start + size) for start in starts)
    curve = [bucket for bucket in found if bucket is not None]
    return (*curve[:-1], *(replace(bucket, step=last) for bucket in curve[-1:]))


_value, _step = schema.metric.c.value, schema.metric.c.step
# A range of the primary key for each bucket: grouping would sort every point of the series.
_IN_RANGE = select(func.min(_step), func.min(_value), func.avg(_value), func.max(_value)).where(
    schema.metric.c.series_id == bindparam("series"),
    _step >= bindparam("start"),
    _step < bindparam("end"),
    _value.is_not(None),
)


def _bucket(connection: Connection, series: int, start: int, end: int) -> Bucket | None:
    row = connection.execute(_IN_RANGE, {"series": series, "start": start, "end": end}).one()
    return None if row[0] is None else Bucket(*row)
