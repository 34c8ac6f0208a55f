"""How far a run is, from the two ends of its journal: as cheap for a long run as for a short one.

Training says what it plans by the event `steps_planned` (`total` optimizer steps, of which `done`
were done before a resume, and an evaluation every `eval_steps`) and logs `train_loss` and
`eval_loss` by step. A run that goes on logs again what was logged before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from codetune.runlog import ends, events
from codetune.runlog.local import RunRow, row_of
from codetune.runlog.process import now_ms

LOSS, EVAL_LOSS, PLANNED = "train_loss", "eval_loss", "steps_planned"
BASE_LOSS = "base_eval_loss"
_LOSSES = (LOSS, EVAL_LOSS, BASE_LOSS)
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
    done, total, left = plan.get("done", -1), plan.get("total"), None
    own = [r.fields for r in chain(head, tail) if _is_point(r) and r.fields["step"] > done]
    steps = [fields for fields in own if fields["key"] == LOSS]
    if run.status == "running" and planned is not None and total is not None and steps:
        pace = _Pace(_first_step(steps, planned), plan.get("eval_steps"), _eval_ms(own, head))
        left = pace.seconds_left(own, total, now)
    step = steps[-1]["step"] if steps else plan.get("done")
    return Progress(run, step, total, _last(run, LOSS), _last(run, EVAL_LOSS), left)


def _head(journal: Path) -> Iterator[events.Record]:
    """The records up to the first step after the plan; for a run without a plan the first ones."""
    done, seen = None, 0
    for record in ends.own(journal):
        yield record
        seen += record.end - record.start
        if _is_plan(record):
            done = record.fields["fields"]["done"]
        step = record.fields["step"] if _is_point(record) else 0
        is_first = done is not None and step > done and record.fields["key"] == LOSS
        if seen > _HEAD or is_first:
            return


def _tail(journal: Path, start: int) -> list[events.Record]:
    """The last records after byte `start`, back to the newest evaluation and the step before it,
    or enough of them.
    """
    found, wanted = [], [LOSS, EVAL_LOSS]  # looked for from the end of the list on
    for record in ends.last_ones(journal, after=start, within=_TAIL):
        found.append(record)
        if _is_point(record) and record.fields["key"] == wanted[-1]:
            wanted.pop()
        if not wanted:
            break
    return found[::-1]


def _is_point(record: events.Record) -> bool:
    """Whether this is a logged loss, with its step and time."""
    fields = record.fields
    if record.kind != "metric" or fields.get("key") not in _LOSSES or "value" not in fields:
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


def _first_step(steps: Sequence[dict[str, Any]], planned: events.Record) -> tuple[int, int]:
    """(step, ms) from which the pace is measured: the first step logged, or before it the plan."""
    first, last = steps[0], steps[-1]
    if first["step"] < last["step"]:
        return first["step"], first["ts"]
    return planned.fields["fields"]["done"], planned.fields["ts"]


def _eval_ms(own: Sequence[dict[str, Any]], head: Sequence[events.Record]) -> float:
    """How long an evaluation takes: the newest one that followed its step; else that of the base,
    which begins with the plan.
    """
    took = 0.0
    for before, after in pairwise(r for r in head if _is_plan(r) or _is_base(r)):
        took = after.fields["ts"] - before.fields["ts"] if _is_base(after) else took
    for earlier, later in pairwise(own):
        if (earlier["key"], later["key"]) == (LOSS, EVAL_LOSS) and earlier["step"] == later["step"]:
            took = later["ts"] - earlier["ts"]
    return took


def _is_base(record: events.Record) -> bool:
    return _is_point(record) and record.fields["key"] == BASE_LOSS


@dataclass(frozen=True)
class _Pace:
    """How fast a run is: from a (step, ms) on, with an evaluation every so many steps."""

    since: tuple[int, int]
    every: int | None
    eval_ms: float

    def seconds_left(self, own: Sequence[dict[str, Any]], total: int, now: int) -> float | None:
        """Time for the steps and evaluations to come; the waiting since the last word counts."""
        last = [fields for fields in own if fields["key"] == LOSS][-1]
        steps = last["step"] - self.since[0]
        if steps <= 0:
            return None
        seen = [fields["step"] for fields in own if fields["key"] == EVAL_LOSS]
        within = self._evals(self.since[0] - 1, last["step"] - 1)  # one follows its step
        step_ms = max(0.0, last["ts"] - self.since[1] - within * self.eval_ms) / steps
        to_come = self._evals(max([*seen, self.since[0]]) if seen else last["step"] - 1, total)
        left = step_ms * (total - last["step"]) + to_come * self.eval_ms
        return float(max(0.0, left - (now - own[-1]["ts"])) / 1000)

    def _evals(self, after: int, until: int) -> int:
        """How many evaluations there are after one step, up to another."""
        return max(0, until // self.every - after // self.every) if self.every else 0


def _last(run: RunRow, key: str) -> float | None:
    if key not in run.metrics:
        return None
    value = run.metrics[key]
    return math.nan if value is None else value
