"""Curves as inline SVG, coloured by the page's own style sheet: the n-th run has class `c<n>`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from codetune.console import clean
from codetune.runlog.reading.points import Bucket, Curve

BUCKETS = 300
_WIDTH, _HEIGHT = 940, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 10, 34
_LEVELS = 5


def chart(title: str, curves: Mapping[str, Curve], names: Sequence[str]) -> Markup:
    """Values by step; a band shows the lowest and highest value where many share a place."""
    buckets = [bucket for curve in curves.values() for bucket in curve]
    low, high = _padded(min(b.low for b in buckets), max(b.high for b in buckets))
    first, last = min(b.step for b in buckets), max(b.step for b in buckets)
    alone = int(first == last)  # a single step stands in the middle
    across = _Scale(first - alone, last + alone, _LEFT, _WIDTH - _RIGHT)
    up = _Scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(up, low, high), _steps(across, first, last)]
    for name, curve in curves.items():
        side = Markup("c{}").format(names.index(name))
        parts += [_band(curve, across, up, side), _line(name, curve, across, up, side)]
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, clean(title), Markup("").join(parts)
    )


class _Scale:
    """Maps a range of values onto a range of pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._factor = (end - start) / (high - low)

    def at(self, value: float) -> float:
        return self._start + (value - self._low) * self._factor


def _padded(low: float, high: float) -> tuple[float, float]:
    """The range with some room, also around a flat line and for numbers near the largest ones.

    What is never negative gets no axis below zero.
    """
    room = 0.05 * (high / 2 - low / 2) * 2 or abs(high) * 0.05 or 1.0
    padded = low - room if low < 0 else max(0.0, low - room), high + room
    return padded if all(math.isfinite(end) for end in padded) else (low, high)


def _line(name: str, curve: Curve, across: _Scale, up: _Scale, side: Markup) -> Markup:
    if len(curve) == 1:  # a line of one point is not seen
        x, y = across.at(curve[0].step), up.at(curve[0].mean)
        dot = Markup(
            '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>'
        )
        return dot.format(side, x, y, clean(name))
    points = " ".join(f"{across.at(b.step):.1f},{up.at(b.mean):.1f}" for b in curve)
    return Markup('<polyline class="curve {}" points="{}"><title>{}</title></polyline>').format(
        side, points, clean(name)
    )


def _band(curve: Curve, across: _Scale, up: _Scale, side: Markup) -> Markup:
    if all(bucket.low == bucket.high for bucket in curve):
        return Markup("")

    def place(bucket: Bucket, value: float) -> str:
        return f"{across.at(bucket.step):.1f},{up.at(value):.1f}"

    ends = [place(b, b.high) for b in curve] + [place(b, b.low) for b in reversed(curve)]
    return Markup('<polygon class="band {}" points="{}"/>').format(side, " ".join(ends))


def _grid(up: _Scale, low: float, high: float) -> Markup:
    """Horizontal lines at even values, with their labels."""
    parts = []
    for number in range(_LEVELS):
        share = number / (_LEVELS - 1)
        value = low * (1 - share) + high * share
        y = up.at(value)
        line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
        parts.append(line.format(_LEFT, _WIDTH - _RIGHT, y, y))
        parts.append(_text(_LEFT - 8, y + 4, f"{value:.4g}", "end"))
    return Markup("").join(parts)


def _steps(across: _Scale, first: int, last: int) -> Markup:
    y = _HEIGHT - 10
    middle = (first + last) // 2
    ends = [_text(across.at(middle), y, f"step {middle:,}", "middle")]
    if last > first:
        ends.append(_text(across.at(first), y, f"{first:,}", "start"))
        ends.append(_text(across.at(last), y, f"{last:,}", "end"))
    return Markup("").join(ends)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    form = Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return form.format(x, y, anchor, text)
