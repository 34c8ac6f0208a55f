"""A checkout to call the verbs in, and what tests ask about it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from codetune.background import Places, as_dict

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("--max_steps", "2000")


class Checkout:
    """A project folder in which `background.py` is called as `scripts.sh` calls it."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self.root, self.env = root, dict(env)

    def call(self, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
        """One verb, to its end."""
        command = [sys.executable, str(ROOT / "scripts/runs/background.py"), *map(str, words)]
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def tmux(self, *words: str) -> str:
        """What the private server answers."""
        done = subprocess.run(["tmux", *words], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def screen(self, target: str) -> str:
        """What a window shows, with its history, as one would read it."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-", "-t", target)

    def names(self) -> list[str]:
        """The sessions of the private server."""
        words = ["tmux", "list-sessions", "-F", "#{session_name}"]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True)
        return sorted(done.stdout.split("\n")[:-1])

    def status(self) -> list[dict[str, Any]]:
        """What `status --json` says, asked in this process because tests ask often."""
        program = shutil.which("tmux", path=self.env["PATH"])
        places = Places(self.root, program)
        return [as_dict(self.root, session) for session in places.sessions()]

    def started(self, *words: object, **env: str) -> dict[str, Any]:
        """Opens a session, waits until its training takes steps; returns what that was given."""
        before = set(self.root.glob("seen.*.json"))
        done = self.call("train", *words, *STEPS, **env)
        assert done.returncode == 0, done.stderr
        new = until(lambda: set(self.root.glob("seen.*.json")) - before, "the stage begins")
        note = new.pop()
        run = note.name.split(".")[1]
        seen: dict[str, Any] = json.loads(note.read_text())
        journal = self.root / "logs" / "runs" / run / "events.jsonl"
        until(lambda: '"metric","key":"train_loss"' in journal.read_text(), "a step is logged")
        return {**seen, "run": run, "said": done.stderr}


def until(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Waits for something to become true; returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.03)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def attached(checkout: Checkout) -> tuple[subprocess.Popen[bytes], int]:
    """`attach` on a terminal of its own, and the other end of that terminal."""
    ours, theirs = pty.openpty()
    client = subprocess.Popen(
        [sys.executable, ROOT / "scripts/runs/background.py", "attach"],
        cwd=checkout.root,
        env=checkout.env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    return client, ours


def read_until(terminal: int, wanted: bytes) -> None:
    """Reads what is drawn on a terminal until something appears."""
    seen, end = b"", time.monotonic() + 30
    while wanted not in seen:
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536)
