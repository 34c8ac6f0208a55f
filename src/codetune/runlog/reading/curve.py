"""A curve in characters, for terminals."""

from __future__ import annotations

from collections.abc import Sequence

_DOT = "*"


def drawn(points: Sequence[tuple[int, float]], *, width: int = 60, height: int = 8) -> list[str]:
    """The lines of a small plot of (step, value) points in order of step; none for under two.

    A column shows the mean of its points; the labels are the highest and lowest of these means.
    """
    if len(points) < 2:
        return []
    first, last = points[0][0], points[-1][0]
    span = max(1, last - first)
    columns: dict[int, list[float]] = {}
    for step, value in points:
        columns.setdefault((step - first) * (width - 1) // span, []).append(value)
    means = {column: sum(values) / len(values) for column, values in columns.items()}
    low, high = min(means.values()), max(means.values())
    grid = [[" "] * width for _ in range(height)]
    for column, mean in means.items():
        share = (high - mean) / (high - low) if high > low else 0.5
        grid[round(share * (height - 1))][column] = _DOT
    labels = {0: f"{high:.4g}", height - 1: f"{low:.4g}"}
    side = max(len(label) for label in labels.values())
    rows = [f"{labels.get(n, ''):>{side}} |{''.join(row).rstrip()}" for n, row in enumerate(grid)]
    steps = f"{first}{last:>{width - len(str(first))}}"
    return [*rows, f"{'':>{side}} +{'-' * width}", f"{'':>{side}}  {steps}"]
