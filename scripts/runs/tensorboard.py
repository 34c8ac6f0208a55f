"""Open TensorBoard on the curves of all training runs.

    tensorboard.py                      http://127.0.0.1:6006, until Ctrl-C
    tensorboard.py --detach             in the background, until --stop
    tensorboard.py --logdir runs/full --port 6007
    tensorboard.py --status             what of this project is open
    tensorboard.py --stop               ends what this project started, also in another terminal

In: runs/<run name>/ (event files). Out: a web page on this machine only. There is no flag to
serve other machines: TensorBoard has no login. From elsewhere, use the ssh tunnel it prints.
Called again it names the one that is open. What it says itself is kept in logs/tensorboard/.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import console, stage
from codetune.config import Parser
from codetune.errors import UserError

if TYPE_CHECKING:
    from codetune.background.tensorboard import Launch, Server


def _parser() -> Parser:
    parser = stage.question(__doc__)
    add = parser.add_argument
    add("--logdir", type=Path, help="event files (runs); for --stop and --status: all")
    add("--port", type=int, help="this port on 127.0.0.1 and no other (6006, or the next free)")
    add("--detach", action="store_true", help="in the background")
    verbs = parser.add_mutually_exclusive_group()
    verbs.add_argument("--stop", action="store_true", help="end what this project started")
    verbs.add_argument("--status", action="store_true", help="say what is open")
    add("--json", action="store_true", help="as JSON on standard output")
    parser.set_defaults(act=_tensorboard)
    return parser


def _tensorboard(options: argparse.Namespace) -> None:
    if options.stop:
        _stop(options)
    elif options.status:
        _status(options)
    else:
        _open(options)


def _open(options: argparse.Namespace) -> None:
    """Names the one that is open, or starts one; that runs until Ctrl-C unless detached."""
    from codetune.background import tensorboard

    root, logdir = Path.cwd(), options.logdir or Path("runs")
    if not logdir.is_dir():
        raise UserError(f"{logdir}: no such folder; train first, or name one with --logdir")
    if options.port is not None and not 0 < options.port < 65536:
        raise UserError(f"--port: {options.port} is not a port; choose one from 1024 to 65535")
    with tensorboard.alone(root, lambda: console.say("another call is starting one; waiting")):
        found = tensorboard.servers(root, logdir)
        if found:
            _tell(found[0], "already open", options)
            return
        console.say("starting TensorBoard")
        launch = tensorboard.start(root, logdir, options.port, detach=options.detach)
    if options.detach:
        _tell(launch.server, "open", options)
    else:
        _stay(launch, options)


def _stay(launch: Launch, options: argparse.Namespace) -> None:
    """Returns when it has ended; ends it when we are ended, or our terminal is closed."""
    try:
        _tell(launch.server, "open", options)
        code = launch.child.wait()
    finally:
        launch.end()
    if code not in (0, -signal.SIGTERM, -signal.SIGKILL):
        raise UserError(f"TensorBoard ended with exit code {code}; see {launch.server.log}")
    console.say("TensorBoard was ended")


def _tell(server: Server, how: str, options: argparse.Namespace) -> None:
    if options.json:
        console.emit(json.dumps({"state": how, **_facts(server)}, indent=1))
    end = "./scripts.sh tensorboard --stop" if options.detach else "Ctrl-C"
    until = f"{end} ends it" if how == "open" else ""
    console.say(f"TensorBoard: {server.url} " + (f"({until})" if until else f"is {how}"))
    if how != "open" and options.port not in (None, server.port):
        console.say(f"--port {options.port} was not used; --stop it first to change the port")
    console.say(f"from another machine: {_tunnel(server)}, then open the same address there")


def _status(options: argparse.Namespace) -> None:
    from codetune.background.tensorboard import servers

    found = servers(Path.cwd(), options.logdir)
    if options.json:
        console.emit(json.dumps([_facts(server) for server in found], indent=1))
    elif found:
        rows = [[server.url, server.logdir, server.process.pid] for server in found]
        console.show(console.table("TensorBoard", ["address", "shows", "pid"], rows))
    else:
        console.line("no TensorBoard of this project is open")


def _stop(options: argparse.Namespace) -> None:
    from codetune.background.tensorboard import end, servers

    found = servers(Path.cwd(), options.logdir)
    for server in found:
        killed = end(server)
        console.say(
            f"{server.url} was {'killed: it did not end when asked' if killed else 'ended'}"
        )
    if options.json:
        console.emit(json.dumps([_facts(server) for server in found], indent=1))
    elif not found:
        console.say("no TensorBoard of this project is open; others are left alone")


def _facts(server: Server) -> dict[str, Any]:
    facts = {key: asdict(server)[key] for key in ("port", "logdir", "log")}
    return {"url": server.url, **facts, "pid": server.process.pid, "tunnel": _tunnel(server)}


def _tunnel(server: Server) -> str:
    from codetune.background.ports import tunnel

    user = os.environ.get("USER") or os.environ.get("LOGNAME", "")
    return tunnel(server.port, os.environ.get("SSH_CONNECTION"), user)


if __name__ == "__main__":
    raise SystemExit(stage.answer(_parser()))
