"""A run's record as JSON values, in the stable shape that docs/runs.md describes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from codetune.runlog import capture
from codetune.runlog.local import RunRow
from codetune.runlog.reading.details import RunDetails, Summary
from codetune.runlog.reading.figures import seconds_of


def as_record(run: RunDetails, root: Path) -> dict[str, Any]:
    """Everything that is known of a run; paths are relative to `root`, times ms UTC."""
    row = run.row
    return {
        **brief(row),
        "stage_version": run.version,
        "task": row.task,
        "project": row.project,
        "parent": row.parent,
        "children": [brief(child) for child in run.children],
        "command": run.argv,
        "seed": run.seed,
        "code": {
            "commit": run.commit,
            "diff_sha256": run.diff_sha256,
            "patch": patch_of(run, root),
        },
        "environment": run.environment,
        "knobs": [asdict(param) for param in run.params],
        "files": [asdict(file) for file in row.files],
        "metrics": [summary_record(metric) for metric in run.metrics],
        "events": [asdict(event) for event in run.events],
        "tags": list(run.tags),
        "notes": [asdict(note) for note in run.notes],
        "peaks": asdict(run.peaks),
    }


def brief(row: RunRow) -> dict[str, Any]:
    """What tells a run from others, and how it stands."""
    return {
        "id": row.id,
        "name": row.name,
        "stage": row.stage,
        "status": row.status,
        "reason": row.reason,
        "created": row.created,
        "started": row.started,
        "ended": row.ended,
        "seconds": seconds_of(row),
    }


def summary_record(metric: Summary) -> dict[str, Any]:
    """A metric over a run; null is a number that was not finite, or that there is none."""
    return {**asdict(metric), "best": metric.best, "best_step": metric.best_step}


def patch_of(run: RunDetails, root: Path) -> str | None:
    """The file that keeps what was not committed, relative to `root`; None when there is none."""
    if run.diff_sha256 is None:
        return None
    file = capture.patch_path(root, run.diff_sha256)
    return file.relative_to(root).as_posix() if file.is_file() else None
