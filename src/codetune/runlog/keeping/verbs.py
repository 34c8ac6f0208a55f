"""The verbs that change the run log or what runs left on disk, answered for people and machines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from codetune import console
from codetune.errors import UserError
from codetune.runlog.keeping import amend, checkpoints, rebuild, removal
from codetune.runlog.local import RunRow, run_ids
from codetune.runlog.reading import export, queries
from codetune.runlog.reading.rows import rows_of
from codetune.runlog.store import schema
from codetune.runlog.store.database import locate
from codetune.runlog.store.upgrade import upgrade as bring_up


@dataclass(frozen=True)
class Place:
    """The project at `root`, and its DATABASE_URL."""

    root: Path
    url: str | None


@dataclass(frozen=True)
class Told:
    """What was done, as JSON values, and as a table and a last line for people."""

    data: Any
    table: console.Table
    said: str = ""


def runs_called(at: Place, names: Sequence[str]) -> list[RunRow]:
    """The runs of this checkout that are named, each once; UserError for any other."""
    with queries.reading(at.root, at.url) as connection:
        ids = list(dict.fromkeys(queries.find(connection, name) for name in names))
        rows = rows_of(connection, select(schema.run).where(schema.run.c.id.in_(ids)))
    for run_id in ids:
        amend.journal_of(at.root, run_id)
    return sorted(rows, key=lambda row: ids.index(row.id))


def tag(at: Place, run: str, words: Sequence[str], *, remove: bool) -> Told:
    """Adds words to a run, or takes them away."""
    (row,) = runs_called(at, [run])
    kept = amend.tag(at.root, row.id, words, remove=remove)
    rebuild.index(at.root, row.id, at.url)
    what = "removed" if remove else "added"
    table = console.table("tags", ["run", "tag", ""], [[row.name, word, what] for word in kept])
    return Told({"run": row.id, what: kept}, table)


def note(at: Place, run: str, text: str) -> Told:
    """Adds a note to a run."""
    (row,) = runs_called(at, [run])
    kept = amend.note(at.root, row.id, text)
    rebuild.index(at.root, row.id, at.url)
    return Told(
        {"run": row.id, "note": kept}, console.table("note", ["run", "note"], [[row.name, kept]])
    )


def rm(at: Place, rows: Sequence[RunRow]) -> Told:
    """Removes runs from the run log, and tells what stays of them on disk."""
    left = list(removal.left_behind(at.root, rows))
    with rebuild.writing(at.root, at.url) as database:
        ended = removal.remove(at.root, database, rows)
    stays = [{"path": one.path, "run": one.run.id, "bytes": one.size} for one in left]
    lines = [[one.run.name, one.path, size(one.size)] for one in left]
    patches = list(ended.patches)
    data = {"removed": [row.id for row in rows], "patches": patches, "stays": stays}
    gone = f" with {', '.join(patches)}" if patches else ""
    taken = size(sum(one.size for one in left))
    said = f"{len(rows)} removed{gone}; what they made stays and takes {taken}"
    return Told(data, console.table("stays on disk", ["made by", "path", "size"], lines), said)


def prune(at: Place, *, keep_last: int, yes: bool) -> Told:
    """Tells which checkpoints may go, or lets them go."""
    if keep_last < 0:
        raise UserError("--keep_last: is a number of checkpoints, 0 or more")
    found = checkpoints.plan(at.root, keep_last)
    going = sum(choice.size for choice in found if not choice.keep)
    freed = checkpoints.free(at.root, found) if yes else 0
    data, lines = [], []
    for choice in found:
        path = os.path.relpath(choice.path, at.root.resolve())
        data.append({**asdict(choice), "path": path})
        end = "keep" if choice.keep else "free"
        lines.append([choice.run, path, size(choice.size), end, choice.why])
    table = console.table("checkpoints", ["run", "checkpoint", "size", "", "why"], lines)
    kept = size(sum(choice.size for choice in found) - going)
    said = f"freed {size(freed)}" if yes else f"nothing is freed yet: --yes frees {size(going)}"
    policy = checkpoints.POLICY.format(keep_last=keep_last)
    told = {"policy": policy, "checkpoints": data, "may_go": going, "freed": freed}
    return Told(told, table, f"{said}; {kept} stay")


def export_to(at: Place, runs: Sequence[str], to: str, out: Path | None) -> Told | None:
    """Writes runs into a file, or (None) onto standard output."""
    if out is None and to == "html":
        raise UserError("--out: a page needs a file, such as --out runs.html")
    with queries.reading(at.root, at.url) as connection:
        ids = export.chosen(connection, runs, run_ids(at.root))
        pieces = export.pieces(connection, at.root, ids, to)
        if out is None:
            for some in pieces:
                console.emit(some)
            return None
        written = export.write(out, pieces)
    data = {"file": str(out), "runs": len(ids), "bytes": written}
    table = console.table("export", ["file", "runs", "size"], [[out, len(ids), size(written)]])
    return Told(data, table)


def reindex(at: Place) -> Told:
    """Makes the rows of this checkout's runs anew from their journals."""
    with console.progress("runs indexed", len(run_ids(at.root))) as bar:
        count = rebuild.reindex(at.root, database_url=at.url, on_run=bar.advance)
    place = str(locate(at.root, at.url))
    table = console.table("reindexed", ["database", "runs"], [[place, count]])
    return Told({"database": place, "runs": count}, table)


def upgrade(at: Place) -> Told:
    """Brings the database to this version of the schema."""
    place = locate(at.root, at.url)
    done = bring_up(place)
    facts = {"database": str(place), **asdict(done)}
    shown = ["-" if value is None else value for value in facts.values()]
    return Told(facts, console.table("schema", list(facts), [shown]), done.line)


def size(n: int) -> str:
    """Bytes as a person reads them."""
    unit, power = ("GiB", 30) if n >= 1 << 30 else ("MiB", 20) if n >= 1 << 20 else ("KiB", 10)
    return f"{n / (1 << power):,.1f} {unit}"
