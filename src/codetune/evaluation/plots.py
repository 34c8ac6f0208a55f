"""The report's figures as inline SVG: small, sharp, and coloured by the page's own style sheet.

Classes, not colours, are written here, so that light and dark pages and print all work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from codetune import console

_WIDTH = 940
_FONT = 6.6  # mean width of a character at the figures' 12 px


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest plot: a difference and its interval, in the plot's unit."""

    label: str
    note: str
    delta: float
    low: float | None
    high: float | None
    improved: bool | None  # None: the interval includes zero


def forest(rows: Sequence[ForestRow], unit: str, better: str) -> Markup:
    """Differences with their intervals around a line at zero; `better` says which side is good."""
    left, right, line = 260, 170, 32
    ends = [end for row in rows for end in (row.low, row.high, row.delta) if end is not None]
    scale = _Scale(*_padded([*ends, 0.0]), left, _WIDTH - right)
    height = line * len(rows) + 50
    parts = [_axis(scale, height - 40, unit), _vertical(scale.at(0), 4, height - 40, "zero")]
    for place, row in enumerate(rows):
        parts += _forest_line(row, scale, 4 + line * place + line / 2)
    parts.append(_text(left, height - 8, better, "hint", "start"))
    return _svg(height, parts, "Differences with 95 % intervals")


def waterfall(changes: Sequence[tuple[str, float]], unit: str) -> Markup:
    """Every row's change as a bar, sorted, the improved ones on the left; labels on hover."""
    left, top, bottom, right = 56, 8, 372, 540
    ordered = sorted(changes, key=lambda change: (change[1], change[0]))
    scale = _Scale(*_padded([*(value for _, value in ordered), 0.0]), bottom, top)
    width = (right - left) / max(1, len(ordered))
    parts = [_levels(scale, left, f"change, {unit}", right)]
    for place, (label, value) in enumerate(ordered):
        x, y = left + place * width, min(scale.at(0), scale.at(value))
        tall = abs(scale.at(value) - scale.at(0))
        parts.append(
            Markup(
                '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.1f}">{}</rect>'
            ).format(
                _side(value), x, y, max(width * 0.86, 0.6), max(tall, 0.5), _title(label, value)
            )
        )
    improved = sum(value < 0 for _, value in ordered)
    hint = f"{improved} of {len(ordered)} rows improved"
    parts.append(_text(left, bottom + 20, hint, "hint", "start"))
    return _svg(bottom + 26, parts, "Change of the loss of every row", right + 8)


def scatter(points: Sequence[tuple[str, float, float]], unit: str) -> Markup:
    """Base against tuned for every row; below the diagonal the tuned model is better."""
    left, top, side = 56, 8, 372
    low, high = _padded([value for _, *both in points for value in both])
    across = _Scale(low, high, left, left + side)
    up = _Scale(low, high, top + side, top)
    parts = [
        _levels(up, left, f"tuned, {unit}", width=left + side),
        _axis(across, top + side, f"base, {unit}"),
        Markup('<line class="zero" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            left, top + side, left + side, top
        ),
    ]
    for label, base, tuned in points:
        parts.append(
            Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.4">{}</circle>').format(
                _side(tuned - base), across.at(base), up.at(tuned), _title(label, tuned - base)
            )
        )
    return _svg(top + side + 36, parts, "Loss of every row, base against tuned", left + side + 12)


@dataclass(frozen=True)
class _Scale:
    """Maps [low, high] onto pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the range."""
        raw = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [place * step for place in range(first, last + 1)]


def _padded(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    low, high = min(found), max(found)
    room = (high - low) * 0.06 or max(abs(high), 1.0) * 0.06
    return low - room, high + room


def _forest_line(row: ForestRow, scale: _Scale, y: float) -> list[Markup]:
    kind = {True: "good", False: "bad", None: "flat"}[row.improved]
    parts = [_text(scale.start - 14, y + 4, _cut(row.label), "label", "end")]
    if row.low is not None and row.high is not None:
        parts.append(
            Markup('<line class="whisker {}" x1="{:.1f}" x2="{:.1f}" y1="{y}" y2="{y}"/>').format(
                kind, scale.at(row.low), scale.at(row.high), y=y
            )
        )
    parts.append(
        Markup('<circle class="{}" cx="{:.1f}" cy="{}" r="5"/>').format(
            kind, scale.at(row.delta), y
        )
    )
    parts.append(_text(scale.end + 14, y + 4, row.note, "value", "start"))
    return parts


def _axis(scale: _Scale, y: float, unit: str) -> Markup:
    parts = [
        Markup('<line class="axis" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
            scale.start, scale.end, y=y
        )
    ]
    parts += [
        _text(scale.at(tick), y + 16, _number(tick), "tick", "middle") for tick in scale.ticks()
    ]
    parts.append(_text(scale.end, y + 32, unit, "hint", "end"))
    return Markup("").join(parts)


def _levels(scale: _Scale, left: float, unit: str, width: float) -> Markup:
    parts = []
    for tick in scale.ticks(4):
        kind = "zero" if tick == 0 else "grid"
        parts.append(
            Markup('<line class="{}" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
                kind, left, width, y=scale.at(tick)
            )
        )
        parts.append(_text(left - 8, scale.at(tick) + 4, _number(tick), "tick", "end"))
    parts.append(_text(left + 6, scale.end + 10, unit, "hint", "start"))
    return Markup("").join(parts)


def _vertical(x: float, top: float, bottom: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{x:.1f}" x2="{x:.1f}" y1="{}" y2="{}"/>').format(
        kind, top, bottom, x=x
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, console.clean(text)
    )


def _title(label: str, value: float) -> Markup:
    return Markup("<title>{}: {:+.4f}</title>").format(console.clean(label), value)


def _side(change: float) -> str:
    return "good" if change < 0 else "bad" if change > 0 else "flat"


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _cut(label: str) -> str:
    longest = int(240 / _FONT)
    return label if len(label) <= longest else label[: longest - 1] + "…"


def _svg(height: float, parts: Iterable[Markup], title: str, width: float = _WIDTH) -> Markup:
    return Markup('<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, title, escape(Markup("").join(parts))
    )
