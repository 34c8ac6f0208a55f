"""Numbers and verdicts of a comparison, against values worked out by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest

from codetune.evaluation.comparison import Comparison, compare
from codetune.evaluation.items import Scored
from codetune.evaluation.metrics import LOSS, METRICS, PERPLEXITY, deltas, means, to_log


def row(place: int, loss: float, *, task: str = "fim", **scores: float) -> Scored:
    facts = (f"row-{place:03d}", task, f"group-{place // 2}", f"source-{task}", 10)
    shown = {"answer": f"answer {loss}", "expected": "expected", "prompt_tail": "prompt"}
    return Scored(*facts, scores={LOSS: loss, **scores}, **shown)


def rows(losses: Sequence[float], **scores: float) -> list[Scored]:
    return [row(place, loss, **scores) for place, loss in enumerate(losses)]


def moved(by: float, n: int = 40) -> tuple[list[Scored], list[Scored]]:
    base = [1.0 + (place % 5) / 10 for place in range(n)]
    return rows(base), rows([loss + by + (place % 3) / 100 for place, loss in enumerate(base)])


def test_every_row_weighs_the_same_and_perplexity_follows_the_loss() -> None:
    base, tuned = rows([1.0, 2.0, 3.0]), rows([0.5, 2.0, 2.0])
    found = deltas(base, tuned)
    assert found[LOSS].base == pytest.approx(2.0)
    assert found[LOSS].tuned == pytest.approx(1.5)
    assert found[LOSS].delta == pytest.approx(-0.5)
    assert found[PERPLEXITY].base == pytest.approx(math.e**2)
    assert found[PERPLEXITY].delta == pytest.approx(math.e**1.5 - math.e**2)
    low, high = found[LOSS].ci_low, found[LOSS].ci_high
    assert low is not None and high is not None and low <= -0.5 <= high
    assert found[PERPLEXITY].ci_low == pytest.approx(math.exp(2.0 + low) - math.exp(2.0))
    assert (found[LOSS].n, found[LOSS].n_groups) == (3, 2)


def test_a_metric_counts_only_the_rows_that_have_it() -> None:
    base = [row(0, 1.0, fim_exact_match=0.0), row(1, 1.0, task="chat"), row(2, 1.0)]
    tuned = [row(0, 1.0, fim_exact_match=1.0), row(1, 1.0, task="chat"), row(2, 1.0)]
    found = deltas(base, tuned)
    assert set(found) == {LOSS, PERPLEXITY, "fim_exact_match"}
    exact = found["fim_exact_match"]
    assert (exact.base, exact.tuned, exact.n, exact.n_groups) == (0.0, 1.0, 1, 1)
    assert exact.ci_low is None and exact.ci_high is None
    assert (exact.direction, exact.unit) == ("higher", "share")
    assert means(tuned)["fim_exact_match"] == {
        "value": 1.0,
        "n": 1,
        "direction": "higher",
        "unit": "share",
    }


@pytest.mark.parametrize(
    ("by", "verdict"), [(-0.2, "better"), (0.2, "worse"), (0.0, "inconclusive")]
)
def test_the_verdict_follows_the_loss(by: float, verdict: str) -> None:
    base, tuned = moved(by)
    if by == 0.0:
        tuned = base
    assert compare(base, tuned).verdict == verdict
    swapped = {"better": "worse", "worse": "better", "inconclusive": "inconclusive"}
    assert compare(tuned, base).verdict == swapped[verdict]


def test_better_completions_do_not_make_a_worse_loss_better() -> None:
    base, tuned = moved(0.2)
    base = [row(place, one.scores[LOSS], fim_exact_match=0.0) for place, one in enumerate(base)]
    tuned = [row(place, one.scores[LOSS], fim_exact_match=1.0) for place, one in enumerate(tuned)]
    assert compare(base, tuned).verdict == "worse"


def test_few_groups_and_mixed_rows_are_inconclusive_and_say_why() -> None:
    few = compare(*moved(-0.2, n=8))
    assert few.verdict == "inconclusive"
    assert "4 independent groups are too few" in few.headline
    losses = [1.0] * 40
    mixed = compare(rows(losses), rows([1.05 + (-1) ** (place // 2) for place in range(40)]))
    assert mixed.verdict == "inconclusive"
    assert "includes zero" in mixed.headline


def test_parts_are_kept_apart() -> None:
    base = [row(place, 1.0, task=("fim", "chat")[place % 2]) for place in range(40)]
    tuned = [
        row(place, 0.5 if one.task == "fim" else 1.5, task=one.task)
        for place, one in enumerate(base)
    ]
    found = compare(base, tuned)
    assert found.per_task["fim"][LOSS].delta == pytest.approx(-0.5)
    assert found.per_task["chat"][LOSS].delta == pytest.approx(0.5)
    assert set(found.per_source) == {"source-fim", "source-chat"}
    assert found.primary.delta == pytest.approx(0.0)


def test_samples_show_the_most_improved_first_then_the_worst_of_each_task() -> None:
    base = [row(place, 1.0, task=("fim", "chat")[place % 2]) for place in range(40)]
    tuned = [row(place, place / 20, task=one.task) for place, one in enumerate(base)]
    samples = compare(base, tuned).samples
    changes = [sample["tuned_loss"] - sample["base_loss"] for sample in samples]
    assert len(samples) == len({sample["id"] for sample in samples}) == 16
    assert changes[:8] == sorted(changes[:8]) and max(changes[:8]) < 0
    assert changes[8:] == sorted(changes[8:], reverse=True) and min(changes[8:]) >= 0
    assert samples[0]["id"] == "row-000" and samples[8]["id"] == "row-039"
    for half in (samples[:8], samples[8:]):
        assert sorted(sample["task"] for sample in half) == ["chat"] * 4 + ["fim"] * 4


def test_rows_without_an_answer_are_no_samples() -> None:
    base, tuned = moved(-0.2)
    silent = [Scored(o.id, o.task, o.group, o.source, 1, o.scores) for o in base]
    assert compare(silent, tuned).samples == []


def test_other_rows_or_another_order_are_refused() -> None:
    base, tuned = moved(-0.2)
    for wrong in (tuned[::-1], tuned[:-1], []):
        with pytest.raises(ValueError, match="same items|argument"):
            compare(base, wrong)
    with pytest.raises(ValueError, match="same items"):
        compare([], [])


def test_the_document_has_the_keys_that_others_read() -> None:
    base, tuned = moved(-0.2)
    found = compare(base, tuned, settings={"seed": "0"}, seconds=1.5).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    wanted = "verdict primary n_rows n_groups metrics per_task samples settings seconds method"
    assert set(wanted.split()) <= set(found)
    assert (found["verdict"], found["primary"]) == ("better", "loss")
    assert (found["n_rows"], found["n_groups"]) == (40, 20)
    loss = "base tuned delta ci_low ci_high n n_groups direction unit"
    assert set(found["metrics"]["loss"]) == set(loss.split())
    sample = "id task group prompt_tail expected base tuned base_loss tuned_loss"
    assert set(sample.split()) <= set(found["samples"][0])
    assert "10,000" in found["method"] and "groups" in found["method"]


def test_equal_inputs_give_equal_documents() -> None:
    first, second = (compare(*moved(-0.1)).as_dict() for _ in range(2))
    assert first == second


def test_the_run_log_gets_every_side_with_its_meaning() -> None:
    found: Comparison = compare(*moved(-0.2))
    logged = {one.key: one for one in to_log(found.metrics)}
    assert logged["loss_delta"].value == pytest.approx(found.primary.delta)
    assert logged["loss_base"].direction == "lower"
    assert logged["loss_tuned"].unit == METRICS[LOSS].unit == "nats/token"
    assert set(logged) == {f"{n}_{s}" for n in found.metrics for s in ("base", "tuned", "delta")}
