"""One run, or several side by side, as one self-contained HTML page.

Names, notes and knobs are untrusted text: jinja2 escapes all of it, control characters and
bidirectional overrides are stripped, and the page's own policy forbids scripts and any request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from codetune.page import rendered
from codetune.runlog.reading.comparison import compared, named
from codetune.runlog.reading.details import RunDetails
from codetune.runlog.reading.export_chart import BUCKETS, chart
from codetune.runlog.reading.figures import duration, number, when
from codetune.runlog.reading.points import curves_of
from codetune.runlog.reading.record import patch_of

TEMPLATE = "export_page.html.j2"
_CHARTS = 12  # the losses first; a run may have hundreds of metrics
_ROWS = 60  # of one table; a run may have read thousands of files
_FIRST = ("eval_loss", "train_loss")


def page_of(connection: Connection, root: Path, runs: Sequence[RunDetails]) -> str:
    """The page of 1 to 8 runs."""
    names = named(runs)
    charts, more = _charts(connection, runs, names)
    return rendered(
        str(__package__),
        TEMPLATE,
        title=", ".join(names),
        names=names,
        runs=[_head(run, name, root) for run, name in zip(runs, names, strict=True)],
        charts=charts,
        more_charts=more,
        sections=list(_sections(runs)),
        alone=len(runs) == 1,
    )


def _head(run: RunDetails, name: str, root: Path) -> dict[str, Any]:
    """What stands at the top of the page about one run."""
    row = run.row
    return {
        "name": name,
        "status": row.status,
        "side": {"finished": "good", "up to date": "good"}.get(row.status, "flat"),
        "reason": row.reason,
        "facts": [
            ("id", row.id),
            ("stage", row.stage),
            ("when", f"{when(row.started or row.created)}, {duration(row)}"),
            ("command", " ".join(run.argv)),
            ("code", f"{run.commit or 'no commit'}{' with changes' if run.diff_sha256 else ''}"),
            ("changes", patch_of(run, root) or ""),
            ("tags", ", ".join(run.tags)),
        ],
        "notes": [(when(note.ts), note.text) for note in run.notes],
        "events": [(when(e.ts), e.kind, _words(e.fields)) for e in run.events],
    }


def _words(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={number(value)}" for key, value in fields.items())


def _sections(runs: Sequence[RunDetails]) -> Iterator[dict[str, Any]]:
    """Tables of what the runs were given and what came out; of several, first what differs."""
    alone = len(runs) == 1
    for title, lines in compared(runs).items():
        rows = [
            (alone or not line.same, _row(line.key, line.shown, line.winners))
            for line in lines
            if not line.is_long  # told above, of each run
        ]
        shown, equal = [r for own, r in rows if own], [r for own, r in rows if not own]
        more = max(0, len(shown) - _ROWS) + max(0, len(equal) - _ROWS)
        if shown or equal:
            kept = {"rows": shown[:_ROWS], "equal": equal[:_ROWS]}
            yield {"title": title, **kept, "n_equal": len(equal), "more": more}


def _row(key: str, shown: Sequence[str], winners: Sequence[int]) -> dict[str, Any]:
    cells = [
        {"text": text, "side": "good" if place in winners else ""}
        for place, text in enumerate(shown)
    ]
    return {"key": key, "cells": cells}


def _charts(
    connection: Connection, runs: Sequence[RunDetails], names: Sequence[str]
) -> tuple[list[dict[str, Any]], int]:
    """(a plot of each metric that has a curve, how many were left out), the losses first.

    A loss is drawn also where it has one point: a short run may evaluate once.
    """
    units = {m.key: m.unit for run in runs for m in run.metrics if m.count > 1 or m.key in _FIRST}
    losses = sorted(key for key in units if "loss" in key and key not in _FIRST)
    order = dict.fromkeys([*(k for k in _FIRST if k in units), *losses, *sorted(units)])
    curves: dict[str, dict[str, Any]] = {}
    for run, name in zip(runs, names, strict=True):
        keys = list(order)[:_CHARTS]
        found = curves_of(connection, run.row.id, keys, BUCKETS, fewest=1)
        for key, curve in found.items():
            curves.setdefault(key, {})[name] = curve
    drawn = [
        {"title": key, "unit": units[key], "svg": chart(key, curves[key], list(names))}
        for key in order
        if key in curves
    ]
    return drawn, max(0, len(order) - _CHARTS)
