"""docs/runlog.md names every table, status and call there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codetune.runlog import Run, capture, events, flusher, process
from codetune.runlog.store import schema


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
    assert named == {"input", "output", "define", "metric", "event", "tag"}
    assert all(callable(getattr(Run, name)) for name in named)


def test_its_numbers_are_those_of_the_code(page: str) -> None:
    assert f"every {flusher.FLUSH_RECORDS} records" in page
    assert f"every {flusher.SAMPLE_SECONDS:.0f} seconds" in page
    assert f"after {process.LEASE_MS // 1000} seconds of silence" in page
    assert f"more\nthan {events._LONGEST_TEXT:,} characters" in page
    assert "capture.KEPT_VARIABLES" in page
    assert capture.KEPT_VARIABLES
