"""Sessions in the user's own tmux server.

What is ours is known by user options: the session carries checkout, run, title and time, and the
pane of the training carries the run's id. Everything that is read back is ASCII (percent-encoded),
because tmux replaces what the terminal's encoding does not know.

Commands that hold the user's words or environment are fed to tmux on its standard input: in an
argument list, other users of the machine could read them.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from codetune.background.sessions import Plan, Session
from codetune.errors import RefusedError, UserError
from codetune.runlog import process

OLDEST = (3, 2)  # the first with `new-session -e`
WINDOWS = ("train", "gpu", "tensorboard")
# When a program ends, tmux scrolls its screen by a line to say so. An empty first line is what
# scrolls away; otherwise an only line of output would.
_BELOW_AN_EMPTY_LINE = ("sh", "-c", 'echo; exec "$@"', "sh")
# They describe the terminal that a program is shown on: in a window that is tmux, not the caller.
TERMINAL = frozenset(
    ("TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "TERMCAP", "COLORTERM", "COLUMNS", "LINES")
    + ("TMUX", "TMUX_PANE", "STY", "WINDOW", "WINDOWID", "PWD", "OLDPWD", "SHLVL", "_")
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_OPTIONS = ("session_id", "@codetune_run", "@codetune_since", "@codetune_title", "@codetune_asked")
_OF_SESSION = "|".join(f"#{{{name}}}" for name in (*_OPTIONS, "@codetune_root", "session_name"))
_OF_PANE = "|".join(
    f"#{{{name}}}"
    for name in ("@codetune_pane", "pane_dead", "pane_dead_status", "pane_dead_signal", "pane_pid")
)


class Tmux:
    """The sessions of the checkout at `root` in the server that `program` talks to."""

    def __init__(self, program: str, root: Path) -> None:
        self._program, self._root = program, root

    def version(self) -> tuple[int, ...]:
        """Its version; a large one for names without a number, which are those of developers."""
        found = re.search(r"(\d+)\.(\d+)", self._run(["-V"]).stdout)
        return (int(found[1]), int(found[2])) if found else (99, 0)

    def sessions(self) -> list[Session]:
        """Ours, oldest first."""
        mine = encoded(str(self._root))
        rows, panes = self._listed()
        ours = [self._session(row, panes) for row in rows if row[5] == mine and row[1].isalnum()]
        return sorted(ours, key=lambda session: session.since)

    def is_taken(self, name: str) -> bool:
        """Whether a session, whoever's, has this name."""
        return any(row[6] == name for row in self._listed()[0])

    def open(self, plan: Plan) -> Session:
        """Opens the windows, each of which keeps its last screen when its program ends."""
        done = self._run(["start-server", ";", "source-file", "-"], opening(plan, self._globals()))
        if "duplicate session" in done.stderr:
            raise RefusedError(f"{plan.name}: was opened by another command at this moment")
        if done.returncode != 0:
            raise UserError(f"tmux did not open the session: {_said(done)}")
        return next(session for session in self.sessions() if session.run == plan.run)

    def mark_asked(self, session: Session) -> None:
        """Notes that the run was asked to save and exit."""
        self._on(session, ["set-option", "-t", session.handle, "@codetune_asked", "yes"])

    def close(self, session: Session) -> None:
        """Ends the session with all its windows, and no other."""
        self._on(session, ["kill-session", "-t", session.handle])

    def holds(self, session: Session, pane: str) -> bool:
        """Whether a pane is one of the session's."""
        words = ["display-message", "-p", "-t", pane, "#{@codetune_run}"]
        return self._run(words).stdout.strip() == session.run

    def attaching(self, session: Session, *, inside: bool) -> list[str]:
        """The command that shows the session; `inside` tmux it switches the client there."""
        verb = "switch-client" if inside else "attach-session"
        return [self._program, verb, "-t", session.handle]

    def _on(self, session: Session, command: Sequence[str]) -> None:
        """Does something to the session, if its id still means that very one: a server that was
        started since counts from $0 again. Checked and done in one step of the server.
        """
        same = f"#{{==:#{{@codetune_run}},{session.run}}}"
        told = " ".join(map(quoted, command))
        self._run(["if-shell", "-F", "-t", session.handle, same, told])

    def _session(self, row: Sequence[str], panes: Mapping[str, Sequence[str]]) -> Session:
        handle, run, since, title, asked = row[:5]
        _, dead, status, signal, pid = panes.get(run, ("", "1", "", "", ""))
        code = int(status) if status else 128 + int(signal) if signal.isdigit() else None
        return Session(
            kind="tmux",
            name=row[6],
            title=unquote(title),
            run=run,
            since=int(since) if since.isdigit() else 0,
            handle=handle,
            program=process.find(int(pid)) if dead != "1" else None,
            exit_code=code if dead == "1" else None,
            asked=bool(asked),
        )

    def _listed(self) -> tuple[list[list[str]], dict[str, list[str]]]:
        """Of all sessions the options, and of panes that train what became of them, by run id."""
        rows, panes = self._lists()
        if any(dead == "1" and not code + signal for _, dead, code, signal, _ in panes.values()):
            # tmux may miss how a program ended (3.3a: one in ten) until its next child ends
            self._run(["run-shell", "true"])
            rows, panes = self._lists()
        return rows, panes

    def _lists(self) -> tuple[list[list[str]], dict[str, list[str]]]:
        words = ["list-sessions", "-F", f"session|{_OF_SESSION}"]
        words += [";", "list-panes", "-a", "-F", f"pane|{_OF_PANE}"]
        done = self._run(words)
        if done.returncode != 0 and not _no_server(done.stderr):
            raise UserError(f"tmux: {_said(done)}")
        lines = [line.partition("|") for line in done.stdout.splitlines()]
        rows = [rest.split("|", 6) for kind, _, rest in lines if kind == "session"]
        panes = [rest.split("|") for kind, _, rest in lines if kind == "pane"]
        return rows, {pane[0]: pane for pane in panes if pane[0]}

    def _globals(self) -> set[str]:
        """Names of the variables that the server was started with. A value with a newline may
        look like one more name, which does no harm.
        """
        shown = self._run(["show-environment", "-g"]).stdout.splitlines()
        return {line.partition("=")[0] for line in shown if "=" in line}

    def _run(self, words: Sequence[str], fed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *words], input=fed, capture_output=True, text=True, errors="replace"
        )


