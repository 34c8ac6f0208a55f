"""Curves of one or more runs as a PNG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codetune import artefact
from codetune.errors import UserError
from codetune.runlog.reading.layout import one_line
from codetune.runlog.reading.points import Curve

BUCKETS = 400
# As in the picture that training writes: what was trained on is pale, what was held out is not.
_COLOURS = {"train_loss": "#9db4c8", "eval_loss": "#c2410c"}
_LONGEST = 60  # characters of a legend


def save_picture(path: Path, curves: Mapping[str, Curve], title: str, unit: str) -> Path:
    """Draws all curves over steps into `path`; returns it. UserError when there are none."""
    if not curves:
        raise UserError("--png: nothing to draw; no metric that was asked for has two points")
    image = io.BytesIO()
    with warnings.catch_warnings():
        # A name may hold characters that the font lacks: they are drawn as boxes, and that is all.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        _figure(curves, title, unit).savefig(
            image, format="png", dpi=150, metadata={"Software": None}
        )
    artefact.write_file(path, image.getvalue())
    return path


def _figure(curves: Mapping[str, Curve], title: str, unit: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        steps = [bucket.step for bucket in curve]
        marker = "o" if name == "eval_loss" and len(curve) < BUCKETS / 4 else ""
        means = [bucket.mean for bucket in curve]
        (line,) = axes.plot(steps, means, color=_COLOURS.get(name), marker=marker, markersize=4)
        lows, highs = [bucket.low for bucket in curve], [bucket.high for bucket in curve]
        if lows != highs:
            axes.fill_between(steps, lows, highs, color=line.get_color(), alpha=0.3, linewidth=0)
    axes.set_title(_shown(title), loc="left", fontsize=10, parse_math=False)
    axes.set_xlabel("step")
    axes.set_ylabel(_shown(unit), parse_math=False)
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(axes.get_lines(), [_shown(name) for name in curves], frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name is not a formula
    return figure


def _shown(text: str) -> str:
    return f" {one_line(text)[:_LONGEST]}"  # a legend leaves out what begins with an underscore
