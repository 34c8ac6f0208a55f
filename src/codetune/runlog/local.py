"""Runs of this checkout, read from their journals: no database, so it is true at any moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codetune import console
from codetune.errors import UserError
from codetune.runlog import events
from codetune.runlog.process import Process, is_alive

_TAIL = 64 * 1024


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
    for run_id in run_ids(root):
        journal = events.journal_path(root, run_id)
        head = next(events.read(journal), None)
        if head is None or head.fields.get("stage") != stage:
            continue
        found = read_run(journal)
        if found is not None and found.status == status:
            return found
    return None


def newest_adapter(root: Path) -> Path:
    """The adapter of the newest finished training run, said aloud; UserError without one."""
    run = latest(root, "train")
    adapter = run.output("adapter") if run else None
    if run is None or adapter is None:
        raise UserError("no finished training run here; train first, or pass --adapter")
    console.say(f"adapter of the newest finished run, {run.name}: {adapter}")
    return adapter


def active_runs(root: Path) -> list[RunRow]:
    """The runs of this checkout whose process is at work now, newest first."""
    unended = (j for j in _journals(root) if _last_kind(j) != "finished")
    found = (read_run(journal) for journal in unended)
    return [row for row in found if row is not None and row.status == "running"]


def read_run(journal: Path) -> RunRow | None:
    """The run that a journal tells of; None for a journal without a beginning."""
    return row_of(events.read(journal))


def row_of(records: Iterable[events.Record]) -> RunRow | None:
    """The run that records of its journal tell of, all or some; None without its beginning."""
    facts: dict[str, Any] = {}
    files: list[RunFile] = []
    metrics: dict[str, float | None] = {}
    for record in records:
        fields = record.fields
        if record.kind == "metric":
            metrics[fields["key"]] = fields["value"]
        elif record.kind in ("input", "output"):
            role = "in" if record.kind == "input" else "out"
            files.append(RunFile(role, fields["role"], fields["path"], fields["sha256"]))
        else:
            facts |= _facts(record)
        if record.kind not in events.AMENDMENTS:
            facts["heartbeat"] = fields.get("ts", facts.get("heartbeat", 0))
    if "id" not in facts:
        return None
    return with_liveness(RunRow(**facts, files=tuple(files), metrics=metrics))


def with_liveness(row: RunRow) -> RunRow:
    """`row`, with status `crashed` when it should be running and its process is gone."""
    if row.status != "running" or row.process is None or is_alive(row.process, row.heartbeat):
        return row
    return replace(row, status="crashed", reason="the process ended without a word")


def _journals(root: Path) -> Iterator[Path]:
    return (events.journal_path(root, run_id) for run_id in run_ids(root))


def _last_kind(journal: Path) -> str:
    """The kind of the last whole record, without reading all of a long journal."""
    size = journal.stat().st_size
    records = list(events.read(journal, max(0, size - _TAIL)))
    return records[-1].kind if records else ""


def _facts(record: events.Record) -> dict[str, Any]:
    """What one record says about the run itself."""
    fields = record.fields
    match record.kind:
        case "created":
            names = ("id", "name", "stage", "task", "project", "parent")
            facts = {name: fields[name] for name in names}
            return {**facts, "status": "created", "created": fields["ts"]}
        case "started":
            process = Process(**fields["process"])
            return {"status": "running", "started": fields["ts"], "process": process}
        case "finished":
            return {"status": fields["status"], "reason": fields["reason"], "ended": fields["ts"]}
    return {}
