"""Sessions, one line each for a person, and as values for a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from codetune.background.sessions import Session, progress
from codetune.runlog import events
from codetune.runlog.progress import Progress
from codetune.runlog.reading.figures import when, when_short
from codetune.runlog.reading.layout import Column, drawn, status_style

_WIDE = 100  # terminals from here on have room for the name of the run too
_COLUMNS = (
    Column("session", cut=True),
    Column("run", cut=True),
    Column("status", style=status_style),
    Column("step", right=True),
    Column("loss", right=True),
    Column("eval", right=True),
    Column("left", right=True),
    Column("since", right=True),
    Column("exit", right=True),
)


def status_lines(
    root: Path, sessions: Sequence[Session], width: int | None, now: int
) -> list[Text]:
    """One line a session, no wider than `width`: where its run stands, or how it ended.

    Columns that would tell nothing are left out: `exit` before one has ended, and `run` where all
    runs are called as their sessions are.
    """
    rows = [_line(root, session, width, now) for session in sessions]
    told = {"exit"} if any(session.exit_code is not None for session in sessions) else set()
    if (width is None or width >= _WIDE) and any(name != run for name, run, *_ in rows):
        told.add("run")
    kept = [n for n, c in enumerate(_COLUMNS) if c.name not in {"run", "exit"} - told]
    return drawn([_COLUMNS[n] for n in kept], [[row[n] for n in kept] for row in rows], width)


def as_dict(root: Path, session: Session) -> dict[str, Any]:
    """The same as values: times in ms UTC, the time left in seconds, a loss of NaN as null."""
    found = progress(root, session)
    return {
        "session": session.name,
        "kind": session.kind,
        "title": session.title,
        "run": session.run,
        "name": found.run.name if found else None,
        "status": _status(root, session, found),
        "at_work": session.program is not None,
        "asked_to_stop": session.asked,
        "step": found.step if found else None,
        "total": found.total if found else None,
        "loss": _finite(found.loss) if found else None,
        "eval_loss": _finite(found.eval_loss) if found else None,
        "seconds_left": found.seconds_left if found else None,
        "since": session.since,
        "exit_code": session.exit_code,
    }


def _line(root: Path, session: Session, width: int | None, now: int) -> list[str]:
    found = progress(root, session)
    name = found.run.name if found else session.title
    place = [session.label, name, _status(root, session, found)]
    ends = [when(session.since) if width is None else when_short(session.since, now)]
    ends.append("-" if session.exit_code is None else str(session.exit_code))
    if found is None:
        return [*place, "-", "-", "-", "-", *ends]
    step = "-" if found.step is None else f"{found.step:,}"
    of = "" if found.total is None else f"/{found.total:,}"
    return [*place, step + of, _loss(found.loss), _loss(found.eval_loss), _left(found), *ends]


def _status(root: Path, session: Session, found: Progress | None) -> str:
    """What the run log says, and what only the session knows: the time before and after."""
    is_there = events.journal_path(root, session.run).exists()
    status = found.run.status if found else "unknown" if is_there else "removed"
    alive = session.program is not None
    if status == "created":
        return "starting" if alive else "not started"
    return "stopping" if alive and session.asked else status


def _left(found: Progress) -> str:
    if found.seconds_left is None:
        return "-"
    minutes, seconds = divmod(round(found.seconds_left), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _loss(value: float | None) -> str:
    if value is None:
        return "-"
    return "nan" if math.isnan(value) else f"{value:.4f}"


def _finite(value: float | None) -> float | None:
    return None if value is None else events.finite(value)
