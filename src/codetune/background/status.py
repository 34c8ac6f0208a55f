"""Sessions as a table for a person, and as values for a program."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codetune.background.sessions import Session, progress
from codetune.console import Table, table
from codetune.runlog.events import finite
from codetune.runlog.progress import Progress

COLUMNS = ("session", "run", "status", "step", "loss", "eval loss", "ETA", "since", "exit")


def drawn(root: Path, sessions: Sequence[Session]) -> Table:
    """One line a session: where its run stands, or how it ended."""
    return table("in the background", COLUMNS, [_line(root, session) for session in sessions])


def as_dict(root: Path, session: Session) -> dict[str, Any]:
    """The same as values: times in ms UTC, the time left in seconds, a loss of NaN as null."""
    found = progress(root, session)
    return {
        "session": session.name,
        "kind": session.kind,
        "title": session.title,
        "run": session.run,
        "name": found.run.name if found else None,
        "status": _status(session, found),
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


def _line(root: Path, session: Session) -> list[str]:
    found = progress(root, session)
    name = found.run.name if found else session.title
    place = [session.name, name, _status(session, found)]
    ends = [time.strftime("%Y-%m-%d %H:%M", time.localtime(session.since / 1000))]
    ends.append("-" if session.exit_code is None else str(session.exit_code))
    if found is None:
        return [*place, "-", "-", "-", "-", *ends]
    step = "-" if found.step is None else f"{found.step:,}"
    of = "" if found.total is None else f" / {found.total:,}"
    return [*place, step + of, _loss(found.loss), _loss(found.eval_loss), _left(found), *ends]


def _status(session: Session, found: Progress | None) -> str:
    """What the run log says, and what only the session knows: the time before and after."""
    status = found.run.status if found else "unknown"
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
    return None if value is None else finite(value)
