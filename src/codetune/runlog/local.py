"""Runs of this checkout, read from their journals: no database, so it is true at any moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from codetune import console
from codetune.errors import UserError
from codetune.runlog import ends, events
from codetune.runlog.process import Process, is_alive


@dataclass(frozen=True)
class RunFile:
    """A file or folder that a run read (`in`) or made (`out`)."""

    role: str
    kind: str
    path: str  # relative to the project where it lies inside
    sha256: str | None


@dataclass(frozen=True)
class RunRow:
    """A run as lists show it. Times are ms UTC; `metrics` holds the last value of each key."""

    id: str
    name: str
    stage: str
    status: str  # as recorded, or "crashed" when its process is gone
    reason: str = ""
    task: str = ""
    project: str = ""
    parent: str | None = None
    created: int = 0
    started: int | None = None
    ended: int | None = None
    heartbeat: int = 0
    process: Process | None = None
    files: tuple[RunFile, ...] = ()
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[RunFile, ...]:
        """What the run read."""
        return tuple(file for file in self.files if file.role == "in")

    @property
    def outputs(self) -> tuple[RunFile, ...]:
        """What the run made."""
        return tuple(file for file in self.files if file.role == "out")

    def output(self, kind: str) -> Path | None:
        """The last output of `kind`, as a path; None when there is none."""
        found = [file.path for file in self.outputs if file.kind == kind]
        return Path(found[-1]) if found else None


def run_ids(root: Path) -> list[str]:
    """The runs of this checkout that have a journal, newest first."""
    folder = root / events.RUNS
    if not folder.is_dir():
        return []
    names = (p.name for p in folder.iterdir() if (p / events.JOURNAL).is_file())
    return sorted(names, reverse=True)


def latest(root: Path, stage: str, status: str = "finished") -> RunRow | None:
    """The newest run of `stage` that ended with `status`; None when there is none."""
    journal = _newest(root, stage, status)
    return None if journal is None else read_run(journal)


def newest_adapter(root: Path) -> Path:
    """The adapter of the newest finished training run, said aloud; UserError without one."""
    journal = _newest(root, "train", "finished")
    run = None if journal is None else row_of([*ends.beginning(journal), *_adapter(journal)])
    adapter = run.output("adapter") if run else None
    if run is None or adapter is None:
        raise UserError("no finished training run here; train first, or pass --adapter")
    console.say(f"adapter of the newest finished run, {run.name}: {adapter}")
    return adapter


def active_runs(root: Path) -> list[RunRow]:
    """The runs of this checkout whose process is at work now, newest first: as `read_ends`."""
    return [row for _, row in _runs(root) if row.status == "running"]


def read_run(journal: Path) -> RunRow | None:
    """The run that a journal tells of; None for a journal without a beginning."""
    return row_of(events.read(journal))


def read_ends(journal: Path) -> RunRow | None:
    """The run without its files and metrics, at a cost that does not grow with its journal."""
    return row_of(ends.both(journal))


def row_of(records: Iterable[events.Record]) -> RunRow | None:
    """The run that records of its journal tell of, all or some; None without its beginning.

    Like the database, it passes over records that lack something.
    """
    facts: dict[str, Any] = {}
    files: list[RunFile] = []
    metrics: dict[str, float | None] = {}
    for record in records:
        fields = record.fields
        try:
            if record.kind == "metric":
                metrics[_text(fields["key"])] = _number(fields["value"])
            elif record.kind in ("input", "output"):
                files.append(_file(record))
            else:
                facts |= _facts(record)
            if ends.is_own(record):
                facts["heartbeat"] = _integer(fields["ts"])
        except (KeyError, TypeError):
            continue  # damaged: what it was cannot be known
    if "id" not in facts:
        return None
    return with_liveness(RunRow(**facts, files=tuple(files), metrics=metrics))


def with_liveness(row: RunRow) -> RunRow:
    """`row`, with status `crashed` when it should be running and its process is gone."""
    if row.status != "running" or row.process is None or is_alive(row.process, row.heartbeat):
        return row
    return replace(row, status="crashed", reason="the process ended without a word")


def _runs(root: Path) -> Iterator[tuple[Path, RunRow]]:
    """The runs of this checkout by the ends of their journals, newest first."""
    for run_id in run_ids(root):
        journal = events.journal_path(root, run_id)
        try:
            row = read_ends(journal)
        except FileNotFoundError:  # removed while we look
            continue
        if row is not None:
            yield journal, row


def _newest(root: Path, stage: str, status: str) -> Path | None:
    wanted = (stage, status)
    return next((path for path, row in _runs(root) if (row.stage, row.status) == wanted), None)


def _adapter(journal: Path) -> Iterator[events.Record]:
    """The record of the last adapter that the run made."""
    made = (record for record in ends.last_ones(journal) if record.kind == "output")
    return islice((record for record in made if record.fields.get("role") == "adapter"), 1)


def _facts(record: events.Record) -> dict[str, Any]:
    """What one record says about the run itself."""
    fields = record.fields
    match record.kind:
        case "created":
            names = ("id", "name", "stage", "task", "project")
            facts: dict[str, Any] = {name: _text(fields[name]) for name in names}
            parent = None if fields["parent"] is None else _text(fields["parent"])
            created = _integer(fields["ts"])
            return {**facts, "parent": parent, "status": "created", "created": created}
        case "started":
            told = fields["process"]
            pid, started = _integer(told["pid"]), _integer(told["started"])
            process = Process(_text(told["machine"]), pid, started)
            return {"status": "running", "started": _integer(fields["ts"]), "process": process}
        case "finished":
            said = {"status": _text(fields["status"]), "reason": _text(fields["reason"])}
            return {**said, "ended": _integer(fields["ts"])}
    return {}


def _file(record: events.Record) -> RunFile:
    fields, role = record.fields, "in" if record.kind == "input" else "out"
    sha256 = None if fields["sha256"] is None else _text(fields["sha256"])
    return RunFile(role, _text(fields["role"]), _text(fields["path"]), sha256)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError("not an integer")
    return value


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float | None):
        raise TypeError("not a number")
    return value
