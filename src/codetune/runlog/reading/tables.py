"""Runs as tables for a person."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from codetune.console import Table, table
from codetune.runlog.local import RunRow
from codetune.runlog.reading.details import RunDetails, Summary

_FIGURES = 3  # beside a run in a list
_SHORT = 8  # characters of an id or a hash that a person compares


def run_table(title: str, rows: Sequence[RunRow]) -> Table:
    """One line a run; the ids are the ends of the real ones, which tell runs apart sooner."""
    columns = ["id", "name", "stage", "status", "when", "took", "figures"]
    return table(title, columns, [_line(row) for row in rows])


def detail_tables(run: RunDetails) -> Iterator[Table]:
    """Everything about a run; tables that would be empty are left out."""
    changed = [[p.key, p.value, p.default] for p in run.params if p.default is not None]
    files = [[f.role, f.kind, f.path, (f.sha256 or "-")[:_SHORT]] for f in run.row.files]
    happened = [[when(event.ts), event.kind, _words(event.fields)] for event in run.events]
    columns = ["metric", "first", "last", "best", "min", "max", "points"]
    parts: list[tuple[str, list[str], Sequence[Sequence[object]]]] = [
        (run.row.name, ["", ""], _facts(run)),
        ("knobs changed from their defaults", ["knob", "value", "default"], changed),
        ("files", ["", "what", "path", "sha256"], files),
        ("metrics", columns, [_figures(metric) for metric in run.metrics]),
        ("events", ["when", "what", ""], happened),
        ("runs it started", ["id", "name", "status"], [_child(row) for row in run.children]),
    ]
    return (table(title, columns, rows) for title, columns, rows in parts if rows)


def when(ms: int) -> str:
    """A moment (ms UTC) in the reader's own time zone, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))


def duration(row: RunRow) -> str:
    """How long a run took: until now while it runs, until its last sign of life if it crashed."""
    if row.started is None:
        return "-"
    until = time.time() * 1000 if row.status == "running" else row.ended or row.heartbeat
    seconds = (until - row.started) / 1000
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _line(row: RunRow) -> list[str]:
    figures = _words(dict(list(row.metrics.items())[:_FIGURES]))
    moment = when(row.created)[5:]  # the year is in `show`
    return [row.id[-_SHORT:], row.name, row.stage, row.status, moment, duration(row), figures]


def _child(row: RunRow) -> list[str]:
    return [row.id[-_SHORT:], row.name, row.status]


def _facts(run: RunDetails) -> list[tuple[str, object]]:
    row, env = run.row, run.environment
    packages = " ".join(f"{name} {version}" for name, version in env.get("packages", {}).items())
    return [
        ("id", row.id),
        ("stage", f"{row.stage}, version {run.version}"),
        ("status", f"{row.status}{': ' if row.reason else ''}{row.reason}"),
        ("when", f"{when(row.started or row.created)}, {duration(row)}"),
        ("command", " ".join(run.argv)),
        ("code", _code(run)),
        ("seed", "-" if run.seed is None else run.seed),
        ("parent", row.parent or "-"),
        ("machine", f"{env.get('cpu')}, {env.get('cpu_count')} cores, {env.get('memory_gib')} GiB"),
        ("GPU", ", ".join(env.get("gpus", [])) or "none"),
        ("peak memory", f"{run.peak_rss / 2**30:.2f} GiB" if run.peak_rss else "-"),
        ("python", f"{env.get('python')} on {env.get('system')} {env.get('release')}"),
        ("packages", packages),
        ("tags", " ".join(run.tags) or "-"),
    ]


def _code(run: RunDetails) -> str:
    changes = f"changes {run.diff_sha256[:_SHORT]}" if run.diff_sha256 else ""
    if run.commit is None:
        return f"no commit {changes}".rstrip()
    return f"{run.commit[:12]}{' with ' if changes else ''}{changes}"


def _figures(metric: Summary) -> list[object]:
    values = (metric.first, metric.last, metric.best, metric.min, metric.max)
    unit = f" [{metric.unit}]" if metric.unit else ""
    return [metric.key + unit, *map(_number, values), metric.count]


def _words(fields: Mapping[str, object]) -> str:
    return " ".join(f"{key}={_number(value)}" for key, value in fields.items())


def _number(value: object) -> str:
    if value is None:
        return "nan"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
