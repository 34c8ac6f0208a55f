"""Train in the background: in tmux, or without it as a detached process. Look in, ask, stop.

    background.py train --attach --config mine.yaml       opens a session and shows it
    background.py train --name night -- --run_name mine   what follows `--` goes to train
    background.py status                                  step, loss and time left
    background.py attach night                            shows it again, from any terminal
    background.py kill night                              saves a checkpoint, then ends

A session has the windows train, gpu and tensorboard, and goes on when the terminal or the ssh
connection goes away. In: the arguments of `./scripts.sh train`. Out: what train makes, and
logs/background/ without tmux. The windows get your environment, not that of the tmux server.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import console, stage
from codetune.errors import UserError

if TYPE_CHECKING:
    from codetune.background import Places, Session

TRAIN = Path("scripts/training/train_qlora.py")


def _parser(handed_on: list[str]) -> argparse.ArgumentParser:
    parser = stage.question(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="train|attach|status|kill")
    usage = "%(prog)s [--attach|--detach] [--replace] [--name NAME] [--] [TRAIN ARGUMENTS...]"
    train = verbs.add_parser("train", help="open a session that trains", usage=usage)
    shown = train.add_mutually_exclusive_group()
    shown.add_argument("--attach", action="store_true", help="show it, on a terminal")
    shown.add_argument("--detach", action="store_true", help="leave it alone (so it is anyway)")
    train.add_argument("--replace", action="store_true", help="let one of that name save and exit")
    train.add_argument("--name", help="the session's name (the run's)")
    train.set_defaults(act=_train, arguments=handed_on)
    attach = verbs.add_parser("attach", help="show a session; leave it with Ctrl-b d")
    attach.add_argument("name", nargs="?", help="which; not needed when one is at work")
    attach.set_defaults(act=_attach)
    status = verbs.add_parser("status", help="what each session's run is doing")
    status.add_argument("--json", action="store_true", help="as JSON on standard output")
    status.set_defaults(act=_status)
    kill = verbs.add_parser("kill", help="let a run save and exit, then end its session")
    kill.add_argument("name", nargs="?", help="which; not needed when one is at work")
    kill.add_argument("--wait", type=_seconds, default=300.0, help="how long it may take (300 s)")
    kill.add_argument("--force", action="store_true", help="kill it when the wait is over")
    kill.set_defaults(act=_kill)
    return parser


def _train(options: argparse.Namespace) -> int:
    """What is wrong is told here, and not in a window that nobody looks at yet."""
    checked = subprocess.run(
        [sys.executable, TRAIN, "--dry_run", "--json", *options.arguments],
        capture_output=True,
        text=True,
    )
    if checked.returncode != 0:
        sys.stderr.write(checked.stderr)
        return checked.returncode
    run_name = json.loads(checked.stdout)["config"]["run_name"]
    title = run_name if options.name is None else options.name
    places = _places()
    opened = places.start(title, run_name, options.arguments, os.environ, replace=options.replace)
    console.say(f"{places.described(opened)}. Look in with")
    console.say("./scripts.sh tmux-attach, tmux-status or logs; end it with tmux-kill")
    if options.attach and sys.stdin.isatty():
        _look_at(places, opened)
    return stage.DONE


def _attach(options: argparse.Namespace) -> None:
    from codetune.background import choose

    places = _places()
    _look_at(places, choose(places.sessions(), options.name))


def _look_at(places: "Places", session: "Session") -> None:
    """Shows a session: tmux takes this process over; a log is followed until its run ends."""
    from codetune.runlog.follow import pause

    if session.kind == "tmux" and places.tmux:
        if not sys.stdin.isatty():
            raise UserError("a session is shown on a terminal; elsewhere use ./scripts.sh logs")
        command = places.tmux.attaching(session, inside="TMUX" in os.environ)
        os.execvp(command[0], command)  # noqa: S606 - without a shell on purpose
    reader = sys.stdout.fileno()
    for line in places.detached.follow(session, lambda seconds: pause(seconds, reader)):
        console.emit(str(line))


def _status(options: argparse.Namespace) -> None:
    from codetune.background import as_dict, status_lines
    from codetune.runlog.process import now_ms

    places, out = _places(), console.stdout()
    sessions = places.sessions()
    if options.json:
        console.emit(json.dumps([as_dict(places.root, one) for one in sessions], indent=1))
    elif sessions:
        width = out.width if out.is_terminal else None
        for line in status_lines(places.root, sessions, width, now_ms()):
            out.print(line, soft_wrap=True)
    else:
        console.line("nothing in the background; ./scripts.sh tmux-train starts a run")


def _kill(options: argparse.Namespace) -> None:
    from codetune.background import Patience, choose

    places = _places()
    session = choose(places.sessions(), options.name)
    places.end(session, Patience(options.wait, options.force))


def _places() -> "Places":
    from codetune.background import Places

    return Places(Path.cwd(), shutil.which("tmux"), os.environ.get("TMUX_PANE"))


def _seconds(text: str) -> float:
    if re.fullmatch(r"\d{1,9}(\.\d*)?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return float(text)


def main() -> int:
    """Parts our own words from those of `train`, and answers."""
    from codetune.background.arguments import parted

    verb, words = sys.argv[1:2], sys.argv[2:]
    try:
        own, handed_on = parted(words) if verb == ["train"] else (words, [])
    except UserError as problem:
        console.fail(problem)
        return stage.USER
    return stage.answer(_parser(handed_on), [*verb, *own])


if __name__ == "__main__":
    raise SystemExit(main())
