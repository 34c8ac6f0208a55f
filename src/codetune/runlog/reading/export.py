"""Runs for other programs: full records as JSON, points as CSV, one page as HTML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, select

from codetune import artefact
from codetune.artefact.disk import write_atomically
from codetune.errors import UserError
from codetune.runlog.reading.details import details_of
from codetune.runlog.reading.export_page import page_of
from codetune.runlog.reading.points import points_of
from codetune.runlog.reading.queries import find
from codetune.runlog.reading.record import as_record
from codetune.runlog.store import schema

COLUMNS = ("run", "name", "key", "unit", "step", "value", "time")
MOST_ON_A_PAGE = 8
_BATCH = 10_000


def chosen(connection: Connection, names: Sequence[str], own: Sequence[str]) -> list[str]:
    """The ids of the runs that are named, each once; else those of this checkout (`own`)."""
    if names:
        return list(dict.fromkeys(find(connection, name) for name in names))
    return sorted(own)


def pieces(connection: Connection, root: Path, ids: Sequence[str], to: str) -> Iterator[str]:
    """The export in pieces of whole lines, each without its last newline.

    UserError when a page is asked for of too many runs.
    """
    if to == "json":
        yield from _records(connection, root, ids)
    elif to == "csv":
        yield ",".join(COLUMNS)
        for run_id in ids:
            yield from _points(connection, run_id)
    elif not 1 <= len(ids) <= MOST_ON_A_PAGE:
        raise UserError(f"a page shows 1 to {MOST_ON_A_PAGE} runs, not {len(ids)}; name them")
    else:
        yield page_of(connection, root, [details_of(connection, run_id) for run_id in ids])


def write(file: Path, lines: Iterable[str]) -> int:
    """Writes the pieces to a file, which appears whole or not at all; returns its bytes."""
    artefact.private_dir(file.parent)
    write_atomically(file, lambda out: out.writelines(f"{some}\n".encode() for some in lines))
    return file.stat().st_size


def _records(connection: Connection, root: Path, ids: Sequence[str]) -> Iterator[str]:
    """A JSON list of records as `runs show --json` gives them, a run at a time in memory."""
    yield "["
    for number, run_id in enumerate(ids, 1):
        record = json.dumps(as_record(details_of(connection, run_id), root), indent=1)
        yield record + ("," if number < len(ids) else "")
    yield "]"


def _points(connection: Connection, run_id: str) -> Iterator[str]:
    """Every point of a run in long form; `value` is empty where it was not finite."""
    run, series, key = schema.run.c, schema.series, schema.metric_key
    name = connection.execute(select(run.name).where(run.id == run_id)).scalar_one()
    wanted = select(key.c.key, key.c.unit, series.c.id).join_from(series, key)
    found = connection.execute(wanted.where(series.c.run_id == run_id)).all()
    for metric, unit, place in sorted((row.key, row.unit, row.id) for row in found):
        points = points_of(connection, place)
        while some := list(islice(points, _BATCH)):
            text = io.StringIO()
            lines = csv.writer(text, lineterminator="\n")
            for p in some:
                value = "" if p.value is None else repr(p.value)
                lines.writerow([run_id, name, metric, unit, p.step, value, _moment(p.ts)])
            yield text.getvalue()[:-1]


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
