"""Intervals and verdicts: exact properties first, then coverage by simulation (slow)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codetune.evaluation.statistics import (
    MIN_GROUPS,
    Effect,
    judge,
    paired_effect,
    student_quantile,
)

FEW = 400  # draws: enough for properties that hold for any number of them

differences = st.floats(-5, 5, allow_nan=False).map(lambda x: round(x, 6))
clustered = st.lists(st.tuples(differences, st.integers(0, 12)), min_size=1, max_size=40)


def effect_of(rows: list[tuple[float, int]], seed: int = 0) -> Effect:
    values = [value for value, _ in rows]
    return paired_effect(values, [f"g{group}" for _, group in rows], seed=seed, draws=FEW)


@given(clustered)
@settings(max_examples=60, deadline=None)
def test_mean_and_counts_are_those_of_the_rows(rows: list[tuple[float, int]]) -> None:
    found = effect_of(rows)
    assert found.mean == pytest.approx(sum(v for v, _ in rows) / len(rows), abs=1e-9)
    assert found.n == len(rows)
    assert found.n_groups == len({group for _, group in rows})


@given(clustered)
@settings(max_examples=60, deadline=None)
def test_interval_contains_the_mean_of_equal_groups_and_only_exists_with_two(
    rows: list[tuple[float, int]],
) -> None:
    found = effect_of(rows)
    if found.n_groups < 2:
        assert found.low is None and found.high is None
    else:
        assert found.low is not None and found.high is not None
        assert found.low <= found.high


@given(clustered, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_of_rows_changes_nothing(rows: list[tuple[float, int]], draw: random.Random) -> None:
    shuffled = list(rows)
    draw.shuffle(shuffled)
    assert effect_of(rows) == effect_of(shuffled)


@given(clustered)
@settings(max_examples=60, deadline=None)
def test_negated_differences_swap_the_interval_and_the_verdict(
    rows: list[tuple[float, int]],
) -> None:
    found, mirrored = effect_of(rows), effect_of([(-value, group) for value, group in rows])
    assert mirrored.mean == -found.mean
    if found.low is not None and found.high is not None:
        assert (mirrored.low, mirrored.high) == (-found.high, -found.low)
    swapped = {"better": "worse", "worse": "better", "inconclusive": "inconclusive"}
    assert judge(mirrored)[0] == swapped[judge(found)[0]]


@given(clustered)
@settings(max_examples=60, deadline=None)
def test_the_other_direction_swaps_the_verdict(rows: list[tuple[float, int]]) -> None:
    found = effect_of(rows)
    lower, higher = judge(found, "lower")[0], judge(found, "higher")[0]
    assert {lower, higher} in ({"better", "worse"}, {"inconclusive"})


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_a_no_op_is_never_better(groups: list[int]) -> None:
    assert judge(effect_of([(0.0, group) for group in groups]))[0] == "inconclusive"


def test_a_difference_of_rounding_is_not_better() -> None:
    tiny = effect_of([(-1e-6, group) for group in range(40)])
    assert tiny.excludes_zero
    assert judge(tiny)[0] == "inconclusive"


@pytest.mark.parametrize("n_groups", range(1, MIN_GROUPS))
def test_too_few_groups_are_inconclusive_however_clear_the_effect(n_groups: int) -> None:
    rows = [(-1.0 - place / 100, place % n_groups) for place in range(200)]
    verdict, reason = judge(effect_of(rows))
    assert verdict == "inconclusive"
    assert str(n_groups) in reason


def test_a_clear_effect_in_enough_groups_is_better_or_worse() -> None:
    rows = [(-0.3 + 0.01 * (place % 7), place // 3) for place in range(60)]
    assert judge(effect_of(rows))[0] == "better"
    assert judge(effect_of([(-value, group) for value, group in rows]))[0] == "worse"


def test_rows_of_a_group_are_not_counted_as_independent() -> None:
    draw = random.Random(7)
    group_effects = [draw.gauss(0, 1) for _ in range(12)]
    rows = [(group_effects[place % 12], place % 12) for place in range(600)]
    clustered_width = _width(effect_of(rows))
    naive_width = _width(effect_of([(value, place) for place, (value, _) in enumerate(rows)]))
    assert clustered_width > 4 * naive_width


def test_few_groups_widen_the_interval() -> None:
    """Percentile intervals of few groups are too narrow; ours must be as wide as a t interval."""
    rows = [
        (value, group) for group, value in enumerate([-1.0, -0.5, 0.1, 0.2, 0.4, 0.6, 0.9, 1.3])
    ]
    found = paired_effect([v for v, _ in rows], [str(g) for _, g in rows])
    spread = np.std([value for value, _ in rows], ddof=1) / math.sqrt(len(rows))
    assert _width(found) == pytest.approx(2 * 2.3646 * spread, rel=0.12)


def test_equal_inputs_and_seed_give_equal_intervals_and_another_seed_hardly_differs() -> None:
    rows = [(math.sin(place), place // 2) for place in range(50)]
    values, groups = [v for v, _ in rows], [str(g) for _, g in rows]
    first = paired_effect(values, groups, seed=1)
    assert first == paired_effect(values, groups, seed=1)
    other = paired_effect(values, groups, seed=2)
    assert first.low is not None and other.low is not None
    assert first.low != other.low
    assert first.low == pytest.approx(other.low, abs=0.02)


def test_no_rows_or_unequal_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        paired_effect([], [])
    with pytest.raises(ValueError, match="equally long"):
        paired_effect([1.0], ["a", "b"])


# Two-sided 5 % points of Student's t, as printed tables have them (for instance NIST's handbook).
@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(4, 2.776), (5, 2.571), (7, 2.365), (10, 2.228), (20, 2.086), (60, 2.000), (1000, 1.962)],
)
def test_student_quantile_matches_the_printed_table(degrees: int, expected: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(expected, abs=1.5e-3)


def _width(effect: Effect) -> float:
    assert effect.low is not None and effect.high is not None
    return effect.high - effect.low


def _simulated(
    n_groups: int, draw: np.random.Generator, shape: Callable[[int], np.ndarray]
) -> tuple[list[float], list[str]]:
    """Rows with a common effect per group (mean zero), of unequal number."""
    sizes, effects = draw.geometric(0.3, n_groups), shape(n_groups) * 0.1
    values, groups = [], []
    for group in range(n_groups):
        values += list(effects[group] + draw.normal(0, 0.1, sizes[group]))
        groups += [f"g{group:03d}"] * int(sizes[group])
    return values, groups


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_groups", "least"), [(MIN_GROUPS, 0.89), (20, 0.92), (50, 0.93), (200, 0.93)]
)
def test_intervals_cover_as_promised_on_clustered_data(n_groups: int, least: float) -> None:
    draw = np.random.default_rng(11)
    trials, covered, better = 1000, 0, 0
    for seed in range(trials):
        values, groups = _simulated(n_groups, draw, lambda n: draw.normal(0, 1, n))
        found = paired_effect(values, groups, seed=seed, draws=2000)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0 <= found.high
        better += judge(found)[0] == "better"
    print(f"{n_groups} groups: coverage {covered / trials:.1%}, better {better / trials:.1%}")
    assert least <= covered / trials <= 0.975
    assert better / trials <= 0.05


@pytest.mark.slow
def test_power_grows_with_the_effect() -> None:
    draw = np.random.default_rng(12)
    rates = []
    for shift in (0.0, 0.05, 0.1):
        hits = 0
        for seed in range(200):
            values, groups = _simulated(30, draw, lambda n: draw.normal(0, 1, n))
            moved = [value - shift for value in values]
            hits += judge(paired_effect(moved, groups, seed=seed, draws=1000))[0] == "better"
        rates.append(hits / 200)
    assert rates[0] <= 0.05 < rates[1] < rates[2]
    assert rates[2] > 0.95
