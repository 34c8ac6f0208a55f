"""Length statistics of tokenised rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class LengthSummary:
    """Tokens of a set of rows; `quantiles` maps a share of rows to a length that covers it."""

    rows: int
    tokens: int
    trained: int
    quantiles: dict[float, int]

    @property
    def trained_share(self) -> float:
        """The part of all tokens that carries loss, 0 to 1."""
        return self.trained / self.tokens if self.tokens else 0.0


def quantiles(lengths: Iterable[int], at: Sequence[float] = QUANTILES) -> dict[float, int]:
    """For each share in `at`, the least length that this share of rows does not exceed.

    Nearest rank: always the length of a real row. Empty for no rows.
    """
    ordered = sorted(lengths)
    if not ordered:
        return {}
    return {share: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in at}


def summarise(lengths: Sequence[int], trained: Iterable[int]) -> LengthSummary:
    """The summary of rows with these lengths and trained-token counts."""
    return LengthSummary(len(lengths), sum(lengths), sum(trained), quantiles(lengths))
