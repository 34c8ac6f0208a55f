"""Finding secrets in one decoded text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from codetune.redaction.rules import RULES, Rule

_SHORT = 16_384  # characters


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret at `text[start:end]`, found by the rule of that name. Never holds the value."""

    rule: str
    start: int
    end: int


def find_secrets(text: str) -> list[Finding]:
    """The secrets of `text` in order, without overlaps. Linear in the length of the text."""
    return list(_remembered(text) if len(text) <= _SHORT else _found(text))


# The same message stands in many rows (once trained, then as history), so results are kept;
# whole files come once and would only fill memory.
@lru_cache(maxsize=2048)
def _remembered(text: str) -> tuple[Finding, ...]:
    return _found(text)


def _found(text: str) -> tuple[Finding, ...]:
    lowered = text.lower()
    hits = [hit for rule in RULES for hit in _hits(rule, text, lowered)]
    return tuple(_without_overlaps(sorted(hits, key=lambda hit: (hit.start, -hit.end))))


def _hits(rule: Rule, text: str, lowered: str) -> Iterator[Finding]:
    if not any(word in lowered for word in rule.keywords):
        return
    for match in rule.compiled.finditer(text):
        for group in range(1, len(match.groups()) + 1):
            start, end = match.span(group)
            if start >= 0 and rule.check(text[start:end]):
                yield Finding(rule.name, start, end)


def _without_overlaps(hits: list[Finding]) -> Iterator[Finding]:
    """Overlapping hits become one that covers them all, under the first one's rule."""
    held: Finding | None = None
    for hit in hits:
        if held is not None and hit.start < held.end:
            held = Finding(held.rule, held.start, max(held.end, hit.end))
            continue
        if held is not None:
            yield held
        held = hit
    if held is not None:
        yield held
