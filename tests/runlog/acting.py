"""Runs in processes of their own that do what a test tells them, one line at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

PROGRAM = """
import json, os, sys
from pathlib import Path
from codetune import console
from codetune.runlog import open_run, said
from codetune.runlog.events import console_path

run = open_run(Path.cwd(), stage=sys.argv[1], name=sys.argv[2], parent=sys.argv[3] or None,
               config={})
with said.kept(console_path(Path.cwd(), run.id)):
    print(run.id, flush=True)
    for line in sys.stdin:
        verb, *rest = json.loads(line)
        if verb in ("say", "warn", "fail"):
            getattr(console, verb)(*rest)
        elif verb == "print":
            os.write(2, rest[0].encode())
        elif verb == "crash":
            os.abort()
        else:
            getattr(run, verb)(*rest)
        print("done", flush=True)
"""


class Actor:
    """A run at work in its own process, in the project at `root`."""

    def __init__(
        self, root: Path, stage: str = "train", name: str = "full", parent: str = ""
    ) -> None:
        source = Path(__file__).resolve().parents[2] / "src"
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, stage, name, parent],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(source)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout
        self.id = self.process.stdout.readline().strip()
        assert self.id, "the run could not be opened"
        self.folder = root / "logs/runs" / self.id

    def do(self, verb: str, *rest: object) -> None:
        """Returns when the run has done it."""
        import json

        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([verb, *rest]) + "\n")
        self.process.stdin.flush()
        if verb != "crash":
            assert self.process.stdout.readline() == "done\n"
        else:
            self.process.wait(20)

    def end(self, status: str = "finished", reason: str = "") -> None:
        """Ends the run and its process."""
        self.do("finish", status, reason)
        self.stop()

    def stop(self) -> None:
        """Ends the process, however the run stands."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Actor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType
    ) -> None:
        if not self.process.stdin.closed:
            self.stop()
