"""What doctor says: findings, in groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line. `todo` is set for a problem: what to do, one command or sentence a line.

    `blocked` is set where torch cannot use the GPU.
    """

    what: str
    found: str
    meaning: str = ""
    todo: str = ""
    blocked: bool = False


@dataclass(frozen=True)
class Group:
    """Findings of one theme, found when they are asked for."""

    title: str
    findings: Iterator[Finding]
