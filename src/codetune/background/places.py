"""Where sessions run on this machine: in tmux where it is there, else as detached processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from codetune import artefact, console
from codetune.background.detached import RECORDS, Detached, output_path
from codetune.background.ending import Patience, abandon, outcome, stop
from codetune.background.sessions import Plan, Session, at_work, session_name
from codetune.background.tmux import OLDEST, Tmux, taken
from codetune.errors import RefusedError, UserError
from codetune.runlog import create_run
from codetune.runlog.store.database import locate
from codetune.runlog.store.revision import prepare

_OPENING_SECONDS = 30.0  # once the one before has ended


class Places:
    """Both kinds of places of the checkout at `root`.

    `program` is tmux, or None without it; `pane` is the one that we are in, or None outside.
    """

    def __init__(self, root: Path, program: str | None, pane: str | None = None) -> None:
        self.root, self._pane = root, pane
        self.detached, self.tmux = Detached(root), _usable(root, program)

    def sessions(self) -> list[Session]:
        """All sessions of this checkout, oldest first."""
        found = [*(self.tmux.sessions() if self.tmux else ()), *self.detached.sessions()]
        return sorted(found, key=lambda session: session.since)

    def end(self, session: Session, patience: Patience) -> None:
        """Ends a session once its run has saved, and says how that ended."""
        place = self.tmux if session.kind == "tmux" and self.tmux else self.detached
        stop(place, self.root, session, patience)
        # said first: we may be in one of the windows that now go
        console.say(outcome(self.root, session))
        place.close(session)

    def start(
        self,
        title: str,
        run_name: str,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        *,
        replace: bool,
    ) -> Session:
        """Opens a session that trains. `variables` is the environment that it gets.

        Raises RefusedError when one of that name is at work (unless `replace`), or is not ours,
        and UserError when the run database cannot be used: before anything is made or stopped.
        """
        prepare(locate(self.root, variables.get("DATABASE_URL")))
        name = session_name(title)
        with self._alone(name):
            self._make_room(name, replace=replace)
            run = create_run(self.root, stage="train", name=run_name)
            plan = Plan(name, title, self.root, run, tuple(arguments), variables)
            try:
                return self.tmux.open(plan) if self.tmux else self.detached.open(plan)
            except (UserError, RefusedError):
                abandon(self.root, run, "its session could not be opened")
                raise

    def described(self, session: Session) -> str:
        """What was opened, and where a process that has no window writes."""
        if session.kind == "tmux":
            return f"{session.name} is open, with run {session.run}"
        log = output_path(self.root, session.run).relative_to(self.root)
        return f"{session.name} is open as a detached process, without tmux; its output: {log}"

    def _alone(self, name: str) -> AbstractContextManager[None]:
        """Held while one of that name is opened, so that two calls do not open two."""

        def on_wait() -> None:
            console.say(f"{name}: another command is opening it; waiting")

        lock = self.root / RECORDS / f"{name}.lock"
        return artefact.locked(lock, Patience().seconds + _OPENING_SECONDS, on_wait)

    def _make_room(self, name: str, *, replace: bool) -> None:
        found = next((session for session in self.sessions() if session.name == name), None)
        if found is None:
            if self.tmux and self.tmux.is_taken(name):
                raise RefusedError(taken(name))
            return
        if at_work(self.root, found) is not None and not replace:
            raise RefusedError(
                f"{name} is at work; --replace lets it save and exit first, --name opens another"
            )
        if self.tmux and self._pane and self.tmux.holds(found, self._pane):
            raise RefusedError(
                f"{name} is where you are; leave it (Ctrl-b d) or choose --name NAME"
            )
        self.end(found, Patience())


def _usable(root: Path, program: str | None) -> Tmux | None:
    if program is None:
        return None
    found = Tmux(program, root)
    if (version := found.version()) >= OLDEST:
        return found
    have, need = (".".join(map(str, numbers)) for numbers in (version, OLDEST))
    console.warn(f"tmux {have} is too old ({need} is needed): going on without it")
    return None
