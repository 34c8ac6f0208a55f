"""The comparison as one self-contained HTML page: verdict first, then numbers, then samples.

Everything that comes from a row or a model is untrusted text: jinja2 escapes all of it, control
characters and bidirectional overrides are stripped, and the page's own policy forbids scripts and
any request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codetune.evaluation import plots, tables
from codetune.evaluation.comparison import Comparison
from codetune.evaluation.metrics import LOSS, METRICS, PERPLEXITY, Delta
from codetune.evaluation.statistics import METHOD
from codetune.page import rendered

TEMPLATE = "page.html.j2"
_SAYS = {
    "better": "better than its base",
    "worse": "worse than its base",
    "inconclusive": "inconclusive",
}


def render(found: Comparison, title: str) -> str:
    """The page; `title` says what was compared with what."""
    return rendered(
        str(__package__),
        TEMPLATE,
        title=title,
        verdict=found.verdict,
        says=_SAYS[found.verdict],
        explanation=explanation(found),
        figures=_figures(found),
        main_rows=tables.metric_rows(found.metrics),
        part_rows=[
            *tables.part_rows(found.per_task, "task"),
            *tables.part_rows(found.per_source, "source"),
        ],
        loss_forest=_loss_forest(found),
        share_forest=_share_forest(found),
        scatter=plots.scatter(
            [(b.id, b.scores[LOSS], t.scores[LOSS]) for b, t in found.pairs], "nats/token"
        ),
        waterfall=plots.waterfall(
            [(b.id, t.scores[LOSS] - b.scores[LOSS]) for b, t in found.pairs], "nats/token"
        ),
        sample_parts=_sample_parts(found),
        method=METHOD,
        facts=facts(found),
    )


def explanation(found: Comparison) -> str:
    """The verdict in two sentences."""
    loss, seen = found.primary, tables.interval(found.primary)
    way = "fell" if loss.delta < 0 else "rose" if loss.delta > 0 else "did not change"
    change = "" if loss.delta == 0 else f" by {abs(loss.delta):.4f} nats per token"
    said = f"On {loss.n:,} held-out rows in {loss.n_groups:,} groups the loss on trained tokens "
    said += f"{way}{change}, from {loss.base:.4f} to {loss.tuned:.4f}"
    said += f" (95 % interval {seen})." if loss.ci_low is not None else "."
    if found.verdict == "inconclusive":
        said += f" This is no proof either way: {found.reason}."
    return said


def facts(found: Comparison) -> list[tuple[str, str]]:
    """What was run and with which settings, to be shown as they are."""
    shown = [(name, str(value)) for name, value in found.settings.items()]
    return [*shown, ("time", f"{found.seconds:.1f} s")]


def _figures(found: Comparison) -> list[dict[str, str]]:
    """The few numbers of the headline: loss, perplexity, and what of FIM was measured."""
    shown = []
    for name in METRICS:
        if name in found.metrics and name != LOSS:
            delta = found.metrics[name]
            numbers = f"{_short(delta, delta.base)} → {_short(delta, delta.tuned)}"
            label = "Perplexity" if name == PERPLEXITY else METRICS[name].title
            shown.append({"value": numbers, "label": label})
    return shown


def _short(delta: Delta, number: float) -> str:
    return f"{number:.2f}" if delta.unit != "share" else f"{number:.0%}".replace("%", " %")


def _loss_forest(found: Comparison) -> str:
    parts = [("all rows", found.primary)]
    parts += [(f"task: {name}", part[LOSS]) for name, part in found.per_task.items()]
    parts += [(f"source: {name}", part[LOSS]) for name, part in found.per_source.items()]
    rows = [_forest_row(label, delta, 1) for label, delta in parts]
    return plots.forest(rows, "nats per token", "left of the line is better")


def _share_forest(found: Comparison) -> str:
    shares = {n: d for n, d in found.metrics.items() if d.unit == "share"}
    rows = [_forest_row(METRICS[name].title, delta, 100) for name, delta in shares.items()]
    return plots.forest(rows, "percentage points", "right of the line is better") if rows else ""


def _forest_row(label: str, delta: Delta, factor: float) -> plots.ForestRow:
    return plots.ForestRow(
        label=label,
        note=f"{tables.difference(delta)} (n = {delta.n:,})",
        delta=delta.delta * factor,
        low=None if delta.ci_low is None else delta.ci_low * factor,
        high=None if delta.ci_high is None else delta.ci_high * factor,
        improved={"good": True, "bad": False, "flat": None}[tables.side_of(delta)],
    )


def _sample_parts(found: Comparison) -> list[dict[str, Any]]:
    shown = [_sample(sample) for sample in found.samples]
    improved = [sample for sample in shown if sample["side"] == "good"]
    others = [sample for sample in shown if sample["side"] != "good"]
    parts = [
        (
            "Most improved",
            "Rows whose loss fell most, of those that text was generated for.",
            improved,
        ),
        ("Least improved, or worse", "Rows whose loss rose most, or fell least.", others),
    ]
    return [{"title": t, "note": note, "samples": rows} for t, note, rows in parts if rows]


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    change = sample["tuned_loss"] - sample["base_loss"]
    sides = [{"title": "Expected", "text": sample["expected"], "chips": []}]
    for side in ("base", "tuned"):
        chips = [f"loss {sample[f'{side}_loss']:.3f}", *sample[f"{side}_remarks"]]
        text = sample[side]
        sides.append({"title": side.capitalize(), "text": text, "chips": chips})
    return {
        "task": sample["task"],
        "id": sample["id"],
        "asked": "Before the gap" if sample["task"] == "fim" else "Asked",
        "prompt_tail": sample["prompt_tail"],
        "change": f"{change:+.3f}",
        "side": "good" if change < 0 else "bad" if change > 0 else "flat",
        "sides": sides,
    }
