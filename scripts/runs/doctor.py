"""Says what this machine can train, what is wrong here, and what to do about it. Changes nothing.

    doctor.py                   everything; loads torch, which takes seconds
    doctor.py --fast            all but the trial of torch
    doctor.py --json | jq '.findings[] | select(.todo != "")'

In: this machine, the project in the current folder, and the age of Claude Code's sessions. Out:
findings in groups, each problem with what to do. Exit 3 when torch cannot use the NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import console, stage

if TYPE_CHECKING:
    from rich.table import Table

    from codetune.doctor.finding import Finding

_WIDEST = 38  # of the first column; the folder of a run fits


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the findings, or emits the object; returns the exit code."""
    parser = stage.question(__doc__)
    parser.add_argument("--fast", action="store_true", help="leave out what loads torch")
    parser.add_argument("--json", action="store_true", help="the findings as JSON on stdout")
    parser.set_defaults(act=_act)
    return stage.answer(parser, argv)


def _act(options: argparse.Namespace) -> int:
    from codetune.doctor.examination import Surroundings, examine

    began = time.monotonic()
    here = Surroundings(
        Path.cwd(),
        Path.home(),
        claude_config_dir=os.environ.get("CLAUDE_CONFIG_DIR"),
        database_url=os.environ.get("DATABASE_URL"),
    )
    told: list[dict[str, object]] = []
    for group in examine(here, fast=options.fast):
        findings = list(group.findings)
        told += [{"group": group.title, **asdict(finding)} for finding in findings]
        if not options.json:
            console.line(f"\n{group.title}", "bold")
            console.stdout().print(_drawn(findings), soft_wrap=False)
    blocked = any(finding["blocked"] for finding in told)
    seconds = round(time.monotonic() - began, 2)
    if options.json:
        shown = {"findings": told, "gpu_unusable": blocked, "seconds": seconds}
        console.emit(json.dumps(shown, indent=1))
    else:
        console.line(_summary(sum(bool(finding["todo"]) for finding in told), seconds))
    return stage.REFUSED if blocked else stage.DONE


def _drawn(findings: Sequence[Finding]) -> Table:
    """Three columns: a mark, what was looked at, and what was found; below it what to do."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(max_width=_WIDEST, overflow="fold")
    table.add_column(overflow="fold")
    for finding in findings:
        mark = Text("!!", "bold yellow") if finding.todo else Text("ok", "green")
        found = "; ".join(text for text in (finding.found, finding.meaning) if text)
        table.add_row(mark, Text(console.clean(finding.what)), Text(console.clean(found)))
        for line in console.clean(finding.todo).splitlines():
            table.add_row("", "", Text(f"-> {line}", "yellow"))
    return table


def _summary(problems: int, seconds: float) -> str:
    things = "thing" if problems == 1 else "things"
    todo = f"{problems} {things} to do, marked !! above" if problems else "nothing to do"
    return f"\n{todo} ({seconds:.1f} s)"


if __name__ == "__main__":
    raise SystemExit(main())
