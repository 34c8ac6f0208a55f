"""How far a run is, from the two ends of its journal: as cheap for a long run as for a short one.

Training says what it plans by the event `steps_planned` (`total` optimizer steps, of which `done`
were done before a resume) and logs `train_loss` and `eval_loss` by step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from codetune.runlog import ends, events
from codetune.runlog.local import RunRow, row_of
from codetune.runlog.process import now_ms

LOSS, EVAL_LOSS, PLANNED = "train_loss", "eval_loss", "steps_planned"
_HEAD = 256 * 1024  # bytes in which the plan and the first step are looked for
_TAIL = 1024 * 1024  # bytes: evaluations are rare, the last one may lie far back


@dataclass(frozen=True)
class Progress:
    """Where a run stands. A loss is None before the first one, and NaN when it was not finite.

    `run.metrics` holds only what the two ends of the journal told.
    """

    run: RunRow
    step: int | None = None
    total: int | None = None
    loss: float | None = None
    eval_loss: float | None = None
    seconds_left: float | None = None  # at the pace since the first step; None unless it runs


def progress_of(journal: Path, now: int | None = None) -> Progress | None:
    """How far the run of `journal` is at `now` (ms UTC); None for a journal that does not tell."""
    if not journal.is_file():
        return None
    head = list(_head(journal))
    tail = _tail(journal, head[-1].end if head else 0)
    run = row_of(chain(head, tail))
    if run is None:
        return None
    return _progress(run, head, tail, now_ms() if now is None else now)


def _progress(
    run: RunRow, head: Sequence[events.Record], tail: Sequence[events.Record], now: int
) -> Progress:
    planned = next((record for record in head if _is_plan(record)), None)
    plan = planned.fields["fields"] if planned else {}
    steps = [record.fields for record in chain(head, tail) if _is_step(record)]
    total, left = plan.get("total"), None
    if run.status == "running" and total is not None and steps:
        left = _seconds_left(_first_step(steps, planned), steps[-1], total, now)
    step = steps[-1]["step"] if steps else plan.get("done")
    return Progress(run, step, total, _last(run, LOSS), _last(run, EVAL_LOSS), left)


def _head(journal: Path) -> Iterator[events.Record]:
    """The records up to the first step after the plan; for a run without a plan the first ones."""
    planned, seen = False, 0
    for record in ends.own(journal):
        yield record
        planned, seen = planned or _is_plan(record), seen + record.end - record.start
        if seen > _HEAD or (planned and _is_step(record)):
            return


def _tail(journal: Path, start: int) -> list[events.Record]:
    """The last records after byte `start`: so many that both losses are among them, or enough."""
    found, missing = [], [LOSS, EVAL_LOSS]
    for record in ends.last_ones(journal, after=start, within=_TAIL):
        found.append(record)
        if record.kind == "metric" and record.fields.get("key") in missing:
            missing.remove(record.fields["key"])
        if not missing:
            break
    return found[::-1]


def _is_step(record: events.Record) -> bool:
    """Whether this is a logged training loss, with its step and time."""
    fields = record.fields
    if record.kind != "metric" or fields.get("key") != LOSS or "value" not in fields:
        return False
    return isinstance(fields.get("step"), int) and isinstance(fields.get("ts"), int)


def _is_plan(record: events.Record) -> bool:
    """Whether this is the event, with numbers in it."""
    fields = record.fields.get("fields")
    if record.kind != "event" or record.fields.get("name") != PLANNED:
        return False
    return isinstance(fields, dict) and all(
        isinstance(fields.get(key), int) for key in ("total", "done")
    )


def _first_step(steps: Sequence[dict[str, Any]], planned: events.Record | None) -> tuple[int, int]:
    """(step, ms) from which the pace is measured: the first step logged, or before it the plan."""
    first, last = steps[0], steps[-1]
    if first["step"] < last["step"] or planned is None:
        return first["step"], first["ts"]
    return planned.fields["fields"]["done"], planned.fields["ts"]


def _seconds_left(
    first: tuple[int, int], last: dict[str, Any], total: int, now: int
) -> float | None:
    """Evaluations and checkpoints between the steps are in the pace; the waiting time counts."""
    steps = int(last["step"]) - first[0]
    if steps <= 0:
        return None
    left: float = (last["ts"] - first[1]) / steps * (total - last["step"]) - (now - last["ts"])
    return max(0.0, left / 1000)


def _last(run: RunRow, key: str) -> float | None:
    if key not in run.metrics:
        return None
    value = run.metrics[key]
    return math.nan if value is None else value
