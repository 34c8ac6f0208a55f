"""What a session is, whatever it runs in, and which one a name means."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codetune.errors import UserError
from codetune.runlog import events
from codetune.runlog.process import Process
from codetune.runlog.progress import Progress, progress_of

PREFIX = "codetune-"
_LONGEST = 40  # characters of a title that go into a session's name


@dataclass(frozen=True)
class Session:
    """One run in the background. `since` is ms UTC; `exit_code` is known only from tmux."""

    kind: Literal["tmux", "process"]
    name: str  # codetune-mine: what tmux calls it
    title: str  # mine: what its name was made from
    run: str  # the run's id
    since: int
    handle: str  # how its place finds it again: tmux's own id, or the file of its record
    program: Process | None  # what was started; None once it has ended
    exit_code: int | None = None
    asked: bool = False  # to save and exit

    @property
    def label(self) -> str:
        """Its name as it is shown in a list: without what all have in common."""
        return self.name.removeprefix(PREFIX)


@dataclass(frozen=True)
class Plan:
    """A session that is to be opened for `run`, with what is typed after `train`."""

    name: str
    title: str
    root: Path
    run: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str]

    def command(self, verb: str) -> list[str]:
        """The command line of a verb of this checkout; `train` gets arguments and run id.

        TensorBoard is the checkout's, and not the session's: it outlives it.
        """
        more = {"train": [*self.arguments, "--run_id", self.run], "tensorboard": ["--detach"]}
        return [str(self.root / "scripts.sh"), verb, *more.get(verb, [])]


def session_name(title: str) -> str:
    """A name that tmux takes as it is. What had to be changed is told apart by a hash."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", title)[:_LONGEST].strip("-")
    if plain and plain == title:
        return PREFIX + plain
    digest = hashlib.sha256(title.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{PREFIX}{plain}-{digest}" if plain else PREFIX + digest


def choose(sessions: Sequence[Session], given: str | None) -> Session:
    """The session that `given` names by name, title or run id; without it the only one there is,
    or the only one that is at work.

    Raises UserError when there is none, or which one is meant is not clear.
    """
    if not sessions:
        raise UserError("nothing in the background here; ./scripts.sh tmux-train starts a run")
    if given is None:
        return _only(sessions)
    for session in sessions:
        if given in (session.name, session.label, session.title, session.run):
            return session
    raise UserError(f"no session {given!r} here; there is {_names(sessions)}")


def _only(sessions: Sequence[Session]) -> Session:
    working = [session for session in sessions if session.program is not None]
    ended = [session for session in sessions if session.program is None]
    if len(sessions) == 1 or len(working) == 1:
        return (working or ended)[0]
    parts = (("at work", working), ("ended", ended))
    told = "; ".join(f"{len(some)} {how}: {_names(some)}" for how, some in parts if some)
    raise UserError(f"{len(sessions)} sessions here, name one ({told})")


def _names(sessions: Sequence[Session]) -> str:
    return ", ".join(session.label for session in sessions)


def progress(root: Path, session: Session) -> Progress | None:
    """How far the session's run is."""
    return progress_of(events.journal_path(root, session.run))


def at_work(root: Path, session: Session) -> Process | None:
    """The process to ask: the run's own, or before its start the session's program."""
    found = progress(root, session)
    own = found.run.process if found and found.run.status == "running" else None
    return own or session.program
