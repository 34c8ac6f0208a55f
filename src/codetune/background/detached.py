"""Sessions without tmux: a process of its own session, and a record that says which.

Nothing of the terminal that started it is kept: closing that terminal, or the ssh connection it
came by, does not reach the process. What it writes goes to `output.log` beside the run's journal.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from codetune import artefact, console
from codetune.background.sessions import Plan, Session
from codetune.errors import UserError
from codetune.runlog import events, process
from codetune.runlog.follow import OUTPUT, Line, RunOutput
from codetune.runlog.process import Process

RECORDS = Path("logs/background")
_SHOWN = 40  # lines of the past, for whoever looks in
_LOOK_SECONDS = 0.3


class Detached:
    """The sessions of the checkout at `root` that run without tmux."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def sessions(self) -> list[Session]:
        """All that have a record, oldest first."""
        records = sorted((self._root / RECORDS).glob("*.json"))
        found = [session for file in records if (session := _session(file)) is not None]
        return sorted(found, key=lambda session: session.since)

    def open(self, plan: Plan) -> Session:
        """Starts the training, and notes which process it is."""
        output = artefact.TextLog(output_path(self._root, plan.run))
        try:
            child = subprocess.Popen(
                plan.command("train"),
                cwd=plan.root,
                env=dict(plan.variables),
                stdin=subprocess.DEVNULL,
                stdout=output.fileno(),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as problem:
            raise UserError(f"{plan.command('train')[0]}: {problem.strerror}") from None
        finally:
            output.close()
        file = self._root / RECORDS / f"{plan.run}.json"  # no other session's, ever
        now, started = process.now_ms(), process.find(child.pid)
        session = Session("process", plan.name, plan.title, plan.run, now, str(file), started)
        _write(session)
        return session

    def mark_asked(self, session: Session) -> None:
        """Notes that the run was asked to save and exit."""
        _write(replace(session, asked=True))

    def close(self, session: Session) -> None:
        """Forgets a session that has ended; its log stays beside the run's journal."""
        Path(session.handle).unlink(missing_ok=True)

    def follow(self, session: Session, pause: Callable[[float], None]) -> Iterator[Line]:
        """What the run says: the last lines, then each as it comes, until the run has ended."""
        output = RunOutput(events.console_path(self._root, session.run))
        try:
            yield from output.last(_SHOWN, _anything)
            while is_alive(session.program):
                yield from output.lines(_anything)
                pause(_LOOK_SECONDS)
            yield from output.rest(_anything)
        finally:
            output.close()


def output_path(root: Path, run: str) -> Path:
    """Where a detached run's own output lies."""
    return events.console_path(root, run).with_name(OUTPUT)


def is_alive(program: Process | None) -> bool:
    """Whether a process of this machine is still there."""
    return program is not None and process.is_alive(program, heartbeat=0)


def _write(session: Session) -> None:
    record = json.dumps(asdict(session), indent=1)
    artefact.write_file(Path(session.handle), record.encode() + b"\n")


def _session(file: Path) -> Session | None:
    """The session of a record; None, with a warning, for a file that is no record of ours."""
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
        program = found["program"] and Process(**found["program"])
        session = Session(**{**found, "handle": str(file), "program": program})
    except (OSError, ValueError, TypeError, KeyError):
        console.warn(f"{file}: is no record of a session; remove it")
        return None
    return session if is_alive(program) else replace(session, program=None)


def _anything(_: object) -> bool:
    return True
