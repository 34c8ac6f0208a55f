"""Look at past and present runs.

    runs.py list                   the newest runs: what, when, how it ended, key figures
    runs.py show RUN               one run in full; RUN is its name, or a part of its id
    runs.py list --stage train --json | jq .

In: the run log under logs/ (or DATABASE_URL). Out: tables on the terminal, with --json data on
standard output. Looking is not a stage: it takes no config and is not recorded as a run, so
this script has a small main of its own instead of `stage.main`.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import console, stage
from codetune.errors import UserError

if TYPE_CHECKING:
    from codetune.runlog.reading.details import RunDetails


def main(argv: Sequence[str] | None = None) -> int:
    """Shows what was asked for; returns the exit code."""
    options = _parser().parse_args(argv)
    stage.load_environment()
    try:
        _list(options) if options.verb == "list" else _show(options)
    except UserError as problem:
        console.fail(problem)
        return stage.USER
    return stage.DONE


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|show")
    listing = verbs.add_parser("list", help="the newest runs")
    listing.add_argument("--stage", help="only runs of this stage, such as train")
    listing.add_argument("--limit", type=int, default=20, help="at most so many (20)")
    listing.add_argument("--json", action="store_true", help="as JSON on standard output")
    showing = verbs.add_parser("show", help="one run in full")
    showing.add_argument("run", metavar="RUN", help="name, id, or beginning or end of an id")
    showing.add_argument("--metric", help="the metric whose curve is drawn (a loss)")
    showing.add_argument("--json", action="store_true", help="as JSON on standard output")
    return parser


def _list(options: argparse.Namespace) -> None:
    from codetune.runlog.reading.queries import list_runs
    from codetune.runlog.reading.tables import run_table

    url = os.environ.get("DATABASE_URL")
    rows = list_runs(Path.cwd(), stage=options.stage, limit=options.limit, database_url=url)
    if options.json:
        console.emit(json.dumps([asdict(row) for row in rows], indent=1))
    elif rows:
        console.draw(run_table("runs", rows))
    else:
        console.say("no runs yet" + (f" of {options.stage}" if options.stage else ""))


def _show(options: argparse.Namespace) -> None:
    from codetune.runlog.reading.queries import get_run
    from codetune.runlog.reading.tables import detail_tables

    run = get_run(Path.cwd(), options.run, database_url=os.environ.get("DATABASE_URL"))
    if options.json:
        console.emit(json.dumps(asdict(run), indent=1))
        return
    for table in detail_tables(run):
        console.draw(table)
    _show_curve(run, options.metric)


def _show_curve(run: "RunDetails", wanted: str | None) -> None:
    """Draws the metric that was asked for, or a loss, or whatever has a curve."""
    from codetune.runlog.reading.curve import drawn

    curves = {metric.key: metric.curve for metric in run.metrics if metric.curve}
    if wanted and wanted not in curves:
        known = ", ".join(curves) or "none"
        raise UserError(f"--metric: {wanted!r} has no curve in this run; those that have: {known}")
    losses = sorted((key for key in curves if "loss" in key), key=len)
    for key in [wanted] if wanted else [*losses, *curves][:1]:
        console.say("\n".join([f"{key} by step", *drawn(curves[key])]))


if __name__ == "__main__":
    raise SystemExit(main())
