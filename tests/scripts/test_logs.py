"""`logs` as a person uses it, beside runs that are really at work."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from codetune.artefact import TextLog, append_record
from codetune.runlog import create_run, open_run
from codetune.runlog.events import console_path, journal_path
from tests.runlog.acting import Actor

Script = Callable[..., subprocess.CompletedProcess[str]]
SCRIPT = "runs/logs.py"


class Reader:
    """A `logs` at work, whose lines are read as they come."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child, self.seen = child, b""

    def until(self, text: str, seconds: float = 20.0) -> str:
        """All that came, once `text` is in it."""
        assert self.child.stdout
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.child.stdout], [], [], left)[0], self.seen
            block = os.read(self.child.stdout.fileno(), 65536)
            assert block, self.seen.decode()
            self.seen += block
        return self.seen.decode()


@pytest.fixture
def logs(tmp_path: Path, root: Path) -> Iterator[Callable[..., Reader]]:
    """Starts `logs`; both its outputs come together."""
    children: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> Reader:
        child = subprocess.Popen(
            [sys.executable, str(root / "scripts" / SCRIPT), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        children.append(child)
        return Reader(child)

    yield start
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout
        child.stdout.close()


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """The console log of a run that has ended, with lines of every level."""
    run = open_run(tmp_path, stage="train", name="full", config={})
    run.finish("finished", "max_steps reached")
    file = console_path(tmp_path, run.id)
    log = TextLog(file)
    for n in range(100):
        log.write("warning" if n % 10 == 5 else "info", f"step {n}")
    log.write("error", "lost the disk")
    log.close()
    return file


def texts(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line[28:] for line in done.stdout.splitlines()]


def test_a_run_that_has_ended_is_shown_and_how_it_ended(ended: Path, run_script: Script) -> None:
    done = run_script(SCRIPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ended.read_text().splitlines()[-40:]
    assert "no run is at work; the newest one, train full" in done.stderr
    assert "ended, finished: max_steps reached" in done.stderr
    assert "\x1b" not in done.stdout
    named = run_script(SCRIPT, "full", "-n", 2)
    assert texts(named) == ["step 99", "lost the disk"]
    assert "no run is at work" not in named.stderr
    assert run_script(SCRIPT, ended.parent.name[-6:].lower(), "-n", "0").stdout == ""


def test_lines_are_chosen_by_level_and_by_pattern(ended: Path, run_script: Script) -> None:
    def shown(*words: object) -> list[str]:
        return texts(run_script(SCRIPT, *words))

    assert shown("--level", "error") == ["lost the disk"]
    assert shown("--level", "warning", "-n", 2) == ["step 95", "lost the disk"]
    assert shown("--grep", "step [12]$") == ["step 1", "step 2"]
    assert shown("--grep", "(?i)DISK") == ["lost the disk"]
    assert shown("--grep", "warning.*9", "--level", "warning") == ["step 95"]
    assert shown("--grep", "nowhere") == []


@pytest.mark.parametrize("pattern", ["(", "a{9999}", "(?=x)", r"\1", "*"])
def test_a_wrong_pattern_is_one_line(ended: Path, run_script: Script, pattern: str) -> None:
    done = run_script(SCRIPT, "--grep", pattern)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is no pattern: " in done.stderr


def test_a_pattern_cannot_hang(ended: Path, run_script: Script) -> None:
    TextLog(ended).write("info", "a" * 60_000 + "!")
    started = time.monotonic()
    assert run_script(SCRIPT, "--grep", "(a+)+$|(a|a)*b").returncode == 0
    assert time.monotonic() - started < 5


def test_where_the_log_lies(ended: Path, run_script: Script) -> None:
    assert run_script(SCRIPT, "full", "--path").stdout == f"{ended}\n"


def test_what_cannot_be_shown_is_one_line_and_exit_2(run_script: Script, tmp_path: Path) -> None:
    def said(*words: object) -> str:
        done = run_script(SCRIPT, *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        return done.stderr

    assert "no runs here yet" in said()
    open_run(tmp_path, stage="sft", name="silent", config={}).finish("failed", "why")
    assert "kept no log; it ended, failed: why" in said("silent")
    assert "no run is called 'nobody'" in said("nobody")
    assert "no run is called" in said("../../../etc/passwd")
    assert "-n: -1 lines" in said("-n", "-1")
    assert "did you mean warning" in said("--level", "warn")


def test_hostile_lines_reach_nobody_as_anything_but_text(ended: Path, run_script: Script) -> None:
    with ended.open("ab") as out:
        out.write(b"2026-05-01 12:00:00 info    \x1b]52;c;eA==\x07[bold]$(touch x)\x9b2J\xff\n")
        out.write(b"\x1b[2Jundated \xe2\x80\xaeevil\n\x00\x00torn")
    done = run_script(SCRIPT, "-n", "2")  # and the torn one
    assert done.stdout.splitlines() == [
        "2026-05-01 12:00:00 info    [bold]$(touch x)\ufffd2J\ufffd",
        "undated evil",
        "torn",
    ]


def test_it_follows_the_run_at_work_and_ends_with_it(
    tmp_path: Path, logs: Callable[..., Reader]
) -> None:
    with Actor(tmp_path) as run:
        run.do("say", "step 1")
        reader = logs()
        reader.until("step 1")
        run.do("warn", "slow")
        reader.until("warning slow")
        run.do("say", "bye")
        run.end("refused", "worse than before")
        assert reader.child.wait(20) == 0
    shown = reader.until("ended, refused: worse than before")
    assert shown.index("bye") < shown.index("ended, refused")
    assert re.findall(r"step 1|slow|bye", shown) == ["step 1", "slow", "bye"]


def test_a_native_crash_is_told_with_its_last_words(
    tmp_path: Path, logs: Callable[..., Reader]
) -> None:
    with Actor(tmp_path) as run:
        reader = logs("full", "--level", "error")
        reader.until("following")
        (run.folder / "output.log").write_text("raw words\n")
        run.do("crash")
        assert reader.child.wait(20) == 0
        shown = reader.until("ended, crashed: the process ended without a word")
    assert "Fatal Python error: Aborted" in shown
    assert "raw words" not in shown  # it has no level


def test_raw_output_of_a_detached_run_is_shown_beside(
    tmp_path: Path, logs: Callable[..., Reader]
) -> None:
    with Actor(tmp_path) as run:
        reader = logs()
        reader.until("following")
        run.do("say", "said once")
        with (run.folder / "output.log").open("w") as out:
            out.write("said once\n\x1b[1mCUDA error\x1b[0m\n")
        reader.until("output | CUDA error")
        run.end()
        assert reader.child.wait(20) == 0
    assert reader.seen.count(b"said once") == 1


def test_without_a_name_it_goes_through_the_whole_pipeline(
    tmp_path: Path, logs: Callable[..., Reader]
) -> None:
    with Actor(tmp_path, "pipeline", "whole") as pipeline:
        pipeline.do("say", "1 of 3: sft")
        reader = logs()
        reader.until("1 of 3: sft")
        for stage in ("sft", "train", "merge"):
            with Actor(tmp_path, stage, f"my {stage}", pipeline.id) as run:
                run.do("say", f"hello from {stage}")
                if stage == "train":
                    reader.until("hello from train")
                run.end("finished", f"{stage} done")
        pipeline.end("finished", "all done")
        assert reader.child.wait(20) == 0
    shown = reader.until("all done")
    parts = ["hello from sft", "sft done", "hello from train", "train done", "merge done"]
    assert sorted(parts, key=shown.index) == parts
    assert shown.rstrip().endswith("ended, finished: all done")


def test_a_run_that_waits_for_its_start_is_waited_for(
    tmp_path: Path, run_script: Script, logs: Callable[..., Reader]
) -> None:
    run_id = create_run(tmp_path, stage="train", name="full")
    assert "is created" in run_script(SCRIPT, "--no-follow").stderr
    reader = logs()
    reader.until("following train full")
    run = open_run(tmp_path, stage="train", config={}, run_id=run_id)
    TextLog(console_path(tmp_path, run_id)).write("info", "at last")
    reader.until("at last")
    run.finish("finished")
    assert reader.child.wait(20) == 0


def test_no_follow_ends_with_the_last_line(tmp_path: Path, run_script: Script) -> None:
    with Actor(tmp_path) as run:
        run.do("say", "step 1")
        done = run_script(SCRIPT, "--no_follow")
    assert (done.returncode, texts(done)) == (0, ["step 1"])
    assert "is running" in done.stderr


def test_ctrl_c_ends_looking_and_not_the_run(tmp_path: Path, logs: Callable[..., Reader]) -> None:
    with Actor(tmp_path) as run:
        reader = logs()
        reader.until("following")
        reader.child.send_signal(signal.SIGINT)
        assert reader.child.wait(20) == 130
        assert b"Traceback" not in reader.seen
        run.do("say", "still here")


def test_it_goes_when_its_reader_has_gone_though_nothing_is_said(
    tmp_path: Path, root: Path
) -> None:
    with Actor(tmp_path):
        child = subprocess.Popen(
            [sys.executable, str(root / "scripts" / SCRIPT)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.5)
        assert child.stdout
        child.stdout.close()
        assert child.wait(20) == 0


def test_levels_have_colours_on_a_terminal_only(ended: Path, root: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, str(root / "scripts" / SCRIPT), "-n", "7"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "TERM": "xterm", "COLUMNS": "30"},
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 20)[0]:
        try:
            block = os.read(ours, 4096)
        except OSError:  # the other side was closed
            break
        if not block:
            break
        shown += block
    assert child.wait(20) == 0
    os.close(ours)
    lines = shown.decode().splitlines()
    assert len(lines) == 7
    assert all(line.startswith("\x1b[2m2") for line in lines)  # dim
    assert "\x1b[33m warning step 95\x1b[0m" in lines[1]
    assert "\x1b[31m error   lost the disk\x1b[0m" in lines[6]
    assert lines[2].endswith("info    step 96")


@pytest.mark.slow
def test_following_costs_less_than_a_percent_of_a_core(
    tmp_path: Path, logs: Callable[..., Reader]
) -> None:
    for n in range(300):
        old = create_run(tmp_path, stage="sft", name=f"old {n}")
        end = {"ts": 1, "kind": "finished", "status": "up to date", "reason": ""}
        append_record(journal_path(tmp_path, old), end)
    with (
        Actor(tmp_path, "pipeline", "whole") as pipeline,
        Actor(tmp_path, "train", "full", pipeline.id) as run,
    ):
        with (run.folder / "console.log").open("ab") as out:
            out.write((b"2026-05-01 12:00:00 info    " + b"x" * 71 + b"\n") * 10**6)
        reader = logs()
        reader.until("following")
        process = psutil.Process(reader.child.pid)
        for n in range(300):
            create_run(tmp_path, stage="sft", name=f"new {n}")
        time.sleep(1)
        before, memory = process.cpu_times(), process.memory_info().rss
        time.sleep(10)
        after = process.cpu_times()
        assert after.user + after.system - before.user - before.system < 0.1
        assert memory < 120 * 2**20
