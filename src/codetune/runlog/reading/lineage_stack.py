"""Calls that nest as deep as a lineage does, on a stack of our own: Python's ends at a thousand."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
# A function that yields the calls it makes, and is sent what each returns.
Call: TypeAlias = Generator[Any, Any, T]


def returned(call: Call[T]) -> T:
    """What `call` returns, once all that it calls has returned."""
    stack: list[Call[Any]] = [call]
    value: Any = None
    while stack:
        try:
            stack.append(stack[-1].send(value))
            value = None
        except StopIteration as done:
            stack.pop()
            value = done.value
    result: T = value
    return result


def as_json(value: Any) -> str:
    """The text that `json.dumps(value, indent=1)` gives, for dicts and lists of any depth."""
    pieces: list[str] = []
    waiting: list[Any] = [(value, "\n")]
    while waiting:
        piece = waiting.pop()
        if isinstance(piece, str):
            pieces.append(piece)
        elif isinstance(piece[0], dict | list) and piece[0]:
            waiting += reversed(_parts(*piece))
        else:
            pieces.append(json.dumps(piece[0]))
    return "".join(pieces)


def _parts(value: dict[str, Any] | list[Any], margin: str) -> list[Any]:
    """A dict or list as text, and as pairs of (a value in it, its margin) for what is in it."""
    named = isinstance(value, dict)
    parts: list[Any] = ["{" if named else "["]
    for number, key in enumerate(value):
        name = f"{json.dumps(key)}: " if isinstance(value, dict) else ""
        parts.append(f"{',' if number else ''}{margin} {name}")
        parts.append((value[key] if isinstance(value, dict) else key, margin + " "))
    return [*parts, margin + ("}" if named else "]")]
