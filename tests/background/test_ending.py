"""How the record of a run ends that never started."""

from __future__ import annotations

from pathlib import Path

import pytest

from codetune.background.ending import abandon
from codetune.runlog import create_run, events, open_run
from codetune.runlog.keeping import amend
from codetune.runlog.local import read_run


@pytest.mark.parametrize("amended", [False, True])
def test_a_run_that_never_started_is_ended(tmp_path: Path, amended: bool) -> None:
    run_id = create_run(tmp_path, stage="train", name="queued")
    if amended:
        amend.tag(tmp_path, run_id, ["best"])
        amend.note(tmp_path, run_id, "why")
    abandon(tmp_path, run_id, "ended before it started")
    journal = events.journal_path(tmp_path, run_id)
    row, size = read_run(journal), journal.stat().st_size
    assert row is not None
    assert (row.status, row.reason) == ("interrupted", "ended before it started")
    abandon(tmp_path, run_id, "again")
    assert journal.stat().st_size == size


def test_others_are_left_alone(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="train", config={})
    abandon(tmp_path, run.id, "x")
    row = read_run(events.journal_path(tmp_path, run.id))
    assert row is not None and row.status == "running"
    run.finish("finished")
    abandon(tmp_path, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "x")
    empty = events.journal_path(tmp_path, create_run(tmp_path, stage="train"))
    empty.write_bytes(b"")
    abandon(tmp_path, empty.parent.name, "x")
    assert empty.read_bytes() == b""
