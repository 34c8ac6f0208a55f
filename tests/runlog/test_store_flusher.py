"""The background thread: it outlives whatever happens around it, and stands in nobody's way."""

from __future__ import annotations

import json
import shutil
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from codetune import machine
from codetune.machine import Load
from codetune.runlog import Run, create_run, events, flusher, open_run
from tests.runlog.asking import get_run, list_runs


def wait_for(true: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flusher, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(flusher, "SAMPLE_SECONDS", 0.05)


def opened(root: Path, stage: str = "train") -> Run:
    return open_run(root, stage=stage, config={})


def alive() -> bool:
    return any(thread.name == "runlog" for thread in threading.enumerate())


def count(root: Path, table: str) -> int:
    connection = sqlite3.connect(root / "logs/runs.db", timeout=10)
    (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return int(found)


def samples(root: Path, run: Run) -> int:
    journal = events.journal_path(root, run.id)
    return sum(record.kind == "system" for record in events.read(journal))


@pytest.mark.usefixtures("quick")
def test_the_folder_vanishes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = opened(tmp_path)
    run.metric("loss", 1.0, 0)
    wait_for(lambda: count(tmp_path, "metric"))
    shutil.rmtree(tmp_path / "logs")
    for step in range(1, 20):
        run.metric("loss", 1.0, step)
        time.sleep(0.02)
    assert alive()
    run.finish("finished")
    said = capsys.readouterr().err
    assert said.count("warning:") == 1
    assert "events.jsonl is gone" in said or "runs.db lost" in said  # whichever went first


@pytest.mark.usefixtures("quick")
def test_the_folder_is_away_for_a_while(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher, "_LONGEST_PAUSE", 0.1)
    run = opened(tmp_path)
    away = (tmp_path / "logs").rename(tmp_path / "elsewhere")
    for step in range(10):
        run.metric("loss", 1.0, step)  # the file stays open, wherever it is
    wait_for(lambda: "is gone" in capsys.readouterr().err)
    away.rename(tmp_path / "logs")
    wait_for(lambda: count(tmp_path, "metric") == 10)
    run.finish("finished")
    assert get_run(tmp_path, run.id).row.status == "finished"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("problem", [psutil.AccessDenied(1), psutil.NoSuchProcess(1), OSError(24)])
def test_the_process_table_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise problem

    run = opened(tmp_path)
    monkeypatch.setattr(psutil.Process, "memory_info", refuse)
    monkeypatch.setattr(psutil.Process, "cpu_percent", refuse)
    run.metric("loss", 1.0)
    wait_for(lambda: count(tmp_path, "metric"))
    time.sleep(0.2)
    assert alive()
    run.finish("finished")


@pytest.mark.usefixtures("quick")
def test_no_sampler_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(machine, "Sampler", refuse)
    run = opened(tmp_path)
    run.metric("loss", 1.0)
    wait_for(lambda: count(tmp_path, "metric"))
    run.finish("finished")
    assert samples(tmp_path, run) == 0


@pytest.mark.usefixtures("quick")
def test_samples_go_on_while_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the sign of life that other machines look at."""
    monkeypatch.setattr(flusher, "_LONGEST_PAUSE", 30.0)
    run = opened(tmp_path)
    (tmp_path / "logs/runs.db").unlink()
    run.metric("loss", 1.0)
    before = samples(tmp_path, run)
    wait_for(lambda: samples(tmp_path, run) > before + 10, seconds=5)
    run.finish("finished")


def test_a_sample_of_gpus_reaches_its_row(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.sample(Load(50.0, 2**30, 75.5, 2**34, 61.0, 250.5))
    time.sleep(0.002)  # samples are told apart by their millisecond
    run.sample(Load(10.0, 2**20))
    run.finish("finished")
    records = [r.fields for r in events.read(events.journal_path(tmp_path, run.id))]
    bare = next(r for r in records if r["kind"] == "system" and r["rss"] == 2**20)
    assert not [key for key in bare if key.startswith("gpu")]
    connection = sqlite3.connect(tmp_path / "logs/runs.db")
    kept = connection.execute(
        "SELECT cpu_percent, rss, gpu_percent, gpu_memory, gpu_temperature, gpu_power "
        "FROM system_sample ORDER BY ts LIMIT 2"
    ).fetchall()
    connection.close()
    assert kept == [(50.0, 2**30, 75.5, 2**34, 61.0, 250.5), (10.0, 2**20, *[None] * 4)]


def backlog(root: Path, points: int) -> str:
    """A run whose journal is full and whose rows are missing; returns its id."""
    journal = events.journal_path(root, create_run(root, stage="train"))
    point = {"ts": 1, "kind": "metric", "key": "loss", "version": 1, "value": 1.0}
    with journal.open("a") as file:
        for step in range(points):
            file.write(json.dumps({**point, "step": step}) + "\n")
    return journal.parent.name


@pytest.mark.usefixtures("quick")
def test_what_others_left_is_taken_in_beside_the_own_work(tmp_path: Path) -> None:
    left = [backlog(tmp_path, points) for points in (0, 1500, 3)]
    run = opened(tmp_path)
    for step in range(5):
        run.metric("own", 1.0, step)
    wait_for(lambda: (count(tmp_path, "metric"), count(tmp_path, "run")) == (1508, 4))
    run.finish("finished")
    connection = sqlite3.connect(tmp_path / "logs/runs.db")
    ids = {found for (found,) in connection.execute("SELECT id FROM run")}
    connection.close()
    assert ids == {*left, run.id}


def test_a_large_backlog_leaves_the_interpreter_to_the_run(tmp_path: Path) -> None:
    """A thread that computes would take ten times as much from a loop that works in C."""
    backlog(tmp_path, 100_000)
    run = opened(tmp_path)
    run.metric("own", 1.0)
    wait_for(lambda: count(tmp_path, "run") == 2)  # it has loaded its libraries, and begun
    began, before = time.thread_time(), time.process_time()
    time.sleep(3)
    used = time.process_time() - before - (time.thread_time() - began)
    indexed = count(tmp_path, "metric")
    run.finish("finished")
    assert 1 < indexed < 100_000
    assert used < 1.5, f"{used} s of CPU in 3 s"


def test_a_run_ends_promptly_in_the_middle_of_a_backlog(tmp_path: Path) -> None:
    backlog(tmp_path, 100_000)
    run = opened(tmp_path)
    time.sleep(1.5)
    began = time.monotonic()
    run.finish("finished")
    assert time.monotonic() - began < 2
    assert count(tmp_path, "run") == 2


def logged_while_locked(root: Path, seconds: float) -> tuple[Run, list[float], list[float]]:
    """Logs for a while with the database locked by another.

    Returns what each call took of the processor and by the clock, in seconds.
    """
    run = opened(root)
    holder = sqlite3.connect(root / "logs/runs.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    used, took, until = [], [], time.monotonic() + seconds
    while time.monotonic() < until:
        began, computed = time.perf_counter(), time.thread_time()
        run.metric("loss", 1.0, len(took))
        used.append(time.thread_time() - computed)
        took.append(time.perf_counter() - began)
        time.sleep(0.005)
    holder.execute("ROLLBACK")
    holder.close()
    return run, used, took


@pytest.mark.parametrize(
    ("seconds", "warnings"), [(2, 0), pytest.param(60, 1, marks=pytest.mark.slow)]
)
def test_a_locked_database_blocks_no_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: int, warnings: int
) -> None:
    run, used, took = logged_while_locked(tmp_path, seconds)
    run.finish("finished")
    # The bar is 0.1 ms, which benchmarks/runlog.py measures; other work beside it costs caches.
    assert statistics.mean(used) < 5e-4
    assert max(took) < seconds / 2, "no call waited for the lock"
    assert capsys.readouterr().err.count("warning:") == warnings
    (row,) = list_runs(tmp_path)
    assert row.status == "finished"
    assert get_run(tmp_path, run.id).metrics[0].count == len(took)
