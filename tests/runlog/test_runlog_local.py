"""Runs read from their journals alone: written by hand here, line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from codetune.runlog import (
    RunFile,
    RunRow,
    active_runs,
    create_run,
    events,
    latest,
    open_run,
    process,
)
from codetune.runlog.local import read_run, run_ids

IDS = ("01ARZ3NDEKTSV4RRFFQ69G5FA1", "01ARZ3NDEKTSV4RRFFQ69G5FA2", "01ARZ3NDEKTSV4RRFFQ69G5FA3")
FINISHED = {"ts": 9_000, "kind": "finished", "status": "finished", "reason": "done"}


def created(run_id: str, stage: str = "train") -> dict[str, Any]:
    told = {"id": run_id, "name": f"n-{run_id[-1]}", "stage": stage, "task": "t", "project": "p"}
    return {"ts": 1_000, "kind": "created", "parent": None, **told}


def started(who: process.Process | None = None) -> dict[str, Any]:
    who = who or process.current()
    told = {"machine": who.machine, "pid": who.pid, "started": who.started}
    return {"ts": 2_000, "kind": "started", "process": told}


def written(root: Path, *lines: dict[str, Any], run_id: str = IDS[0]) -> Path:
    journal = events.journal_path(root, run_id)
    journal.parent.mkdir(parents=True)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return journal


def test_a_whole_life(tmp_path: Path) -> None:
    files = [
        {"ts": 3_000, "kind": "input", "role": "eval", "path": "data/e.jsonl", "sha256": "1"},
        {"ts": 3_500, "kind": "output", "role": "adapter", "path": "outputs/a", "sha256": None},
        {"ts": 3_600, "kind": "output", "role": "adapter", "path": "outputs/b", "sha256": "2"},
    ]
    points = [
        {"ts": 4_000 + n, "kind": "metric", "key": "loss", "version": 1, "step": n, "value": value}
        for n, value in enumerate((3.0, None, 2.0))
    ]
    row = read_run(written(tmp_path, created(IDS[0]), started(), *files, *points, FINISHED))
    assert row == RunRow(
        id=IDS[0],
        name="n-1",
        stage="train",
        status="finished",
        reason="done",
        task="t",
        project="p",
        created=1_000,
        started=2_000,
        ended=9_000,
        heartbeat=9_000,
        process=process.current(),
        files=(
            RunFile("in", "eval", "data/e.jsonl", "1"),
            RunFile("out", "adapter", "outputs/a", None),
            RunFile("out", "adapter", "outputs/b", "2"),
        ),
        metrics={"loss": 2.0},
    )
    assert [file.path for file in row.inputs] == ["data/e.jsonl"]
    assert row.output("adapter") == Path("outputs/b")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([created(IDS[0])], "created"),
        ([created(IDS[0]), started()], "running"),
        ([created(IDS[0]), started(process.Process("x", 1, 1))], "crashed"),
        ([created(IDS[0]), started(), FINISHED], "finished"),
        ([created(IDS[0]), {**FINISHED, "status": "interrupted"}], "interrupted"),
    ],
)
def test_the_status_follows_the_last_word(
    tmp_path: Path, lines: list[dict[str, Any]], status: str
) -> None:
    assert read_run(written(tmp_path, *lines)).status == status
    assert bool(active_runs(tmp_path)) == (status == "running")


WHOLE = [
    *(created(IDS[0]), started()),
    {"ts": 3_000, "kind": "metric", "key": "loss", "version": 1, "step": 1, "value": 1.0},
    {"ts": 4_000, "kind": "output", "role": "adapter", "path": "outputs/a", "sha256": None},
    FINISHED,
]


@pytest.mark.parametrize("value", ["missing", None, [], {"a": 1}])
@pytest.mark.parametrize(
    ("number", "key"),
    [
        *[(0, key) for key in ("id", "name", "stage", "task", "project", "ts")],
        *[(1, key) for key in ("process", "ts")],
        *[(2, key) for key in ("key", "ts")],
        *[(3, key) for key in ("role", "path", "ts")],
        *[(4, key) for key in ("status", "reason", "ts")],
    ],
)
def test_a_damaged_record_is_passed_over(
    tmp_path: Path, number: int, key: str, value: object
) -> None:
    """As if it was not there, for every reader: damaged alone, and beside the record itself."""
    damaged = {k: v for k, v in WHOLE[number].items() if k != key}
    damaged |= {} if value == "missing" else {key: value}
    beside = [*WHOLE[:number], damaged, *WHOLE[number:]]
    row = read_run(written(tmp_path, *beside))
    assert row is not None
    assert (row.status, row.reason, row.heartbeat) == ("finished", "done", 9_000)
    alone = [*WHOLE[:number], damaged, *WHOLE[number + 1 :]]
    found = read_run(written(tmp_path, *alone, run_id=IDS[1]))
    assert (found is None) == (number == 0)
    assert active_runs(tmp_path) == [] or number == 4


def test_no_beginning_no_run(tmp_path: Path) -> None:
    assert read_run(written(tmp_path, started(), FINISHED)) is None
    assert latest(tmp_path, "train") is None
    assert active_runs(tmp_path) == []


def test_newest_first_and_strangers_are_passed_over(tmp_path: Path) -> None:
    for run_id in IDS:
        written(tmp_path, created(run_id), started(), FINISHED, run_id=run_id)
    (tmp_path / "logs/runs/notes.txt").write_text("x")
    (tmp_path / "logs/runs/empty").mkdir()
    assert run_ids(tmp_path) == list(reversed(IDS))
    assert latest(tmp_path, "train").id == IDS[2]
    assert run_ids(tmp_path / "nowhere") == []
    assert latest(tmp_path / "nowhere", "train") is None


def test_only_the_end_of_a_long_journal_is_read_to_see_that_it_is_over(tmp_path: Path) -> None:
    noise = [{"ts": 3, "kind": "tag", "text": "x" * 200} for _ in range(2000)]
    journal = written(tmp_path, created(IDS[0]), started(), *noise)
    assert [row.id for row in active_runs(tmp_path)] == [IDS[0]]
    with journal.open("a") as file:
        file.write(json.dumps(FINISHED) + "\n")
    assert active_runs(tmp_path) == []


def test_a_last_line_longer_than_the_tail_still_counts(tmp_path: Path) -> None:
    huge = {"ts": 3, "kind": "tag", "text": "x" * 200_000}
    written(tmp_path, created(IDS[0]), started(), huge)
    assert [row.id for row in active_runs(tmp_path)] == [IDS[0]]


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="train", config={})

    def work(name: str) -> None:
        for step in range(200):
            run.metric(name, step, step)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish("finished")
    points = [r for r in events.read(events.journal_path(tmp_path, run.id)) if r.kind == "metric"]
    for name in "abcd":
        assert [p.fields["step"] for p in points if p.fields["key"] == name] == list(range(200))


def test_a_process_that_forgets_to_finish_has_crashed(tmp_path: Path, root: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from codetune.runlog import open_run\n"
        "open_run(Path(sys.argv[1]), stage='train', config={}).metric('loss', 1.0)"
    )
    settings = {**os.environ, "PYTHONPATH": str(root / "src")}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=settings)
    found = latest(tmp_path, "train", "crashed")
    assert found.metrics == {"loss": 1.0}


def test_ids_sort_by_time(tmp_path: Path) -> None:
    import time

    made = []
    for _ in range(5):
        made.append(create_run(tmp_path, stage="sft"))
        time.sleep(0.002)
    assert made == sorted(made)
    assert run_ids(tmp_path) == made[::-1]
