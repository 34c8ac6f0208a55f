"""Which steps of a turn go into one row, and with how much of what came before.

Every step that is trained is the target of exactly one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# How much of a row may repeat earlier steps of the same turn when a turn needs several rows.
_CONTEXT_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Unit:
    """What must stay together: a step with its results, or a text in between.

    `cost` is its size in characters, `masked` why it is not trained ("" when it is, "text" when
    it is no step at all).
    """

    messages: tuple[dict[str, Any], ...]
    masked: str
    cost: int
    tools: frozenset[str]

    @property
    def trained(self) -> bool:
        """True for a step that carries loss."""
        return not self.masked


@dataclass(frozen=True, slots=True)
class Window:
    """Units `start:stop` of a turn are new in this row, `context:start` are repeated."""

    context: int
    start: int
    stop: int


def windows(
    units: Sequence[Unit], budget: int, size: Callable[[Sequence[Unit]], int]
) -> Iterator[Window | int]:
    """Windows over a turn, each within `budget`; an int is a unit that fits in none.

    `size` measures units together, tools included. A window ends with a trained unit.
    """
    start = 0
    while start < len(units):
        context = _context(units, start, int(budget * _CONTEXT_SHARE), size)
        if size(units[context : start + 1]) > budget:
            context = start
        if size(units[start : start + 1]) > budget:
            yield start
            start += 1
            continue
        stop = start + 1
        while stop < len(units) and size(units[context : stop + 1]) <= budget:
            stop += 1
        last = max((i for i in range(start, stop) if units[i].trained), default=None)
        if last is not None:
            yield Window(context, start, last + 1)
        start = stop


def _context(
    units: Sequence[Unit], start: int, share: int, size: Callable[[Sequence[Unit]], int]
) -> int:
    context = start
    while context > 0 and size(units[context - 1 : start]) <= share:
        context -= 1
    return context
