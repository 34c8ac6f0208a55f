"""How far a run is, from the two ends of its journal."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.runlog import local, process
from codetune.runlog.progress import progress_of

START = 1_000_000
MINE = asdict(process.current())
Record = dict[str, Any]


def created(**changes: Any) -> Record:
    told = {"stage": "train", "task": "t", "project": "p", "parent": None}
    return {"ts": START, "kind": "created", "id": "RUN", "name": "mine", **told, **changes}


def started(**changes: Any) -> Record:
    return {"ts": START, "kind": "started", "process": MINE, "params": {}, **changes}


def planned(total: Any = 100, done: Any = 0) -> Record:
    fields = {"total": total, "done": done}
    return {"ts": START, "kind": "event", "name": "steps_planned", "fields": fields}


def defined(key: str) -> Record:
    return {"ts": START, "kind": "define", "key": key, "unit": "", "direction": "lower"}


def metric(step: int, value: float | None, key: str = "train_loss", ms: int = 0) -> Record:
    at = {"ts": START + (ms or step * 1000), "kind": "metric", "key": key, "version": 1}
    return {**at, "step": step, "value": value}


def finished(status: str = "finished") -> Record:
    return {"ts": START + 10**6, "kind": "finished", "status": status, "reason": "said"}


def write(folder: Path, *records: Record, torn: bytes = b"") -> Path:
    journal = folder / "events.jsonl"
    lines = (json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)
    journal.write_bytes(b"".join(lines) + torn)
    return journal


def test_step_losses_and_time_left(tmp_path: Path) -> None:
    steps = [metric(step, 2.0 / step) for step in range(1, 11)]
    journal = write(
        tmp_path,
        created(),
        started(),
        planned(),
        *map(defined, ("train_loss", "eval_loss")),
        metric(0, 3.0, "eval_loss", ms=500),
        *steps,
        metric(10, 1.5, "eval_loss", ms=10_000),
    )
    found = progress_of(journal, now=START + 10_000)
    assert found is not None
    assert (found.step, found.total, found.loss, found.eval_loss) == (10, 100, 0.2, 1.5)
    assert found.seconds_left == pytest.approx(90)
    assert (found.run.status, found.run.name, found.run.id) == ("running", "mine", "RUN")
    waited = progress_of(journal, now=START + 40_000)
    assert waited is not None and waited.seconds_left == pytest.approx(60)
    late = progress_of(journal, now=START + 400_000)
    assert late is not None and late.seconds_left == 0


def test_the_pace_leaves_out_what_came_before_the_first_step(tmp_path: Path) -> None:
    """The base is measured first, which may take as long as a hundred steps."""
    first, second = metric(1, 1.0, ms=100_000), metric(2, 1.0, ms=101_000)
    alone = write(tmp_path, created(), started(), planned(), first)
    found = progress_of(alone, now=START + 100_000)
    assert found is not None and found.seconds_left == pytest.approx(99 * 100)
    both = write(tmp_path, created(), started(), planned(), first, second)
    found = progress_of(both, now=START + 101_000)
    assert found is not None and found.seconds_left == pytest.approx(98)


def test_a_resumed_run_counts_from_where_it_goes_on(tmp_path: Path) -> None:
    journal = write(tmp_path, created(), started(), planned(done=40))
    found = progress_of(journal)
    assert found is not None and (found.step, found.seconds_left) == (40, None)
    journal = write(tmp_path, created(), started(), planned(done=40), metric(41, 1.0, ms=2000))
    found = progress_of(journal, now=START + 2000)
    assert found is not None and found.step == 41
    assert found.seconds_left == pytest.approx(59 * 2)


def test_before_the_plan_and_without_one(tmp_path: Path) -> None:
    found = progress_of(write(tmp_path, created()))
    assert found is not None and found.run.status == "created"
    assert (found.step, found.total, found.loss, found.seconds_left) == (None,) * 4
    other = write(tmp_path, created(stage="merge"), started(), metric(3, 1.0, "parity"))
    found = progress_of(other)
    assert found is not None and (found.run.stage, found.step, found.total) == ("merge", None, None)


@pytest.mark.parametrize("status", ["finished", "interrupted", "failed", "refused"])
def test_an_ended_run_has_no_time_left(tmp_path: Path, status: str) -> None:
    steps = [metric(step, 1.0) for step in range(1, 5)]
    note = {"ts": START + 10**7, "kind": "note", "text": "later"}
    journal = write(tmp_path, created(), started(), planned(), *steps, finished(status), note)
    found = progress_of(journal)
    assert found is not None
    assert (found.run.status, found.run.reason, found.seconds_left) == (status, "said", None)
    assert found.step == 4


def test_a_run_whose_process_is_gone_has_crashed(tmp_path: Path) -> None:
    gone = MINE | {"started": 1}
    steps = [metric(step, 1.0) for step in range(1, 5)]
    journal = write(tmp_path, created(), started(process=gone), planned(), *steps)
    found = progress_of(journal)
    assert found is not None
    assert (found.run.status, found.step, found.seconds_left) == ("crashed", 4, None)


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    journal = write(tmp_path, created(), started(), planned(), metric(1, 1.0), metric(2, None))
    found = progress_of(journal)
    assert found is not None and found.loss is not None and math.isnan(found.loss)
    assert found.eval_loss is None


def test_no_journal_and_none_that_tells(tmp_path: Path) -> None:
    assert progress_of(tmp_path / "absent.jsonl") is None
    assert progress_of(tmp_path) is None
    assert progress_of(write(tmp_path)) is None
    assert progress_of(write(tmp_path, started())) is None
    assert progress_of(write(tmp_path, torn=b"\x00\xff{half")) is None


@pytest.mark.parametrize(
    "damaged",
    [
        {"kind": "metric", "key": "train_loss"},
        {"kind": "metric", "key": "train_loss", "step": 3, "ts": 1},
        {"kind": "metric", "key": ["train_loss"], "step": 3, "ts": 1, "value": 1.0},
        {"kind": "started", "process": 7},
        {"kind": "finished"},
    ],
)
def test_a_damaged_record_is_passed_over(tmp_path: Path, damaged: Record) -> None:
    steps = [metric(1, 1.0), metric(2, 0.5)]
    found = progress_of(write(tmp_path, created(), started(), planned(), *steps, damaged))
    assert found is not None and found.run.status == "running"
    assert (found.step, found.loss) == (2, 0.5)


@pytest.mark.parametrize("place", [{"step": None}, {"step": "3"}, {"ts": None}])
def test_a_damaged_step_is_passed_over(tmp_path: Path, place: Record) -> None:
    damaged = metric(9, 1.0) | place
    journal = write(tmp_path, created(), started(), planned(), metric(4, 1.0), damaged)
    found = progress_of(journal)
    assert found is not None and found.step == 4


@pytest.mark.parametrize("fields", [None, {}, {"total": "many", "done": 0}, {"total": 5}, [1]])
def test_a_damaged_plan_is_none(tmp_path: Path, fields: Any) -> None:
    journal = write(tmp_path, created(), started(), planned() | {"fields": fields})
    found = progress_of(journal)
    assert found is not None and found.total is None


@given(st.binary(max_size=200))
def test_whatever_stands_at_the_end(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = write(folder, created(), started(), planned(), metric(7, 1.0), torn=tail)
    found = progress_of(journal)
    assert found is not None and found.step == 7


def long_journal(folder: Path, steps: int) -> Path:
    """As training writes it: four metrics a step, an evaluation once in five hundred."""
    keys = ("train_loss", "learning_rate", "grad_norm", "tokens")
    records = [created(), started(), planned(total=2 * steps), metric(0, 9.0, "eval_loss", ms=1)]
    for step in range(1, steps + 1):
        records += [metric(step, 1.0 / step, key) for key in keys]
        if step % 500 == 0:
            records.append(metric(step, 5.0 / step, "eval_loss"))
    return write(folder, *records)


def test_a_long_journal_is_as_cheap_as_a_short_one(tmp_path: Path) -> None:
    steps = 20_250
    journal = long_journal(tmp_path, steps)
    assert journal.stat().st_size > 6_000_000
    spent = []
    for _ in range(5):  # the best of five: a busy machine can slow a process down
        before = time.process_time()
        found = progress_of(journal, now=START + steps * 1000)
        spent.append(time.process_time() - before)
    assert found is not None
    assert (found.step, found.total, found.eval_loss) == (steps, 2 * steps, 5.0 / 20_000)
    assert found.seconds_left == pytest.approx(steps, rel=1e-3)
    before = time.process_time()
    whole = local.read_run(journal)
    assert whole is not None and whole.metrics["eval_loss"] == found.eval_loss
    assert min(spent) < (time.process_time() - before) / 4


def training(folder: Path, done: int, now_step: int, evaluated: bool) -> Path:
    """A journal of 1 s a step and 8 s an evaluation, one every 10 of 40 steps and at first."""
    journal = folder / "01K00000000000000000000000" / "events.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    at, lines = 1_000_000, []

    def add(kind: str, **fields: object) -> None:
        lines.append(json.dumps({"ts": at, "kind": kind, **fields}))

    def point(key: str, step: int) -> None:
        add("metric", key=key, version=1, step=step, value=2.0)

    about = {"id": journal.parent.name, "name": "n", "stage": "train"}
    add("created", **about, task="t", project="p", parent=None)
    add("started", process=asdict(process.current()))
    add("event", name="steps_planned", fields={"total": 40, "done": done, "eval_steps": 10})
    for step in range(1, done + 1):  # what was logged before, all at once
        point("train_loss", step)
        if step % 10 == 0:
            point("eval_loss", step)
    if done == 0:
        at += 8_000
        point("base_eval_loss", 0)
    for step in range(done + 1, now_step + 1):
        at += 1_000
        point("train_loss", step)
        if step % 10 == 0 and (step < now_step or evaluated):
            at += 8_000
            point("eval_loss", step)
    journal.write_text("\n".join(lines) + "\n")
    return journal


@pytest.mark.parametrize(
    ("done", "now_step", "evaluated", "left"),
    [
        (0, 7, False, 33 + 4 * 8),  # known from the base alone
        (0, 10, False, 30 + 4 * 8),  # the evaluation of this step is at work
        (0, 10, True, 30 + 3 * 8),
        (0, 25, False, 15 + 2 * 8),
        (0, 40, False, 8),
        (20, 32, False, 8 + 8),  # goes on: what was logged again tells no pace
    ],
)
def test_evaluations_to_come_are_in_the_time_left(
    tmp_path: Path, done: int, now_step: int, evaluated: bool, left: float
) -> None:
    journal = training(tmp_path, done, now_step, evaluated)
    last = json.loads(journal.read_text().splitlines()[-1])["ts"]
    found = progress_of(journal, last)
    assert found is not None
    assert (found.step, found.total) == (now_step, 40)
    assert found.seconds_left == pytest.approx(left, abs=0.1)
