"""Follow what a run says: the newest one at work, or the one you name.

    logs.py                             the newest run at work, then the next of its pipeline
    logs.py full -n 100                 a run by its name, or by either end of its id
    logs.py --level warning             warnings and errors alone
    logs.py --grep 'loss|eval'          lines that match a pattern (RE2; `(?i)` ignores case)
    less $(./scripts.sh logs full --path)

In: logs/runs/<id>/console.log, and output.log beside it where the run was detached; its lines are
marked `output |`. Out: lines on standard output, plain in a pipe. It ends when the run does and
says how that was. Ctrl-C ends looking, not the run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import console, stage
from codetune.config import Parser
from codetune.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codetune.runlog.follow import Line, RunOutput, Wanted
    from codetune.runlog.watch import Succession, Watched

LOOK_SECONDS = 0.2
STYLES = {"info": "", "warning": "yellow", "error": "red", "": "magenta"}


def _parser() -> Parser:
    parser = stage.question(__doc__)
    add = parser.add_argument
    add("run", nargs="?", metavar="RUN", help="name, or beginning or end of an id")
    add("-n", "--lines", type=int, default=40, help="so many earlier lines that match (40)")
    add("--grep", metavar="REGEX", help="only lines in which this is found")
    add("--level", choices=("info", "warning", "error"), help="only lines of this level and above")
    add("--no_follow", "--no-follow", action="store_true", help="end with the last line")
    add("--path", action="store_true", help="only say where the log lies")
    parser.set_defaults(act=_logs)
    return parser


def _logs(options: argparse.Namespace) -> None:
    from codetune.runlog import watch
    from codetune.runlog.events import console_path
    from codetune.runlog.follow import OUTPUT, RunOutput

    if options.lines < 0:
        raise UserError(f"-n: {options.lines} lines cannot be shown; choose 0 or more")
    wanted = _filter(options.grep, options.level)
    root = Path.cwd()
    run = watch.find(root, options.run) if options.run is not None else watch.newest(root)
    log = console_path(root, run.head.id)
    if options.path:
        console.emit(str(log))
        return
    if run.ending and not log.exists() and not log.with_name(OUTPUT).exists():
        raise UserError(f"{run.head} kept no log; it ended, {run.status}: {run.reason}")
    if run.ending and options.run is None:
        console.say(f"no run is at work; the newest one, {run.head}:")
    output = RunOutput(log)
    _show(output.last(options.lines, wanted))
    if run.ending or options.no_follow:
        _show(output.rest(wanted))
        _say_end(run)
    else:
        console.say(f"following {run.head}; Ctrl-C ends looking, not the run")
        runs = watch.Succession(root, run, alone=options.run is not None)
        _follow(runs, output, wanted)


def _follow(runs: Succession, output: RunOutput, wanted: Wanted) -> None:
    """Shows each line as it comes, of one run after the other, until no more can come."""
    from codetune.runlog.events import console_path
    from codetune.runlog.follow import RunOutput, pause

    said = False
    while True:
        ended = runs.current.look()
        _show(output.rest(wanted) if ended else output.lines(wanted))
        if ended and not said:
            _say_end(runs.current)
            said = True
        if runs.advance():
            output.close()
            output, said = RunOutput(console_path(Path.cwd(), runs.current.head.id)), False
            console.say(f"following {runs.current.head}")
        elif runs.is_over():
            break
        else:
            pause(LOOK_SECONDS, sys.stdout.fileno())
    if runs.top is not runs.current:
        _say_end(runs.top)


def _say_end(run: Watched) -> None:
    if run.ending is None:
        console.say(f"{run.head} is {run.status}")
    else:
        console.say(f"{run.head} ended, {run.status}: {run.reason}".rstrip(": "))


def _filter(pattern: str | None, level: str | None) -> Wanted:
    """Which lines to show. Patterns are RE2's: none of them can take for ever."""
    import re2

    from codetune.runlog.follow import LEVELS

    levels = LEVELS[LEVELS.index(level) :] if level else (*LEVELS, "")
    quiet = re2.Options()
    quiet.log_errors = False
    try:
        found = re2.compile(pattern or "", quiet)
    except (re2.error, UnicodeError) as problem:
        raise UserError(f"--grep: {pattern!r} is no pattern: {_reason(problem)}") from None
    return lambda line: line.level in levels and found.search(str(line)) is not None


def _reason(problem: Exception) -> str:
    told = problem.args[0] if problem.args else problem
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told)


def _show(lines: Iterable[Line]) -> None:
    if not sys.stdout.isatty():
        for line in lines:
            console.emit(str(line))
        return
    from rich.text import Text

    screen = console.stdout()
    for line in lines:
        rest = str(line).removeprefix(line.time)
        screen.print(Text.assemble((line.time, "dim"), (rest, STYLES[line.level])))


if __name__ == "__main__":
    raise SystemExit(stage.answer(_parser()))
