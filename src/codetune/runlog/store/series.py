"""Metric points as rows, and what they add to the summary of their series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from codetune.runlog import meaning
from codetune.runlog.store import schema
from codetune.runlog.store.insert import insert, upsert

Key = tuple[str, int]  # of a metric: its name, and the version of its definition
_ENDS = ("first", "last", "min", "max", "min_step", "max_step", "steps", "count")


@dataclass
class Points:
    """Points of one run in the order logged, and definitions of metrics."""

    run_id: str
    logged: list[tuple[Key, dict[str, Any]]] = field(default_factory=list)  # step, value, ts
    definitions: dict[Key, dict[str, str]] = field(default_factory=dict)  # unit, direction

    def write(self, connection: Connection) -> None:
        """Puts them into the tables; the last point logged wins a step."""
        key_ids = _key_ids(connection, {key for key, _ in self.logged}, self.definitions)
        summaries = _summaries(connection, self.run_id, key_ids.values())
        for key, point in self.logged:
            key_id = key_ids[key]
            summaries[key_id] = _with(summaries.get(key_id), point)
        rows = [{"run_id": self.run_id, "key_id": n, **s} for n, s in summaries.items()]
        upsert(connection, schema.series, rows, ("run_id", "key_id"), changing=_ENDS)
        ids = _series_ids(connection, self.run_id) if rows else {}
        points: dict[tuple[int, int], dict[str, Any]] = {}
        for key, point in self.logged:
            series_id = ids[key_ids[key]]
            points[series_id, point["step"]] = {"series_id": series_id, **point}
        in_order = [points[place] for place in sorted(points)]
        upsert(connection, schema.metric, in_order, ("series_id", "step"), ("value", "ts"))


def _key_ids(
    connection: Connection, used: set[Key], definitions: Mapping[Key, dict[str, str]]
) -> dict[Key, int]:
    """Ids of metric keys. New ones are registered, and newly defined ones take their definition,
    always in one order, so that no two writers wait for each other.
    """
    table = schema.metric_key
    names = used | definitions.keys()
    rows = {name: _undefined(name) for name in sorted(names)}
    known = _known_keys(connection, names)
    insert(connection, table, [row for name, row in rows.items() if name not in known])
    defined = [rows[name] | definitions[name] for name in sorted(definitions)]
    upsert(connection, table, defined, ("key", "version"), changing=("unit", "direction"))
    return known if names <= known.keys() else _known_keys(connection, names)


def _undefined(name: Key) -> dict[str, Any]:
    """The row of a metric that its stage did not define, or not yet: its name tells its meaning."""
    unit, direction = meaning.of(name[0])
    return {"key": name[0], "version": name[1], "unit": unit, "direction": direction}


def _known_keys(connection: Connection, names: Iterable[Key]) -> dict[Key, int]:
    table = schema.metric_key
    wanted = select(table).where(table.c.key.in_({key for key, _ in names}))
    return {(row.key, row.version): row.id for row in connection.execute(wanted)}


def _summaries(
    connection: Connection, run_id: str, key_ids: Iterable[int]
) -> dict[int, dict[str, Any]]:
    table = schema.series
    wanted = select(table.c.key_id, *(table.c[name] for name in _ENDS))
    wanted = wanted.where(table.c.run_id == run_id, table.c.key_id.in_(list(key_ids)))
    rows = [dict(row) for row in connection.execute(wanted).mappings()]
    return {row.pop("key_id"): row for row in rows}


def _series_ids(connection: Connection, run_id: str) -> dict[int, int]:
    table = schema.series
    wanted = select(table.c.key_id, table.c.id).where(table.c.run_id == run_id)
    return {row.key_id: row.id for row in connection.execute(wanted)}


def _with(summary: Mapping[str, Any] | None, point: Mapping[str, Any]) -> dict[str, Any]:
    """A summary with one more point; points without a finite value only count."""
    value, step = point["value"], point["step"]
    if summary is None:
        at = None if value is None else step
        ends = {"first": value, "last": value, "min": value, "max": value}
        return {**ends, "min_step": at, "max_step": at, "steps": step, "count": 1}
    total = {**summary, "last": value, "count": summary["count"] + 1}
    total["steps"] = max(summary["steps"], step)
    if value is not None:
        if summary["min"] is None or value < summary["min"]:
            total |= {"min": value, "min_step": step}
        if summary["max"] is None or value > summary["max"]:
            total |= {"max": value, "max_step": step}
    return total
