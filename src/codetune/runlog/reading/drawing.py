"""Which curves of one run, or of several, belong into one plot."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from codetune.errors import UserError
from codetune.runlog.reading.comparison import named
from codetune.runlog.reading.details import RunDetails
from codetune.runlog.reading.points import Curve, curves_of


@dataclass(frozen=True)
class Drawing:
    """Curves by their name in the legend, what they are of, and in which unit."""

    curves: Mapping[str, Curve]
    title: str
    metrics: tuple[str, ...]
    unit: str


def drawing_of(
    connection: Connection, runs: Sequence[RunDetails], metrics: Sequence[str], buckets: int
) -> Drawing:
    """The curves of `metrics`, or of the losses, each of at most about `buckets` buckets.

    UserError for a metric of which no run has two points.
    """
    counts = [{metric.key: metric.count for metric in run.metrics} for run in runs]
    for key in metrics:
        check_metric(key, [k for count in counts for k, n in count.items() if n > 1])
    keys = list(metrics) or (_losses(counts[0]) if len(runs) == 1 else _shared(counts))
    curves = {}
    for name, run in zip(named(runs), runs, strict=True):
        for key, curve in curves_of(connection, run.row.id, keys, buckets).items():
            label = key if len(runs) == 1 else name if len(keys) == 1 else f"{name} {key}"
            curves[label] = curve
    units = {m.unit for run in runs for m in run.metrics if m.key in keys and m.unit}
    return Drawing(curves, ", ".join(named(runs)), tuple(keys), ", ".join(sorted(units)))


def check_metric(key: str, known: Sequence[str]) -> None:
    """UserError with the closest name when `key` is not among the `known` metrics."""
    if key not in known:
        near = difflib.get_close_matches(key, known, 1)
        listed = ", ".join(dict.fromkeys(known)) or "none"
        hint = f"did you mean {near[0]}?" if near else f"those that have: {listed}"
        raise UserError(f"--metric: {key!r} has no points here; {hint}")


def _losses(counts: Mapping[str, int]) -> list[str]:
    """Of metrics with so many points, those that tell how a run went: its losses, or the first."""
    curves = [key for key, count in counts.items() if count > 1]
    losses = [str(key) for key in ("train_loss", "eval_loss") if key in curves]
    return losses or [*sorted((key for key in curves if "loss" in key), key=len), *curves][:1]


def _shared(counts: Sequence[Mapping[str, int]]) -> list[str]:
    """The one metric that compares runs best: the held-out loss, if enough runs have its curve."""
    having = {
        key: sum(1 for count in counts if count.get(key, 0) > 1)
        for key in dict.fromkeys(key for count in counts for key in count)
    }
    losses = [key for key in ("eval_loss", "train_loss") if key in having]
    order = [*losses, *sorted((key for key in having if "loss" in key), key=len), *having]
    return sorted((key for key in order if having[key]), key=lambda key: -having[key])[:1]
