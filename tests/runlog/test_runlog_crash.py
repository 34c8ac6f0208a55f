"""Writers that are killed, databases that go away: what was journalled is never lost."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from codetune.runlog import RunRow, active_runs, events, flusher, latest, open_run, process
from codetune.runlog.keeping.rebuild import reindex
from tests.runlog.asking import get_run, list_runs

pytestmark = pytest.mark.crash
WRITER = """
import sys, time
from pathlib import Path
from codetune.runlog import open_run
run = open_run(Path(sys.argv[1]), stage="train", config={}, name=sys.argv[2])
print(run.id, flush=True)
for step in range(int(sys.argv[3])):
    run.metric("loss", float(step), step)
    if step % 10 == 0:
        time.sleep(0.02)
        print(step, flush=True)
if sys.argv[4:] == ["hang"]:
    time.sleep(600)
run.finish("finished")
"""


@pytest.fixture
def start(tmp_path: Path, root: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts writers; what is left of them is ended after the test."""
    started: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}

    def writer(name: str, points: int, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, str(tmp_path), name, str(points), *more]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        started.append(child)
        return child

    yield writer
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


def wait_for(true: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def test_a_killed_run_shows_as_crashed_and_is_no_longer_active(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    child = start("victim", 100, "hang")
    run_id = child.stdout.readline().strip()
    wait_for(lambda: active_runs(tmp_path))
    assert [row.status for row in list_runs(tmp_path)] == ["running"]
    child.kill()
    wait_for(
        lambda: not active_runs(tmp_path)
    )  # a zombie until it is waited for: dead all the same
    (row,) = list_runs(tmp_path)
    assert (row.id, row.status) == (run_id, "crashed")
    assert row.reason
    child.wait()
    assert latest(tmp_path, "train", "crashed").id == run_id


def running(machine: str, pid: int, started: int, heartbeat: int) -> RunRow:
    from codetune.runlog.local import with_liveness

    who = process.Process(machine, pid, started)
    row = RunRow("1", "n", "train", "running", process=who, heartbeat=heartbeat)
    return with_liveness(row)


def test_a_pid_that_was_given_to_another_process_is_not_the_run() -> None:
    own = process.current()
    now = process.now_ms()
    assert running(own.machine, own.pid, own.started, 0).status == "running"
    assert running(own.machine, own.pid, own.started - 10_000, now).status == "crashed"
    gone = max(psutil.pids()) + 100_000
    assert running(own.machine, gone, own.started, now).status == "crashed"


def test_on_another_machine_the_last_sign_of_life_decides() -> None:
    now = process.now_ms()
    assert running("elsewhere", 1, 0, now - 1_000).status == "running"
    assert running("elsewhere", 1, 0, now - process.LEASE_MS - 1_000).status == "crashed"


def test_a_torn_journal_is_cut_and_indexed_up_to_there(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="train", config={})
    run.metric("loss", 1.0)
    run.finish("finished")
    journal = events.journal_path(tmp_path, run.id)
    size = journal.stat().st_size
    with journal.open("ab") as file:
        file.write(b'{"ts":1,"kind":"metr')
    assert list_runs(tmp_path)[0].status == "finished"
    assert reindex(tmp_path) == 1
    connection = sqlite3.connect(tmp_path / "logs/runs.db")
    assert connection.execute("SELECT indexed FROM run").fetchone() == (size,)
    connection.close()


def test_a_database_lost_during_a_run_is_one_warning_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(flusher, "FLUSH_SECONDS", 0.05)
    run = open_run(tmp_path, stage="train", config={})
    file = tmp_path / "logs/runs.db"
    run.metric("loss", 1.0, 0)
    wait_for(lambda: sqlite3.connect(file).execute("SELECT 1 FROM metric").fetchone())
    file.rename(file.with_suffix(".away"))
    for step in range(1, 4):
        run.metric("loss", 1.0 + step, step)
        time.sleep(0.15)
    run.finish("finished")
    said = capsys.readouterr().err
    assert said.count("warning:") == 1
    assert "runs.db lost" in said
    assert "indexed later" in said

    file.with_suffix(".away").rename(file)
    (row,) = list_runs(tmp_path)
    assert (row.status, row.metrics) == ("finished", {"loss": 4.0})
    assert get_run(tmp_path, run.id).metrics[0].count == 4


def test_a_database_that_comes_back_during_the_run_is_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(flusher, "FLUSH_SECONDS", 0.05)
    run = open_run(tmp_path, stage="train", config={})
    file = tmp_path / "logs/runs.db"
    away = file.rename(file.with_suffix(".away"))
    run.metric("loss", 1.0)
    wait_for(lambda: "lost" in capsys.readouterr().err)
    away.rename(file)
    wait_for(lambda: sqlite3.connect(file).execute("SELECT 1 FROM metric").fetchone())
    run.finish("finished")
    assert "lost" not in capsys.readouterr().err


def test_a_busy_database_delays_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training loop only ever appends to a file; another's lock is the thread's problem."""
    monkeypatch.setattr(flusher, "FLUSH_SECONDS", 0.02)
    run = open_run(tmp_path, stage="train", config={})
    holder = sqlite3.connect(tmp_path / "logs/runs.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    for step in range(2000):
        run.metric("loss", 0.0, step)
    took = time.monotonic() - began
    holder.execute("ROLLBACK")
    holder.close()
    run.finish("finished")
    assert took < 3.0
    assert get_run(tmp_path, run.id).metrics[0].count == 2000


def test_the_thread_samples_the_load_and_catches_up_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_run(tmp_path, stage="sft", config={}).finish("up to date")
    monkeypatch.setattr(flusher, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(flusher, "SAMPLE_SECONDS", 0.1)
    run = open_run(tmp_path, stage="train", config={})
    file = tmp_path / "logs/runs.db"
    wait_for(lambda: sqlite3.connect(file).execute("SELECT 1 FROM system_sample").fetchone())
    wait_for(lambda: sqlite3.connect(file).execute("SELECT count(*) FROM run").fetchone() == (2,))
    run.finish("finished")
    details = get_run(tmp_path, run.id)
    assert details.peak_rss > 10 * 2**20
    assert "cpu_percent" in json.dumps(
        [r.fields for r in events.read(events.journal_path(tmp_path, run.id))]
    )
