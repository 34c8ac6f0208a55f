"""Which rows share a training sequence: best-fit decreasing, rows never cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def plan(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of row indices, each bin at most `capacity` tokens long.

    Longest rows first, each into the fullest bin that still takes it; equal lengths keep their
    order, so the plan depends on the lengths alone. Raises `ValueError` for a row that fits no
    bin. A bit set of free sizes makes a placement cost O(capacity / 64).
    """
    bins: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms = 0  # bit r is set while some bin has r tokens of room
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if not 0 < length <= capacity:
            raise ValueError(f"row {index} has {length} tokens, a bin takes 1 to {capacity}")
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            chosen = by_room[room].pop()
            rooms &= ~0 if by_room[room] else ~(1 << room)
        else:
            room, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(index)
        by_room.setdefault(room - length, []).append(chosen)
        rooms |= 1 << (room - length)
    return bins


def fill(lengths: Iterable[int], bins: Sequence[object], capacity: int) -> float:
    """The share of the bins' tokens that hold rows, 0 to 1 (0 without bins)."""
    return sum(lengths) / (len(bins) * capacity) if bins else 0.0