def opening(plan: Plan, known: set[str]) -> str:
    """The tmux commands that open a session, on one line: after a failure the rest is left out.

    The windows get the variables of the caller and no others: those that only the server knows
    are taken away, except for the terminal's own.
    """
    given = {k: v for k, v in plan.variables.items() if _NAME.fullmatch(k) and k not in TERMINAL}
    passed = [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
    stale = sorted(name for name in known - set(given) - TERMINAL if _NAME.fullmatch(name))
    clean = ["env", *(word for name in stale for word in ("-u", name))]
    here = ["-c", str(plan.root).replace("#", "##")]  # tmux expands formats in it
    window = f"={plan.name}:"
    commands: list[list[str]] = []
    for verb in WINDOWS:
        if verb == WINDOWS[0]:
            how = ["new-session", "-d", "-s", plan.name, *passed]
        else:
            how = ["new-window", "-d", "-a", "-t", f"={plan.name}:{{end}}"]
        program = [*_BELOW_AN_EMPTY_LINE, *plan.command(verb)]
        commands.append([*how, "-n", verb, *here, *clean, *program])
        target = window if verb == WINDOWS[0] else f"={plan.name}:{{end}}"
        commands.append(["set-option", "-w", "-t", target, "remain-on-exit", "on"])
        if verb == WINDOWS[0]:
            commands += _marks(plan, window)
    return " ; ".join(" ".join(map(quoted, command)) for command in commands) + "\n"


def _marks(plan: Plan, window: str) -> Iterator[list[str]]:
    """What the session is known by, and that it stays when nobody looks at it."""
    yield ["set-option", "-p", "-t", window, "@codetune_pane", plan.run]
    marks = {
        "@codetune_root": encoded(str(plan.root)),
        "@codetune_run": plan.run,
        "@codetune_title": encoded(plan.title),
        "@codetune_since": str(process.now_ms()),
        "destroy-unattached": "off",
    }
    yield from (["set-option", "-t", window, name, value] for name, value in marks.items())


def taken(name: str) -> str:
    """The refusal of a name that somebody else uses."""
    return f"{name}: a tmux session of that name is there already, and not ours; choose --name NAME"


def quoted(word: str) -> str:
    """A word for tmux's own parser: whatever could mean something to it becomes a number."""
    if _PLAIN.fullmatch(word):
        return word
    return '"' + "".join(map(_character, os.fsencode(word))) + '"'


def _character(byte: int) -> str:
    return chr(byte) if _PLAIN.fullmatch(chr(byte)) and byte < 128 else f"\\{byte:03o}"


def encoded(text: str) -> str:
    """`text` as printable ASCII without spaces, bars or quotes."""
    return quote(os.fsencode(text), safe="/")


def _no_server(said: str) -> bool:
    return "no server running" in said or "(No such file or directory)" in said


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
