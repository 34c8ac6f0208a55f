"""Moments, lengths of time and numbers of a run, as words for a person."""

from __future__ import annotations

import time

from codetune.runlog.local import RunRow
from codetune.runlog.process import now_ms

SHORT = 8  # characters of an id or a hash that a person compares


def when(ms: int) -> str:
    """A moment (ms UTC) in the reader's own time zone, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))


def when_short(ms: int, now: int) -> str:
    """As much of a moment as tells it from `now`: the time of today, or the day of this year."""
    moment = when(ms)
    if moment[:10] == when(now)[:10]:
        return moment[11:]
    return moment[5:10] if moment[:4] == when(now)[:4] else moment[:10]


def seconds_of(row: RunRow) -> float | None:
    """How long a run took: until now while it runs, until its last sign of life if it crashed."""
    if row.started is None:
        return None
    until = now_ms() if row.status == "running" else row.ended or row.heartbeat
    return (until - row.started) / 1000


def duration(row: RunRow) -> str:
    """How long a run took, in words."""
    seconds = seconds_of(row)
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def number(value: object) -> str:
    """A figure as a person reads it; None is what was logged as not a number."""
    if value is None:
        return "nan"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def gib(size: int) -> str:
    """Bytes as GiB."""
    return f"{size / 2**30:.2f} GiB"
