"""Loss curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from codetune import artefact
from codetune.artefact import Origin

Curve = Sequence[tuple[int, float]]


def draw_curves(curves: Mapping[str, Curve], path: Path, origin: Origin) -> Path:
    """Writes train and eval loss over steps as PNG; returns its path."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for key, colour, label in (
        ("train_loss", "#9db4c8", "train"),
        ("eval_loss", "#c2410c", "held out"),
    ):
        points = curves.get(key, ())
        if points:
            steps, values = zip(*points, strict=True)
            marker = "o" if key == "eval_loss" else ""
            axes.plot(steps, values, color=colour, marker=marker, markersize=4, label=label)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss, nats per trained token")
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return artefact.save_figure(path, figure, origin)
