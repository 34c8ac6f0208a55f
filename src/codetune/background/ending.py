"""How a session ends: its run is asked to save and exit, and given the time for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from codetune import artefact, console
from codetune.background.sessions import Session, at_work, progress
from codetune.errors import RefusedError, UserError
from codetune.runlog import ends, events, process
from codetune.runlog.process import Process

_LOOK_SECONDS = 0.1
_LISTEN_SECONDS = 1.0
# A run that heard ends with its current step: one more is logged, or two if one just ended.
_STEPS_OF_ONE_THAT_HEARD = 2
_KILL_SECONDS = 10.0  # until the kernel has taken away a process that was killed


class Place(Protocol):
    """What a session runs in."""

    def mark_asked(self, session: Session) -> None:
        """Notes that the run was asked to save and exit."""

    def close(self, session: Session) -> None:
        """Ends the session, and no other."""


@dataclass(frozen=True)
class Patience:
    """How long a run may take to save, and whether it is then killed."""

    seconds: float = 300.0
    force: bool = False


def stop(place: Place, root: Path, session: Session, patience: Patience) -> None:
    """Returns when the session's run has saved and exited, or was not at work.

    Raises RefusedError when the run is still there after `patience`; then nothing is ended.
    """
    target = at_work(root, session)
    if target is not None and process.is_alive(target, process.now_ms()):
        _refuse_elsewhere(session, target)
        try:
            _ask(place, session, target)
            _wait(session, target, patience, _reminder(root, session, target))
        except KeyboardInterrupt:
            console.warn(f"{session.name}: its run was asked, and goes on to save and exit")
            raise
    abandon(root, session.run, "ended before it started")


def _ask(place: Place, session: Session, target: Process) -> None:
    """Once: a second signal would end the run before it has saved."""
    if session.asked:
        console.say(f"{session.name}: was asked to save and exit before; waiting for it")
    elif _signal(target, force=False):
        place.mark_asked(session)
        console.say(f"{session.name}: asked its run to save and exit")


def _reminder(root: Path, session: Session, target: Process) -> Callable[[], None]:
    """Asks again when the run did not hear. Python drops what a signal raises inside a destructor
    or a callback of a C library, so a request may be lost while a run loads its model.
    """

    def step() -> int | None:
        found = progress(root, session)
        return found.step if found else None

    seen = {step()}

    def look() -> None:
        seen.add(latest := step())
        if len(seen) - 1 > _STEPS_OF_ONE_THAT_HEARD and _signal(target, force=False):
            console.say(f"{session.name}: its run takes further steps; asked it again")
            seen.clear()
            seen.add(latest)

    return look


def abandon(root: Path, run: str, reason: str) -> None:
    """Ends the record of a run that was created and never started; does nothing to others."""
    journal = events.journal_path(root, run)
    own = list(islice(ends.own(journal), 2)) if journal.is_file() else []
    if [record.kind for record in own] == ["created"]:
        ended = {"kind": "finished", "status": "interrupted", "reason": reason}
        artefact.append_record(journal, {"ts": process.now_ms(), **ended})


def outcome(root: Path, session: Session) -> str:
    """One line of how the session's run ended."""
    found = progress(root, session)
    if found is None:
        return f"{session.name} ended"
    at = f" at step {found.step:,}" if found.step is not None else ""
    of = f" of {found.total:,}" if found.total is not None else ""
    said = f" ({found.run.reason})" if found.run.reason else ""
    return f"{session.name} ended; run {found.run.name} {found.run.status}{at}{of}{said}"


def _refuse_elsewhere(session: Session, target: Process) -> None:
    if target.machine != process.current().machine:
        raise UserError(f"{session.name}: its run is on another machine; end it there")


def _signal(target: Process, *, force: bool) -> bool:
    """Sends SIGTERM or SIGKILL to that very process; False when it is gone."""
    import psutil

    try:
        found = psutil.Process(target.pid)
        if not process.is_alive(target, heartbeat=0):
            return False
        found.kill() if force else found.terminate()  # psutil refuses a number used again
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        raise UserError(f"process {target.pid} belongs to another user") from None
    return True


def _wait(
    session: Session, target: Process, patience: Patience, remind: Callable[[], None]
) -> None:
    """Until the process is gone; says how long that may still take."""
    if _is_gone(target, patience.seconds, f"{session.name}: waiting for it", remind):
        return
    if not patience.force:
        raise RefusedError(
            f"{session.name}: still at work after {patience.seconds:g} s, so nothing was ended; "
            "wait longer (--wait SECONDS) or lose what is not saved (--force)"
        )
    _signal(target, force=True)
    if not _is_gone(target, _KILL_SECONDS, f"{session.name}: killed", lambda: None):
        raise RefusedError(f"{session.name}: process {target.pid} does not die; nothing was ended")


def _is_gone(target: Process, seconds: float, what: str, listen: Callable[[], None]) -> bool:
    """Waits so many seconds at most, listening every now and then."""
    started, counted, listened = time.monotonic(), 0, 0.0
    with console.progress(f"{what} [s]", round(seconds)) as countdown:
        while process.is_alive(target, heartbeat=0):
            spent = time.monotonic() - started
            if spent >= seconds:
                return False
            countdown.advance(int(spent) - counted)
            counted = int(spent)
            if spent - listened >= _LISTEN_SECONDS:
                listened = spent
                listen()
            time.sleep(min(_LOOK_SECONDS, seconds - spent))
    return True
