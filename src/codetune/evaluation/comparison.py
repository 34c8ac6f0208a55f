"""Base against tuned over the same items: the verdict, the numbers and the samples to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codetune.evaluation.items import Scored
from codetune.evaluation.metrics import LOSS, Delta, as_effect, deltas
from codetune.evaluation.statistics import METHOD, Verdict, judge

SAMPLES_EACH_WAY = 4
Pair = tuple[Scored, Scored]  # one item under base and under tuned


@dataclass(frozen=True)
class Comparison:
    """What `compare.json` holds and the report shows."""

    verdict: Verdict
    reason: str
    metrics: Mapping[str, Delta]
    per_task: Mapping[str, Mapping[str, Delta]]
    per_source: Mapping[str, Mapping[str, Delta]]
    pairs: Sequence[Pair]
    samples: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    seconds: float

    @property
    def primary(self) -> Delta:
        """The metric the verdict is drawn from."""
        return self.metrics[LOSS]

    @property
    def headline(self) -> str:
        """The verdict and its number, as one line."""
        loss = self.primary
        interval = "no interval"
        if loss.ci_low is not None and loss.ci_high is not None:
            interval = f"95 % interval {loss.ci_low:+.4f} to {loss.ci_high:+.4f}"
        numbers = f"loss {loss.base:.4f} -> {loss.tuned:.4f} ({loss.delta:+.4f}; {interval})"
        size = f"{loss.n:,} rows in {loss.n_groups:,} groups"
        why = f"; {self.reason}" if self.verdict == "inconclusive" else ""
        return f"{self.verdict}: {numbers}, {size}{why}"

    def as_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "reason": self.reason,
            "primary": LOSS,
            "n_rows": self.primary.n,
            "n_groups": self.primary.n_groups,
            "metrics": _plain(self.metrics),
            "per_task": {task: _plain(found) for task, found in self.per_task.items()},
            "per_source": {source: _plain(found) for source, found in self.per_source.items()},
            "samples": [dict(sample) for sample in self.samples],
            "settings": dict(self.settings),
            "seconds": self.seconds,
            "method": METHOD,
        }


def compare(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    *,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
) -> Comparison:
    """The comparison of two runs over the same items, in the same order.

    Raises ValueError when they are not the same items, or there are none.
    """
    pairs = list(zip(base, tuned, strict=True))
    if not pairs or any(ours.id != theirs.id for ours, theirs in pairs):
        raise ValueError("base and tuned must be scored on the same items, in the same order")
    metrics = deltas(base, tuned, seed=seed)
    verdict, reason = judge(as_effect(metrics[LOSS]))
    return Comparison(
        verdict=verdict,
        reason=reason,
        metrics=metrics,
        per_task=_by(pairs, lambda row: row.task, seed),
        per_source=_by(pairs, lambda row: row.source, seed),
        pairs=pairs,
        samples=samples(pairs),
        settings=settings or {},
        seconds=seconds,
    )


def samples(pairs: Sequence[Pair], each_way: int = SAMPLES_EACH_WAY) -> list[dict[str, Any]]:
    """What to show: a few of each task, the most improved first, then the worst."""
    shown = [pair for pair in pairs if pair[0].answer is not None and pair[1].answer is not None]
    improved = [pair for pair in shown if _change(pair) < 0]
    others = [pair for pair in shown if _change(pair) >= 0]
    improved.sort(key=lambda pair: (_change(pair), pair[0].id))
    others.sort(key=lambda pair: (-_change(pair), pair[0].id))
    return [
        _sample(pair)
        for ranked in (improved, others)
        for pair in _few_of_each_task(ranked, each_way)
    ]


def _few_of_each_task(ranked: Sequence[Pair], limit: int) -> Iterator[Pair]:
    seen: Counter[str] = Counter()
    for pair in ranked:
        seen[pair[0].task] += 1
        if seen[pair[0].task] <= limit:
            yield pair


def _change(pair: Pair) -> float:
    return pair[1].scores[LOSS] - pair[0].scores[LOSS]


def _sample(pair: Pair) -> dict[str, Any]:
    base, tuned = pair
    return {
        "id": base.id,
        "task": base.task,
        "group": base.group,
        "prompt_tail": base.prompt_tail,
        "expected": base.expected,
        "base": base.answer,
        "tuned": tuned.answer,
        "base_loss": base.scores[LOSS],
        "tuned_loss": tuned.scores[LOSS],
        "base_remarks": list(base.remarks),
        "tuned_remarks": list(tuned.remarks),
    }


def _by(
    pairs: Sequence[Pair], key: Callable[[Scored], str], seed: int
) -> dict[str, Mapping[str, Delta]]:
    """The metrics of each part of the rows, by name."""
    parts: dict[str, list[Pair]] = {}
    for pair in pairs:
        parts.setdefault(key(pair[0]), []).append(pair)
    return {
        name: deltas([b for b, _ in parts[name]], [t for _, t in parts[name]], seed=seed)
        for name in sorted(parts)
    }


def _plain(metrics: Mapping[str, Delta]) -> dict[str, Any]:
    return {name: delta.as_dict() for name, delta in metrics.items()}
