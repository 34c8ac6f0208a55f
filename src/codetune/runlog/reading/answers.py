"""The questions of `runs`, each a function of its flags, answered for people and for machines."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from sqlalchemy import Connection, select

from codetune.errors import UserError
from codetune.runlog import events
from codetune.runlog.process import now_ms
from codetune.runlog.reading import (
    comparison,
    curve,
    difference,
    drawing,
    listing,
    page,
    picture,
    points,
    record,
)
from codetune.runlog.reading.details import RunDetails, details_of
from codetune.runlog.reading.layout import one_line
from codetune.runlog.reading.queries import find
from codetune.runlog.store import schema

STAGES = (  # those of this version; a run log may know others
    *("archive-logs", "claude2sft", "repo2fim", "data", "peek", "check-lengths", "demo-base"),
    *("train", "baseline", "compare", "model-testing", "merge", "pipeline", "demo"),
)
PICTURE = "curves.png"
Width = int | None  # of the terminal; None where the answer goes elsewhere and is not cut


@dataclass(frozen=True)
class Log:
    """The run log of the project at `root`, open for questions."""

    connection: Connection
    root: Path


@dataclass(frozen=True)
class Answer:
    """One answer in two forms, and what is said beside it.

    `lines` takes the width of the terminal; a plain string is many lines that need no style.
    `pieces` are those of one JSON value.
    """

    lines: Callable[[Width], Iterable[Text | str]]
    pieces: Callable[[], Iterable[str]]
    notes: Sequence[str] = ()


def of_data(
    data: Any, lines: Callable[[Width], Iterable[Text | str]], notes: Sequence[str] = ()
) -> Answer:
    """An answer whose JSON is small enough to be written in one piece."""
    return Answer(lines, lambda: [json.dumps(data, indent=1)], notes)


def list_(log: Log, **flags: Any) -> Answer:
    """The runs that fit, a line each."""
    wanted = listing.wanted_of(**flags)
    if flags["stage"] is not None:
        _check_stage(log, flags["stage"])
    runs = listing.listed(log.connection, wanted)
    return of_data(
        [run.as_dict() for run in runs],
        lambda width: listing.list_lines(runs, wanted.columns, width, now_ms()) if runs else [],
        [] if runs else ["no run fits"],
    )


def show(
    log: Log,
    *,
    run: str | None,
    metric: Sequence[str],
    everything: bool,
    png: str | None,
) -> Answer:
    """One run in full, with its loss curves; `png` is a file, or "" for the run's own folder."""
    details = _details(log, run)
    place = events.journal_path(log.root, details.row.id).with_name(PICTURE) if png == "" else png
    notes = _drawn_png(log, [details], metric, place)
    plot = _plot(log, [details], metric)

    def lines(width: Width) -> Iterator[Text | str]:
        yield from page.page(details, width, everything=everything)
        yield from plot(width)

    return of_data(record.as_record(details, log.root), lines, notes)


def metrics(log: Log, *, run: str | None, metric: Sequence[str]) -> Answer:
    """The figures of a run's metrics; the points of those that are named."""
    details = _details(log, run)
    known = {one.key: one for one in details.metrics}
    for key in metric:
        drawing.check_metric(key, list(known))
    keys = list(dict.fromkeys(metric)) or list(known)
    series = [record.summary_record(known[key]) for key in keys]
    head = {"run": details.row.id, "name": details.row.name}

    def lines(width: Width) -> Iterator[Text | str]:
        if metric:
            yield from points.as_text(log.connection, details.row.id, keys)
        else:
            yield from page.metric_lines(details.metrics, width)

    notes = [] if known else [f"{details.row.name} recorded no metrics"]
    return Answer(
        lines, lambda: points.as_json(log.connection, details.row.id, head, series), notes
    )


def compare(
    log: Log,
    *,
    runs: Sequence[str],
    metric: Sequence[str],
    everything: bool,
    png: str | None,
) -> Answer:
    """Runs side by side with what differs, and their curves in one plot."""
    comparison.check_number(runs)
    found = [_details(log, run) for run in runs]
    sections = comparison.compared(found)
    notes = _drawn_png(log, found, metric, png)
    plot = _plot(log, found, metric)

    def lines(width: Width) -> Iterator[Text | str]:
        yield from comparison.comparison_lines(found, sections, width, everything=everything)
        yield from plot(width)

    return of_data(comparison.as_json(found, sections, everything=everything), lines, notes)


def diff(log: Log, *, runs: Sequence[str]) -> Answer:
    """What of a run (the newest, if none is named) was not committed, or how two runs differ."""
    if len(runs) > 2:
        raise UserError(f"diff takes one run or two, not {len(runs)}; compare takes up to 8")
    found = [_details(log, run) for run in runs] or [_details(log, None)]
    if len(found) == 1:
        told = difference.uncommitted(found[0], log.root)
        return of_data(told, lambda width: difference.uncommitted_lines(told, width))
    data = {
        "runs": [record.brief(run.row) for run in found],
        "differences": difference.differences(found),
    }
    notes = [] if data["differences"] else ["no difference in code, knobs, data and environment"]
    return of_data(data, lambda _: difference.difference_lines(found), notes)


def _check_stage(log: Log, stage: str) -> None:
    """UserError for a stage that neither this version nor any recorded run knows."""
    recorded = log.connection.execute(select(schema.run.c.stage).distinct()).scalars()
    known = list(dict.fromkeys([*STAGES, *sorted(recorded)]))
    if stage not in known:
        near = difflib.get_close_matches(stage, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"--stage: there is no stage {stage!r}; {hint}")


def _details(log: Log, run: str | None) -> RunDetails:
    return details_of(log.connection, find(log.connection, run))


def _plot(
    log: Log, runs: Sequence[RunDetails], metric: Sequence[str]
) -> Callable[[Width], Iterator[Text]]:
    """What draws the curves at the end of a page."""
    drawn = drawing.drawing_of(log.connection, runs, metric, curve.WIDEST)

    def lines(width: Width) -> Iterator[Text]:
        if drawn.curves:
            unit = f" [{drawn.unit}]" if drawn.unit else ""
            title = one_line(f"{', '.join(drawn.metrics)}{unit} by step")
            yield Text()
            yield Text(title, style="bold underline")
            yield from curve.plotted(drawn.curves, min(width or curve.WIDEST, curve.WIDEST))

    return lines


def _drawn_png(
    log: Log,
    runs: Sequence[RunDetails],
    metric: Sequence[str],
    file: Path | str | None,
) -> list[str]:
    """Writes the picture that was asked for; returns the line that says where it is."""
    if file is None:
        return []
    if not str(file).endswith(".png"):
        raise UserError(f"--png: {str(file)!r} is no PNG; write a file name that ends in .png")
    drawn = drawing.drawing_of(log.connection, runs, metric, picture.BUCKETS)
    beside = ", ".join(filter(None, [*drawn.metrics, drawn.unit]))
    place = picture.save_picture(Path(file), drawn.curves, drawn.title, beside)
    return [f"curves: {place}"]


QUESTIONS: dict[str, Callable[..., Answer]] = {
    "list": list_,
    "show": show,
    "metrics": metrics,
    "compare": compare,
    "diff": diff,
}
