"""Curves in characters, for terminals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from codetune.runlog.reading.figures import number
from codetune.runlog.reading.layout import cut, one_line
from codetune.runlog.reading.points import Bucket, Curve

# Told apart without colour, too. The first is the faintest: behind it lies the noisiest curve.
_MARKS = ".o+x*#@%"
_COLOURS = ("cyan", "yellow", "green", "magenta", "red", "blue", "white", "bright_cyan")
HEIGHT = 10
WIDEST = 100  # columns; more of them show nothing that a person can read
_NAME = 40  # columns for a name in the legend
_Cell = tuple[str, str]  # character, style


def plotted(curves: Mapping[str, Curve], width: int, height: int = HEIGHT) -> list[Text]:
    """The lines of one plot of all curves over steps, `width` columns wide, with a legend.

    A bucket is drawn from its lowest to its highest value, so that no spike is lost; later curves
    are drawn over earlier ones. No lines for no curves.
    """
    buckets = [bucket for curve in curves.values() for bucket in curve]
    if not buckets:
        return []
    top, bottom = max(b.high for b in buckets), min(b.low for b in buckets)
    first, last = min(b.step for b in buckets), max(b.step for b in buckets)
    labels = [number(top), *[""] * (height - 2), number(bottom)]
    side = max(len(label) for label in labels)
    inner = max(width - side - 2, 10)
    grid: list[list[_Cell]] = [[(" ", "")] * inner for _ in range(height)]
    for curve, mark in zip(curves.values(), _marks(len(curves)), strict=True):
        for bucket in curve:
            column = (bucket.step - first) * (inner - 1) // max(1, last - first)
            for row in _rows(bucket, bottom, top, height):
                grid[row][column] = mark
    lines = [_line(f"{label:>{side}} |", row) for label, row in zip(labels, grid, strict=True)]
    axis = Text(f"{'':>{side}} +{'-' * inner}", style="dim")
    steps = Text(f"{'':>{side}}  {first}{last:>{max(inner - len(str(first)), 0)}}", style="dim")
    return [*lines, axis, steps, _legend(list(curves), " " * (side + 2))]


def _marks(count: int) -> Sequence[_Cell]:
    """A character and a colour for each of `count` curves."""
    marks = [(_MARKS[n % len(_MARKS)], _COLOURS[n % len(_COLOURS)]) for n in range(count)]
    return marks if count > 1 else [("*", _COLOURS[0])]


def _rows(bucket: Bucket, bottom: float, top: float, height: int) -> Iterator[int]:
    """The rows that a bucket covers, the highest value in row 0."""
    # By halves: the distance of two finite numbers may not be finite.
    span = top / 2 - bottom / 2
    if span == 0:
        yield height // 2
        return
    upper, lower = ((top / 2 - value / 2) / span for value in (bucket.high, bucket.low))
    yield from range(round(upper * (height - 1)), round(lower * (height - 1)) + 1)


def _line(label: str, row: Sequence[_Cell]) -> Text:
    line = Text(label, style="")
    for mark, style in row:
        line.append(mark, style=style or None)
    line.rstrip()
    return line


def _legend(names: Sequence[str], indent: str) -> Text:
    legend = Text(indent)
    for name, (mark, style) in zip(names, _marks(len(names)), strict=True):
        legend.append(f"{mark} {cut(one_line(name), _NAME)}   ", style=style)
    legend.rstrip()
    return legend
