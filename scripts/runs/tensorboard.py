"""Open TensorBoard on the curves of all training runs.

    tensorboard.py                      http://127.0.0.1:6006
    tensorboard.py --port 6007 --logdir runs/full

In: runs/<run name>/ (event files). Out: a web page on this machine only. There is no flag to
serve other machines: TensorBoard has no login. From elsewhere, use the ssh tunnel it prints.
A server that runs until Ctrl-C is not a stage, so this script has a main of its own.
"""

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from codetune import console, stage
from codetune.errors import UserError

HOST = "127.0.0.1"


def main(argv: Sequence[str] | None = None) -> int:
    """Becomes TensorBoard; returns an exit code only when it cannot."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--logdir", type=Path, default=Path("runs"), help="event files (runs)")
    parser.add_argument("--port", type=int, default=6006, help="port on 127.0.0.1 (6006)")
    options = parser.parse_args(argv)
    try:
        command = _command(options.logdir, options.port)
    except UserError as problem:
        console.fail(problem)
        return stage.USER
    console.say(f"TensorBoard: http://{HOST}:{options.port}/ (Ctrl-C ends it)")
    tunnel = f"ssh -L {options.port}:{HOST}:{options.port} <this machine>"
    console.say(f"from another machine: {tunnel}, then open the same address there")
    return _become(command)


def _become(command: list[str]) -> NoReturn:
    """Replaces this process, so that signals and the exit status are the command's own."""
    os.execv(command[0], command)  # noqa: S606 - an argument list of our own, no shell


def _command(logdir: Path, port: int) -> list[str]:
    """The command that serves `logdir`; UserError when it could not."""
    if not logdir.is_dir():
        raise UserError(f"{logdir}: no such folder; train first, or name one with --logdir")
    if not 0 < port < 65536:
        raise UserError(f"--port: {port} is not a port; choose one from 1024 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as problem:
            raise UserError(
                f"port {port} on {HOST} cannot be used ({problem.strerror}); is TensorBoard "
                f"already open there? Choose another with --port {port % 65535 + 1}"
            ) from None
    # Resumed runs write a second event file; without multifile the first is never read again.
    served = ["--logdir", str(logdir), "--host", HOST, "--port", str(port)]
    return [sys.executable, "-m", "tensorboard.main", *served, "--reload_multifile=true"]


if __name__ == "__main__":
    raise SystemExit(main())
