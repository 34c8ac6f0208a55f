"""Signals that reach a stage, at any moment and when nobody hears it any more."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codetune import signals

PROGRAM = '''
    """A stage for tests."""
    import sys, time
    from pathlib import Path
    from codetune import console, signals, stage
    from codetune.config import Config, knob

    class Knobs(Config):
        what: str = knob("wait", "what happens")

    class Cleaned:
        """As when a model is loaded: what is raised in here is dropped."""
        def __del__(self):
            Path("cleaning").touch()
            time.sleep(1.0)

    def run(config, log):
        if config.what == "lost":
            thing = Cleaned()
            del thing
            Path("after").touch()
            signals.heed()
            Path("long-work").touch()
        with console.progress("steps", 1000) as bar:
            Path("ready").touch()
            for step in range(1000):
                console.say(f"step {step}")
                bar.advance()
                time.sleep(0.01)
                if step == 100 and config.what == "unheard":
                    break
        Path("done").touch()
        return stage.Report("all done")

    raise SystemExit(stage.main(__doc__, Knobs, run, stage="trial"))
'''
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path, root: Path) -> Start:
    """Starts the stage in a folder of its own."""
    (tmp_path / "stage.py").write_text(textwrap.dedent(PROGRAM).strip() + "\n")

    def begin(*words: str, **more: object) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": str(root / "src")}
        command = [sys.executable, "stage.py", *words]
        return subprocess.Popen(command, cwd=tmp_path, env=env, **more)  # type: ignore[call-overload]

    return begin


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < deadline, f"no {file.name}"
        time.sleep(0.01)


def ended(folder: Path) -> tuple[str, str]:
    """(status, reason) in the journal of the only run."""
    (journal,) = (folder / "logs" / "runs").glob("*/events.jsonl")
    last = json.loads(journal.read_text().splitlines()[-1])
    return last["status"], last["reason"]


def test_a_terminal_that_goes_away_ends_a_stage_in_order(start: Start, tmp_path: Path) -> None:
    """Its bar and its lines can be heard no more, and it still writes down how it ended."""
    terminal, other = pty.openpty()
    process = start(stderr=other, stdout=other, stdin=other, start_new_session=True)
    os.close(other)
    wait_for(tmp_path / "ready")
    os.close(terminal)  # from here on, writing to it fails
    process.send_signal(signal.SIGHUP)
    assert process.wait(20) == 143
    assert ended(tmp_path) == ("interrupted", "SIGHUP")


def test_a_stage_that_nobody_hears_goes_on(start: Start, tmp_path: Path) -> None:
    process = start("--what", "unheard", stderr=subprocess.PIPE)
    assert process.stderr
    process.stderr.readline()
    process.stderr.close()
    assert process.wait(30) == 0
    assert (tmp_path / "done").exists()
    assert ended(tmp_path) == ("finished", "all done")
    (kept,) = (tmp_path / "logs" / "runs").glob("*/console.log")
    assert "step 100" in kept.read_text()


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")],
)
def test_a_signal_that_python_dropped_is_heeded_before_long_work(
    start: Start, tmp_path: Path, number: int, code: int, reason: str
) -> None:
    process = start("--what", "lost", stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "cleaning")
    process.send_signal(number)
    assert process.wait(20) == code
    assert (tmp_path / "after").exists(), "the exception was not dropped: this tests nothing"
    assert not (tmp_path / "long-work").exists()
    assert ended(tmp_path) == ("interrupted", reason)


def test_what_is_ignored_stays_so(start: Start, tmp_path: Path) -> None:
    """`nohup` starts a program that way."""
    process = start(
        "--what",
        "unheard",
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for(tmp_path / "ready")
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 0


def test_what_a_signal_becomes() -> None:
    assert signals.name(signals.exception(signal.SIGHUP, "why")) == "SIGHUP"
    assert signals.name(signals.exception(signal.SIGINT)) == "Ctrl-C"
    assert str(signals.exception(signal.SIGTERM, "why")) == "why"
    assert not isinstance(signals.exception(signal.SIGINT), signals.Terminated)
