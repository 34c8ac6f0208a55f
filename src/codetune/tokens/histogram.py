"""The picture of row lengths against a limit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from codetune.tokens.lengths import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"chat": "#4477aa", "fim": "#ee6677", "text": "#228833"}
_OTHER = "#bbbbbb"
_BINS = 40


def draw(sides: Mapping[str, Sequence[Measured]], max_length: int) -> Figure:
    """One panel per side: rows by uncut length, stacked by task, with the limit as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8 * len(sides)), dpi=120, layout="constrained")
    panels = figure.subplots(len(sides), 1, sharex=True, squeeze=False)[:, 0]
    lengths = [row.whole for rows in sides.values() for row in rows if row.whole]
    edges = _edges(min([max_length, *lengths]), max([max_length, *lengths]))
    for panel, (side, rows) in zip(panels, sides.items(), strict=True):
        _panel(panel, rows, edges)
        panel.set_title(f"{side}: {len(rows):,} rows", loc="left")
        panel.axvline(max_length, color="black", linestyle="--", linewidth=1)
        panel.annotate(
            f" max_length {max_length:,}",
            (max_length, 1),
            xycoords=("data", "axes fraction"),
            verticalalignment="top",
            fontsize="small",
        )
    panels[-1].set_xlabel("tokens in a row (log scale)")
    return figure


def _edges(shortest: int, longest: int) -> list[float]:
    """Bin edges that grow by one factor, around all lengths."""
    low, high = math.log2(shortest * 0.9), math.log2(longest * 1.1)
    return [2 ** (low + (high - low) * i / _BINS) for i in range(_BINS + 1)]


def _panel(panel: Axes, rows: Sequence[Measured], edges: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    tasks = sorted({row.task for row in rows if row.whole})
    lengths = [[row.whole for row in rows if row.task == task and row.whole] for task in tasks]
    if lengths:
        colours = [_COLOURS.get(task, _OTHER) for task in tasks]
        panel.hist(
            lengths,
            list(edges),
            stacked=True,
            color=colours,
            label=tasks,
            edgecolor="white",
            linewidth=0.5,
        )
        panel.legend(loc="upper left")
    panel.set_xscale("log", base=2)
    panel.set_xlim(edges[0], edges[-1])
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_ylabel("rows")
    panel.spines[["top", "right"]].set_visible(False)
