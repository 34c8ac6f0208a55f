"""`runs watch` as an editor or a script uses it, beside runs that are really at work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codetune.artefact import append_record
from codetune.runlog import open_run
from codetune.runlog.events import journal_path
from tests.runlog.acting import Actor

Script = Callable[..., subprocess.CompletedProcess[str]]
Watch = Callable[..., subprocess.Popen[str]]
SCRIPT = "runs/watch.py"


@pytest.fixture
def watch(tmp_path: Path, root: Path) -> Iterator[Watch]:
    """Starts `runs watch --json` with more arguments."""
    children: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, str(root / "scripts" / SCRIPT), "--json", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout
        child.stdout.close()


def told(child: subprocess.Popen[str]) -> dict[str, Any]:
    """The next record."""
    assert child.stdout
    found: dict[str, Any] = json.loads(child.stdout.readline())
    return found


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def finished(tmp_path: Path, name: str = "full") -> str:
    run = open_run(tmp_path, stage="train", name=name, config={"lr": 0.1})
    run.metric("loss", 1.5, 1)
    run.metric("loss", float("nan"), 2)
    run.tag("a tag")
    run.finish("finished", "all done")
    return run.id


def test_each_record_comes_at_once_and_the_last_ends_it(tmp_path: Path, watch: Watch) -> None:
    with Actor(tmp_path) as run:
        child = watch("full", "--from_start")
        assert [told(child)["kind"] for _ in range(2)] == ["created", "started"]
        for step in range(3):
            run.do("metric", "loss", 2.5 - step, step)
            record = told(child)
            assert (record["run"], record["name"], record["stage"]) == (run.id, "full", "train")
            assert (record["kind"], record["key"], record["value"], record["step"]) == (
                "metric",
                "loss",
                2.5 - step,
                step,
            )
            assert abs(record["ts"] / 1000 - time.time()) < 60
        run.end("failed", "why")
        last = told(child)
        assert (last["kind"], last["status"], last["reason"]) == ("finished", "failed", "why")
        assert child.wait(20) == 0


def test_without_from_start_only_what_comes(tmp_path: Path, watch: Watch) -> None:
    with Actor(tmp_path) as run:
        run.do("metric", "loss", 9.0, 1)
        child = watch("full", "--kinds", "metric,crashed")
        deadline = time.monotonic() + 20
        step = 1
        while time.monotonic() < deadline and step < 8:
            step += 1
            run.do("metric", "loss", float(step), step)
            time.sleep(0.2)
        assert told(child)["step"] > 1
        run.do("crash")
        assert child.stdout
        rest = [json.loads(line) for line in child.stdout]
        assert [record["kind"] for record in rest[:-1]] == ["metric"] * len(rest[:-1])
        assert rest[-1]["kind"] == "crashed"
        assert child.wait(20) == 0


def test_a_run_that_has_ended_gives_its_last_record_or_all(
    tmp_path: Path, run_script: Script
) -> None:
    run_id = finished(tmp_path)
    (last,) = records(run_script(SCRIPT, "full", "--json"))
    assert (last["run"], last["kind"], last["reason"]) == (run_id, "finished", "all done")
    every = records(run_script(SCRIPT, run_id[-7:], "--json", "--from-start"))
    kinds = ["created", "started", "metric", "metric", "event", "tag", "finished"]
    assert [record["kind"] for record in every] == kinds
    assert (every[3]["value"], every[4]["event"]) == (None, "not_finite")
    chosen = records(run_script(SCRIPT, "full", "--json", "--from_start", "--kinds", "tag"))
    assert [record["text"] for record in chosen] == ["a tag"]


def test_it_can_go_on_where_it_was_left(tmp_path: Path, run_script: Script) -> None:
    finished(tmp_path)
    every = records(run_script(SCRIPT, "full", "--json", "--from_start"))
    third = every[2]["offset"]
    assert records(run_script(SCRIPT, "full", "--json", "--after", third)) == every[3:]
    end = every[-1]["offset"]
    assert records(run_script(SCRIPT, "full", "--json", "--after", end)) == every[-1:]
    for words, said in (
        (("full", "--after", third + 1), "no record of train full"),
        (("full", "--after", "-1"), "no record of train full"),
        (("--after", "0"), "of which RUN"),
        (("full", "--kinds", "metrics"), "did you mean metric?"),
        (("full", "--kinds", "metric, zzz"), "kinds: created, started"),
        (("nobody",), "no run is called 'nobody'"),
    ):
        done = run_script(SCRIPT, *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert said in done.stderr


def test_without_a_run_all_that_are_at_work_and_all_that_start(
    tmp_path: Path, watch: Watch
) -> None:
    old = finished(tmp_path, "old")
    with Actor(tmp_path, name="one") as one:
        child = watch("--from_start")
        assert (told(child)["run"], told(child)["kind"]) == (one.id, "started")
        with Actor(tmp_path, "compare", "two") as two:
            assert [told(child)["run"] for _ in range(2)] == [two.id] * 2
            two.do("event", "hello")
            assert told(child)["event"] == "hello"
            two.do("crash")
            assert told(child)["kind"] == "crashed"
        one.do("tag", "last")
        record = told(child)
        assert (record["run"], record["text"]) == (one.id, "last")
        assert old not in (one.id, two.id)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130


def test_lines_for_people_are_one_line_each_and_harmless(
    tmp_path: Path, run_script: Script
) -> None:
    run = open_run(tmp_path, stage="train", name="a\n\x1b[31mb $(touch x)" + "n" * 4000, config={})
    run.metric("train_loss", 1.25, 7)
    run.event("checkpoint", step=7, path="[bold]\nx")
    for odd in ({"kind": "event", "name": 3, "fields": "x"}, {"kind": "note", "ts": 2**70}):
        append_record(journal_path(tmp_path, run.id), odd)
    run.finish("finished")
    done = run_script(SCRIPT, run.id, "--from_start")
    lines = done.stdout.splitlines()
    assert len(lines) == 7
    assert "\x1b" not in done.stdout and max(map(len, lines)) < 600
    shown = [line.partition(" ")[2] for line in lines]
    assert all(line.startswith("a b $(touch x)nnn") for line in shown)
    assert shown[2].endswith("metric key=train_loss version=1 step=7 value=1.25")
    assert shown[3].endswith("event event=checkpoint step=7 path=[bold] x")


def test_it_goes_when_its_reader_has_gone(tmp_path: Path, watch: Watch) -> None:
    with Actor(tmp_path):
        child = watch("--from_start")
        told(child)
        assert child.stdout
        child.stdout.close()
        assert child.wait(20) == 0
