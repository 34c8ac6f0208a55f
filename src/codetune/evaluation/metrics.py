"""The metrics of an evaluation: what each is called, its unit, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codetune.evaluation import fim
from codetune.evaluation.items import Scored
from codetune.evaluation.statistics import Direction, Effect, paired_effect

LOSS = "loss"
PERPLEXITY = "perplexity"


@dataclass(frozen=True)
class Metric:
    """A metric as the run log and the reports know it; raise `version` when its meaning changes."""

    name: str
    title: str
    unit: str
    direction: Direction
    version: int = 1


METRICS = {
    metric.name: metric
    for metric in (
        Metric(LOSS, "Loss on trained tokens", "nats/token", "lower"),
        Metric(PERPLEXITY, "Perplexity (from the loss)", "", "lower"),
        Metric(fim.EXACT_MATCH, "FIM exact match", "share", "higher"),
        Metric(fim.EDIT_SIMILARITY, "FIM edit similarity", "share", "higher"),
        Metric(fim.FIRST_LINE_MATCH, "FIM first-line match", "share", "higher"),
    )
}


@dataclass(frozen=True)
class Delta:
    """One metric of base and tuned, and the difference with its interval."""

    base: float
    tuned: float
    delta: float
    ci_low: float | None
    ci_high: float | None
    n: int
    n_groups: int
    direction: Direction
    unit: str

    def as_dict(self) -> dict[str, Any]:
        """What stands in `compare.json`."""
        return asdict(self)


@dataclass(frozen=True)
class Logged:
    """One value for the run log, with what it means."""

    key: str
    value: float
    unit: str
    direction: Direction
    version: int


def to_log(found: Mapping[str, Delta]) -> list[Logged]:
    """Base, tuned and difference of every metric, under keys such as `loss_tuned`."""
    return [
        Logged(f"{name}_{side}", value, delta.unit, delta.direction, METRICS[name].version)
        for name, delta in found.items()
        for side, value in (("base", delta.base), ("tuned", delta.tuned), ("delta", delta.delta))
    ]


def deltas(base: Sequence[Scored], tuned: Sequence[Scored], *, seed: int = 0) -> dict[str, Delta]:
    """Every metric that at least one row has, paired by position. Empty for no rows."""
    found = {}
    for name in METRICS:
        pairs = [
            (ours.scores[name], theirs.scores[name], ours.group)
            for ours, theirs in zip(base, tuned, strict=True)
            if name in ours.scores and name in theirs.scores
        ]
        if pairs:
            found[name] = _delta(METRICS[name], pairs, seed)
            if name == LOSS:
                found[PERPLEXITY] = perplexity(found[LOSS])
    return found


def means(rows: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """Every metric of one model alone: `{"value", "n", "direction", "unit"}` by name."""
    found: dict[str, dict[str, Any]] = {}
    for name, metric in METRICS.items():
        key = LOSS if name == PERPLEXITY else name
        values = [row.scores[key] for row in rows if key in row.scores]
        if values:
            mean = math.fsum(values) / len(values)
            found[name] = {
                "value": math.exp(mean) if name == PERPLEXITY else mean,
                "n": len(values),
                "direction": metric.direction,
                "unit": metric.unit,
            }
    return found


def perplexity(loss: Delta) -> Delta:
    """The loss read as perplexity: `exp` of the mean; the interval is the loss's, carried over."""

    def shifted(change: float | None) -> float | None:
        return None if change is None else math.exp(loss.base) * math.expm1(change)

    return Delta(
        base=math.exp(loss.base),
        tuned=math.exp(loss.tuned),
        delta=math.exp(loss.tuned) - math.exp(loss.base),
        ci_low=shifted(loss.ci_low),
        ci_high=shifted(loss.ci_high),
        n=loss.n,
        n_groups=loss.n_groups,
        direction="lower",
        unit=METRICS[PERPLEXITY].unit,
    )


def as_effect(delta: Delta) -> Effect:
    """The difference alone, as the verdict is drawn from."""
    return Effect(delta.delta, delta.ci_low, delta.ci_high, delta.n, delta.n_groups)


def _delta(metric: Metric, pairs: list[tuple[float, float, str]], seed: int) -> Delta:
    effect = paired_effect(
        [tuned - base for base, tuned, _ in pairs], [group for _, _, group in pairs], seed=seed
    )
    base = math.fsum(base for base, _, _ in pairs) / len(pairs)
    return Delta(
        base=base,
        tuned=math.fsum(tuned for _, tuned, _ in pairs) / len(pairs),
        delta=effect.mean,
        ci_low=effect.low,
        ci_high=effect.high,
        n=effect.n,
        n_groups=effect.n_groups,
        direction=metric.direction,
        unit=metric.unit,
    )
