"""Packing: no row lost, cut or doubled, no bin over-full, and close to the best."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.tokens import Tokenizer, histogram, packing
from codetune.tokens.lengths import (
    QUANTILES,
    Measured,
    by_group,
    measure,
    packed,
    quantiles,
    summarise,
)

lengths = st.lists(st.integers(1, 64), max_size=80)


@given(lengths)
def test_each_row_lies_in_one_bin_and_each_bin_fits(rows: list[int]) -> None:
    bins = packing.plan(rows, 64)
    assert sorted(i for one in bins for i in one) == list(range(len(rows)))
    assert all(0 < sum(rows[i] for i in one) <= 64 for one in bins)


@given(lengths)
def test_plan_is_what_a_plain_search_finds(rows: list[int]) -> None:
    # best-fit decreasing written the slow and obvious way
    free: list[int] = []
    for length in sorted(rows, reverse=True):
        fits = [i for i, room in enumerate(free) if room >= length]
        if fits:
            free[min(fits, key=lambda i: free[i])] -= length
        else:
            free.append(64 - length)
    bins = packing.plan(rows, 64)
    assert sorted(free) == sorted(64 - sum(rows[i] for i in one) for one in bins)


@given(lengths)
def test_bins_stay_within_the_proven_bound(rows: list[int]) -> None:
    # best fit decreasing needs at most 11/9 of the optimum + 4 (Johnson 1974)
    assert len(packing.plan(rows, 64)) <= 11 / 9 * -(-sum(rows) // 64) * 2 + 4


def test_known_case() -> None:
    assert packing.plan([5, 7, 3, 5], 10) == [[1, 2], [0, 3]]
    assert packing.fill([5, 7, 3, 5], [[1, 2], [0, 3]], 10) == 1.0
    assert packing.plan([6, 6], 10) == [[0], [1]]
    assert packing.fill([6, 6], [[0], [1]], 10) == pytest.approx(0.6)


def test_empty_and_impossible() -> None:
    assert packing.plan([], 8) == []
    assert packing.fill([], [], 8) == 0.0
    for bad in (9, 0, -1):
        with pytest.raises(ValueError, match=f"row 1 has {bad} tokens"):
            packing.plan([8, bad], 8)


def test_packing_many_rows_is_quick_and_tight() -> None:
    draw = random.Random(7)
    rows = [min(4096, int(draw.lognormvariate(6.5, 1)) + 1) for _ in range(20_000)]
    start = time.process_time()
    bins = packing.plan(rows, 4096)
    assert time.process_time() - start < 2
    assert packing.fill(rows, bins, 4096) > 0.98


# ------------------------------------------------------------------------------ lengths


def test_quantiles_are_lengths_of_real_rows() -> None:
    assert quantiles(range(1, 101)) == {0.5: 50, 0.9: 90, 0.95: 95, 0.99: 99, 1.0: 100}
    assert quantiles([7]) == dict.fromkeys(QUANTILES, 7)
    assert quantiles([]) == {}


@given(st.lists(st.integers(1, 1000), min_size=1), st.floats(0.01, 1))
def test_a_quantile_covers_its_share_and_no_lesser_length_does(
    rows: list[int], share: float
) -> None:
    (found,) = quantiles(rows, [share]).values()
    assert sum(x <= found for x in rows) >= share * len(rows)
    assert sum(x < found for x in rows) < share * len(rows) or found == min(rows)


def row(whole: int, used: int, trained: int, **more: Any) -> Measured:
    return Measured("chat", more.pop("source", "s"), whole, used, trained, **more)


def test_summary_counts_what_training_uses() -> None:
    rows = [row(10, 10, 5), row(90, 40, 5), row(99, 0, 0, dropped="too_long")]
    summary = summarise(rows)
    assert (summary.rows, summary.tokens, summary.trained) == (3, 50, 10)
    assert (summary.cut, summary.dropped, summary.trained_share) == (1, 1, 0.2)
    assert summary.quantiles[1.0] == 99, "uncut lengths: they say which max_length would do"
    assert summarise([]).trained_share == 0.0
    assert packed(rows, 64)["sequences"] == 1
    assert packed([], 64) == dict.fromkeys(packed([], 64), 0)


def test_groups_are_sorted_by_task_and_source() -> None:
    groups = by_group(
        [row(9, 9, 1, source="b"), row(7, 7, 7, source="a"), row(8, 8, 1, source="b")]
    )
    assert [(g["source"], g["rows"], g["tokens"]) for g in groups] == [("a", 1, 7), ("b", 2, 17)]
    assert groups[0]["trained_share"] == 1.0
    assert groups[1]["quantiles"]["0.5"] == 8


def test_measure_tells_cut_from_dropped(tiny: Tokenizer) -> None:
    text = {"id": "t", "task": "text", "text": "x" * 50, "meta": {"source": "repo"}}
    assert measure(text, tiny, 100) == Measured("text", "repo", 51, 51, 51)
    assert measure(text, tiny, 50) == Measured("text", "repo", 51, 0, 0, "too_long")
    gap = {"id": "t", "task": "fim", "prefix": "x" * 50, "middle": "y", "suffix": "", "meta": {}}
    cut = measure(gap, tiny, 20)
    assert cut == Measured("fim", "-", 55, 20, 2)
    assert cut.cut
    assert measure({"id": "t", "task": "poem"}, tiny, 9).dropped == "unknown_task"


def test_histogram_shows_both_sides_and_survives_none() -> None:
    figure = histogram.draw({"train": [row(8, 8, 1), row(3000, 0, 0)], "eval": []}, 64)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == ["train: 2 rows", "eval: 0 rows"]
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 2
