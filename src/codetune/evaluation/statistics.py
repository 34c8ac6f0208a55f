"""Is the difference real: paired by row, clustered by group, with an honest "inconclusive".

Rows of one session or one file resemble each other, so they are not independent observations:
whole groups are resampled (Miller 2024, arXiv 2411.00640, on paired and clustered evaluation).
With few groups a plain percentile interval is too narrow; its quantiles are moved outwards as far
as a t interval is wider than a normal one (Hesterberg 2015, arXiv 1411.5279, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

Verdict = Literal["better", "inconclusive", "worse"]
Direction = Literal["lower", "higher"]

DRAWS = 10_000
CONFIDENCE = 0.95
# Simulated with skewed effects and unequal groups, coverage falls below 90 % under eight groups.
MIN_GROUPS = 8
# Nats per token. Below it a difference is rounding, however narrow its interval is.
SMALLEST_EFFECT = 1e-4
_CELLS_AT_ONCE = 4_000_000
_NORMAL = NormalDist()

METHOD = (
    f"Mean difference per row (every row weighs the same), paired by row; {CONFIDENCE:.0%} "
    f"interval from {DRAWS:,} bootstrap draws of whole groups with a fixed seed, percentile method "
    f"with quantiles widened for few groups; below {MIN_GROUPS} groups the verdict is inconclusive."
)


@dataclass(frozen=True)
class Effect:
    """A mean difference (tuned minus base) and its interval; no interval below two groups."""

    mean: float
    low: float | None
    high: float | None
    n: int
    n_groups: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


def paired_effect(
    differences: Sequence[float], groups: Sequence[str], *, seed: int = 0, draws: int = DRAWS
) -> Effect:
    """The mean of `differences` with a bootstrap interval over `groups` (one label per row).

    Equal inputs give equal results whatever the order of the rows, and negated differences give
    the negated interval. Raises ValueError for no rows or lists of unequal length.
    """
    if not differences or len(differences) != len(groups):
        raise ValueError("differences and groups must be equally long and not empty")
    sums, sizes = _by_group(differences, groups)
    mean = float(sums.sum() / sizes.sum())
    if len(sums) < 2:
        return Effect(mean, None, None, len(differences), len(sums))
    means = np.sort(_resampled_means(sums, sizes, seed, draws))
    cut = int(draws * _tail(len(sums)))
    low, high = float(means[cut]), float(means[draws - 1 - cut])
    return Effect(mean, low, high, len(differences), len(sums))


def judge(
    effect: Effect,
    direction: Direction = "lower",
    *,
    smallest: float = SMALLEST_EFFECT,
    min_groups: int = MIN_GROUPS,
) -> tuple[Verdict, str]:
    """The verdict on a primary metric, and the reason as a clause a person can read."""
    if effect.n_groups < min_groups:
        return "inconclusive", (
            f"{effect.n_groups} independent groups are too few to judge (at least {min_groups})"
        )
    if abs(effect.mean) <= smallest:
        return "inconclusive", "there is no difference to speak of"
    if not effect.excludes_zero:
        return "inconclusive", "the interval includes zero"
    improved = effect.mean < 0 if direction == "lower" else effect.mean > 0
    return ("better" if improved else "worse"), "the whole interval lies on one side of zero"


def student_quantile(p: float, degrees: int) -> float:
    """Quantile `p` of Student's t, by the expansion of Abramowitz and Stegun 26.7.5.

    Off by less than 0.001 from four degrees of freedom on, at the levels used here.
    """
    z = _NORMAL.inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))


def _tail(n_groups: int) -> float:
    """The share cut off at each end, smaller than the nominal one when groups are few."""
    wide = student_quantile((1 + CONFIDENCE) / 2, n_groups - 1)
    return _NORMAL.cdf(-wide * math.sqrt(n_groups / (n_groups - 1)))


def _by_group(differences: Sequence[float], groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of rows of each group, in an order that does not depend on the rows'."""
    members: dict[str, list[float]] = {}
    for difference, group in zip(differences, groups, strict=True):
        members.setdefault(group, []).append(difference)
    ordered = [members[group] for group in sorted(members)]
    sums = np.array([math.fsum(rows) for rows in ordered])
    return sums, np.array([float(len(rows)) for rows in ordered])


def _resampled_means(sums: np.ndarray, sizes: np.ndarray, seed: int, draws: int) -> np.ndarray:
    """The mean over rows in each of `draws` resamples of whole groups."""
    random, n = np.random.default_rng(seed), len(sums)
    means = np.empty(draws)
    step = max(1, _CELLS_AT_ONCE // n)
    for start in range(0, draws, step):
        count = min(step, draws - start)
        times = random.multinomial(n, np.full(n, 1 / n), size=count).astype(float)
        means[start : start + count] = (times @ sums) / (times @ sizes)
    return means
