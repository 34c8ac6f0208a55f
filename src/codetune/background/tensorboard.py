"""A TensorBoard of this project: started once a folder, found again, and ended; never another's.

Which process it is stands in `logs/tensorboard/<folder's hash>.json`. A record counts only while
that very process (pid, start time, boot) is there and is a TensorBoard.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import artefact, console
from codetune.background.ports import HOST, TRIED, free_port, holder, is_free
from codetune.errors import UserError
from codetune.runlog import process
from codetune.runlog.follow import Follower
from codetune.runlog.process import Process

if TYPE_CHECKING:
    import psutil

PORT = 6006
RECORDS = Path("logs/tensorboard")
UP_SECONDS = 120.0  # a busy machine takes long to import it
_ENDING_SECONDS, _LOOK_SECONDS = 10.0, 0.1
_MODULE = "tensorboard.main"


@dataclass(frozen=True)
class Server:
    """A TensorBoard that this project started, and the folder that it shows."""

    logdir: str  # absolute
    port: int
    log: str
    process: Process
    record: str = ""

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        return f"http://{HOST}:{self.port}/"


class PortTaken(Exception):
    """Somebody else had the port first."""


def servers(root: Path, logdir: Path | None = None) -> list[Server]:
    """The ones of this project that are there now; only those that show `logdir`."""
    files = sorted((root / RECORDS).glob("*.json"))
    wanted = None if logdir is None else str(logdir.resolve())
    found = [server for file in files if (server := _read(file)) is not None]
    return [s for s in found if wanted in (None, s.logdir) and _program(s) is not None]


class Launch:
    """A TensorBoard on its way up, as a child of this process."""

    def __init__(self, root: Path, logdir: Path, port: int, *, detach: bool) -> None:
        shown = str(logdir.resolve())
        name = hashlib.sha256(shown.encode(errors="surrogateescape")).hexdigest()[:12]
        self._log = root / RECORDS / f"{name}.log"
        log = artefact.TextLog(self._log)
        self._said = Follower(self._log)
        self._said.last(0)
        served = ["--logdir", shown, "--host", HOST, "--port", str(port)]
        # Resumed runs write a second event file; without multifile the first is not read again.
        # -P: what lies in the project folder must not be imported in place of a library.
        command = [sys.executable, "-P", "-m", _MODULE, *served, "--reload_multifile=true"]
        self.child = subprocess.Popen(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log.fileno(),
            stderr=subprocess.STDOUT,
            start_new_session=detach,
        )
        log.close()
        gone = replace(process.current(), pid=self.child.pid, started=0)
        started = process.find(self.child.pid) or gone
        record = str(root / RECORDS / f"{name}.json")
        self.server = Server(shown, port, str(self._log), started, record)
        # before it is up: whoever ends it must find it, whatever happens to us
        text = json.dumps(asdict(self.server), indent=1)
        artefact.write_file(Path(record), text.encode() + b"\n")

    def wait_until_up(self, seconds: float = UP_SECONDS) -> Server:
        """Returns once it answers. Otherwise it is ended: PortTaken, or UserError that says why."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.child.poll() is not None:
                raise self._failure()
            if _answers(self.server):
                return self.server
            time.sleep(_LOOK_SECONDS)
        self.end()
        raise UserError(f"TensorBoard did not answer within {seconds:g} s; see {self._log}")

    def end(self) -> None:
        """Ends it, if it has not, and forgets it."""
        end(self.server)
        self.child.wait()

    def _failure(self) -> Exception:
        _forget(self.server)
        said = [line for line in (*self._said.lines(), *self._said.rest()) if line.strip()]
        if any("could not bind to port" in line.lower() for line in said):
            return PortTaken(str(self.server.port))
        reason = said[-1] if said else f"exit code {self.child.returncode}, without a word"
        return UserError(f"TensorBoard ended at once: {reason}")


def start(root: Path, logdir: Path, port: int | None, *, detach: bool) -> Launch:
    """A TensorBoard that answers. With a `port` there or not at all, else at the first free one.

    Call it inside `alone`. Raises UserError when it cannot.
    """
    first = PORT
    for _ in range(TRIED):
        number = _choose(port, first)
        launch = Launch(root, logdir, number, detach=detach)
        try:
            launch.wait_until_up()
        except PortTaken:  # between our look and its start
            if port is not None:
                raise _taken(port) from None
            first = number + 1
            continue
        except KeyboardInterrupt:  # it is ours until it is up
            launch.end()
            raise
        if port is None and number != PORT:
            console.say(f"{PORT} is taken by {holder(PORT)}; using {number}")
        return launch
    raise UserError(
        f"ports from {PORT} on are taken as soon as they are free; name one with --port"
    )


def alone(root: Path, on_wait: Callable[[], None]) -> Any:
    """Held while one is looked for and started, so that two calls do not start two."""
    return artefact.locked(root / RECORDS / "lock", UP_SECONDS + 30, on_wait)


def end(server: Server, seconds: float = _ENDING_SECONDS) -> bool:
    """Ends a TensorBoard that this project started; True when it had to be killed.

    Does nothing to a process that is not that one any more.
    """
    import psutil

    killed, program = False, _program(server)
    try:
        if program is not None:
            family = program.children(recursive=True)
            program.terminate()  # psutil refuses a number that was used again
            if not _ends(program, seconds):
                killed = True
                for each in (program, *family):
                    each.kill()
                if not _ends(program, seconds):
                    raise UserError(f"TensorBoard (pid {program.pid}) does not die")
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        raise UserError(f"TensorBoard (pid {server.process.pid}) is another user's") from None
    _forget(server)
    return killed


def _choose(port: int | None, first: int) -> int:
    if port is not None:
        if not is_free(port):
            raise _taken(port)
        return port
    return free_port(first)


def _taken(port: int) -> UserError:
    free = free_port(port + 1 if port < 65535 else PORT)
    return UserError(f"port {port} on {HOST} is taken by {holder(port)}; {free} is free")


def _answers(server: Server) -> bool:
    """Whether it is this server that answers, and not one that took its port."""
    import psutil

    program = _program(server)
    try:
        if program is None or server.port not in {
            c.laddr.port for c in program.net_connections("tcp") if c.status == psutil.CONN_LISTEN
        }:
            return False
        connection = http.client.HTTPConnection(HOST, server.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
    except (psutil.Error, OSError, http.client.HTTPException):
        return False


def _program(server: Server) -> psutil.Process | None:
    """Its process, if that is still there and is what we started."""
    import psutil

    if server.process.machine != process.current().machine:
        return None  # another machine, container or boot
    try:
        if not process.is_alive(server.process, heartbeat=0):
            return None
        found = psutil.Process(server.process.pid)
        return found if {_MODULE, str(server.port)} <= set(found.cmdline()) else None
    except (psutil.Error, ValueError, OverflowError):  # gone, or no number of a process
        return None


def _ends(program: psutil.Process, seconds: float) -> bool:
    """Waits for it; a child of ours that has ended stays as a zombie until its parent looks."""
    import psutil

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if not program.is_running() or program.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def _forget(server: Server) -> None:
    """Removes the record, unless another server has taken its place since."""
    now = _read(Path(server.record))
    if now is None or now.process == server.process:
        Path(server.record).unlink(missing_ok=True)


def _read(file: Path) -> Server | None:
    """The server of a record; None for a file that is no record of ours."""
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
        told = found["process"]
        program = Process(str(told["machine"]), int(told["pid"]), int(told["started"]))
        return Server(**{**found, "process": program, "record": str(file)})
    except (OSError, ValueError, TypeError, KeyError):
        return None
