"""Follow the records of runs as they are written: for an editor, a script or a web page.

    watch.py                            of all runs at work, and of each that starts later
    watch.py full                       of one run, by its name or by either end of its id
    watch.py full --json --from_start   one JSON object a line, from the run's first record on
    watch.py --json --kinds metric,event | jq .

In: the journals under logs/runs/; no database is asked. Out: a line a record on standard output,
each written at once; docs/watching.md lists the keys. With RUN it ends when the run has ended, and
the last record says how; without RUN it goes on until Ctrl-C.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import console, stage
from codetune.config import Parser
from codetune.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from codetune.runlog.events import Record
    from codetune.runlog.watch import Head, Watched

    Show = Callable[[Head, Record], None]

LOOK_SECONDS = 0.2
LOOKS_FOR_NEW = 5  # new runs are looked for every so many looks


def _parser() -> Parser:
    parser = stage.question(__doc__)
    add = parser.add_argument
    add("run", nargs="?", metavar="RUN", help="name, or beginning or end of an id")
    add("--json", action="store_true", help="one JSON object a line")
    add("--from_start", "--from-start", action="store_true", help="also what was written before")
    add("--after", type=int, metavar="OFFSET", help="go on behind a record, by its offset")
    add("--kinds", metavar="KIND,KIND", help="only records of these kinds")
    parser.set_defaults(act=_watch)
    return parser


def _watch(options: argparse.Namespace) -> None:
    from codetune.runlog import watch

    show, after = _shower(options), options.after
    if after is None and options.from_start:
        after = 0
    if options.run is not None:
        _one(watch.find(Path.cwd(), options.run), after, show)
    elif options.after is None:
        _all(Path.cwd(), after, show)
    else:
        raise UserError("--after: say of which RUN this is the offset")


def _one(run: Watched, after: int | None, show: Show) -> None:
    """Shows one run until the record that ends it; of a run that has ended that one at least."""
    from codetune.runlog.follow import pause
    from codetune.runlog.watch import ENDS, Watched

    followed = run if after is None else Watched(run.head, after)
    while True:
        ended = False
        for record in followed.records():
            show(run.head, record)
            ended = ended or record.kind in ENDS
        if ended:
            return
        if run.ending is not None:  # before we came
            show(run.head, run.ending)
            return
        pause(LOOK_SECONDS, sys.stdout.fileno())


def _all(root: Path, after: int | None, show: Show) -> None:
    """Shows all runs that have not ended, and every later one from its start, until Ctrl-C."""
    from codetune.runlog.follow import pause
    from codetune.runlog.watch import Watched, heads

    runs = {head.id: Watched(head) for head in heads(root)}
    known = set(runs)
    runs = {run_id: run for run_id, run in runs.items() if run.ending is None}
    if after is not None:
        runs = {run_id: Watched(run.head, after) for run_id, run in runs.items()}
    for looks in itertools.count(1):
        for run in list(runs.values()):
            for record in run.records():
                show(run.head, record)
            if run.ending is not None:
                del runs[run.head.id]
        if looks % LOOKS_FOR_NEW == 0:
            runs |= {head.id: Watched(head, 0) for head in heads(root, known=known)}
            known |= set(runs)
        pause(LOOK_SECONDS, sys.stdout.fileno())


def _shower(options: argparse.Namespace) -> Show:
    """What prints a record, if it is of a kind that was asked for."""
    from codetune.runlog import watch

    kinds = set(options.kinds.split(",")) if options.kinds else set()
    for kind in sorted(kinds - set(watch.KINDS)):
        close = difflib.get_close_matches(kind, watch.KINDS, 1, 0.5)
        known = f"did you mean {close[0]}?" if close else f"kinds: {', '.join(watch.KINDS)}"
        raise UserError(f"--kinds: there is no kind {kind!r}; {known}")

    def show(head: Head, record: Record) -> None:
        if record.kind in kinds or (record.kind and not kinds):
            console.emit(watch.as_json(head, record) if options.json else _line(head, record))

    return show


def _line(head: Head, record: Record) -> str:
    """A record for people: when, whose, what; of nested values only that they are there."""
    from codetune.runlog import watch

    fields = json.loads(watch.as_json(head, record))
    when = time.strftime("%H:%M:%S", time.localtime(_seconds(fields.pop("ts", 0))))
    told = {k: v for k, v in fields.items() if k not in ("run", "name", "stage", "offset", "kind")}
    if record.kind == "event" and isinstance(told.get("fields"), dict):
        told |= told.pop("fields")
    words = (f"{k}={'...' if isinstance(v, dict | list) else v}" for k, v in told.items())
    name = " ".join(head.name.split())[:40]
    return " ".join(console.clean(f"{when} {name} {record.kind} {' '.join(words)}").split())


def _seconds(ts: object) -> float:
    return ts / 1000 if isinstance(ts, int) and 0 <= ts < 2**45 else 0.0


if __name__ == "__main__":
    raise SystemExit(stage.answer(_parser()))
