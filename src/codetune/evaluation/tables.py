"""Differences as the strings a person reads, the same in the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from codetune import console
from codetune.evaluation.metrics import METRICS, Delta, as_effect
from codetune.evaluation.statistics import MIN_GROUPS

Side = Literal["good", "bad", "flat"]
COLUMNS = ("", "base", "tuned", "difference", "95 % interval", "rows", "groups")
_SHARE = "share"


@dataclass(frozen=True)
class MetricRow:
    """One metric of base and tuned; `part` names the part of the rows it starts, if any."""

    name: str
    title: str
    base: str
    tuned: str
    delta: str
    interval: str
    n: str
    n_groups: str
    side: Side
    part: str = ""

    def values(self) -> list[str]:
        """What stands beside the title, in the order of `COLUMNS`."""
        return [self.base, self.tuned, self.delta, self.interval, self.n, self.n_groups]


def metric_rows(metrics: Mapping[str, Delta], part: str = "") -> list[MetricRow]:
    """The table rows of `metrics`, in the order they are defined."""
    names = [name for name in METRICS if name in metrics]
    return [_row(name, metrics[name], "" if place else part) for place, name in enumerate(names)]


def part_rows(parts: Mapping[str, Mapping[str, Delta]], kind: str) -> list[MetricRow]:
    """The rows of every part, each under its own heading such as `task: fim`."""
    return [row for name in parts for row in metric_rows(parts[name], f"{kind}: {name}")]


def console_table(title: str, rows: Sequence[MetricRow]) -> console.Table:
    """The same table for a terminal, where names are short."""
    return console.table(title, COLUMNS, [[row.name, *row.values()] for row in rows])


def baseline_table(title: str, metrics: Mapping[str, Mapping[str, Any]]) -> console.Table:
    """One model's metrics, as `metrics.means` gives them, for a terminal."""
    rows = [
        [name, value(found["unit"], found["value"]), f"{found['n']:,}"]
        for name, found in metrics.items()
    ]
    return console.table(title, ["", "value", "rows"], rows)


def markdown_table(rows: Sequence[MetricRow]) -> str:
    """The same table in Markdown; parts become rows of their own."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    for row in rows:
        if row.part:
            lines.append(f"| **{escaped(row.part)}** |" + " |" * (len(COLUMNS) - 1))
        lines.append("| " + " | ".join(escaped(cell) for cell in [row.title, *row.values()]) + " |")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """`text` for a Markdown table cell or list: one line, nothing in it read as markup."""
    flat = " ".join(console.clean(text).split())
    return "".join(f"\\{mark}" if mark in "\\`*_[]<>|#!" else mark for mark in flat)


def side_of(delta: Delta) -> Side:
    """good or bad when the interval lies on one side of zero and groups are not too few."""
    if delta.n_groups < MIN_GROUPS or not as_effect(delta).excludes_zero:
        return "flat"
    return "good" if (delta.delta < 0) == (delta.direction == "lower") else "bad"


def interval(delta: Delta) -> str:
    """The interval of a difference, or a dash where there is none."""
    if delta.ci_low is None or delta.ci_high is None:
        return "-"
    return f"{_signed(delta, delta.ci_low)} to {_signed(delta, delta.ci_high)}"


def difference(delta: Delta) -> str:
    """The difference with its sign; shares as percentage points."""
    points = " pp" if delta.unit == _SHARE else ""
    return _signed(delta, delta.delta) + points


def value(unit: str, number: float) -> str:
    """A value in `unit`: shares as per cent, the rest with four decimals or fewer."""
    if unit == _SHARE:
        return f"{number:.1%}".replace("%", " %")
    return f"{number:.4f}" if abs(number) < 100 else f"{number:,.1f}"


def _row(name: str, delta: Delta, part: str) -> MetricRow:
    return MetricRow(
        name=name,
        title=METRICS[name].title,
        base=value(delta.unit, delta.base),
        tuned=value(delta.unit, delta.tuned),
        delta=difference(delta),
        interval=interval(delta),
        n=f"{delta.n:,}",
        n_groups=f"{delta.n_groups:,}",
        side=side_of(delta),
        part=part,
    )


def _signed(delta: Delta, number: float) -> str:
    if delta.unit == _SHARE:
        return f"{number * 100:+.1f}"
    return f"{number:+.4f}" if abs(number) < 100 else f"{number:+,.1f}"
