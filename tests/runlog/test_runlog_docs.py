"""docs/runlog.md names every table, status and call there is."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from codetune.runlog import Run, capture, events, flusher, open_run, process
from codetune.runlog.store import database, records, revision, schema, upgrade


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/runlog.md").read_text()


def test_every_table_and_status_is_described(page: str) -> None:
    for name in schema.metadata.tables:
        assert f"`{name}`" in page, name
    for status in (*schema.STATUSES, "crashed"):
        assert f"`{status}`" in page, status


def test_every_call_of_a_stage_is_described_and_exists(page: str) -> None:
    named = set(re.findall(r"`log\.(\w+)\(", page))
    assert named == {"source", "input", "output", "outputs", "define", "metric", "event", "tag"}
    assert all(callable(getattr(Run, name)) for name in named)


def test_its_numbers_are_those_of_the_code(page: str) -> None:
    assert f"every {flusher.FLUSH_RECORDS} records" in page
    assert f"every {flusher.SAMPLE_SECONDS:.0f} seconds" in page
    assert f"after {process.LEASE_MS // 1000} seconds of silence" in page
    assert f"more\nthan {events._LONGEST_TEXT:,} characters" in page
    first, second, third = revision._WAITS
    assert f"again after {first:g}, {second:g}\n  and {third:g} seconds" in page
    assert f"busy timeout of {database.BUSY_SECONDS:.0f} seconds" in page
    assert f"more than {records._LONGEST_NAME} characters" in page
    assert f"`{upgrade.BACKUP_SCHEMA}<revision>_<time>`" in page
    assert flusher._REST == 9
    assert "capture.KEPT_VARIABLES" in page
    assert capture.KEPT_VARIABLES


def test_the_query_it_shows_works(page: str, tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="train", config={})
    for step in range(3):
        run.metric("train_loss", step / 2, step)
    run.finish("finished")
    query = re.search(r"    SELECT m\.step.*?;", page, re.DOTALL)
    assert query is not None
    connection = sqlite3.connect(tmp_path / "logs/runs.db")
    found = connection.execute(query[0].replace("01J…", run.id)).fetchall()
    connection.close()
    assert found == [(0, 0.0), (1, 0.5), (2, 1.0)]
