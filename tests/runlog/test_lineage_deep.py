"""Lineage of a chain of runs that is longer than Python lets functions call each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.runlog import create_run, events
from codetune.runlog.reading import queries
from codetune.runlog.reading.lineage import lineage
from codetune.runlog.reading.lineage_stack import Call, as_json, returned
from codetune.runlog.reading.lineage_tree import tree_lines

LONG = 400


def chained(root: Path, number: int) -> str:
    """A run that read what the one before it made."""
    run_id = create_run(root, stage="data", name=f"c{number}")
    files = [("input", number - 1)] * bool(number) + [("output", number)]
    records: list[dict[str, Any]] = [
        {"kind": kind, "role": "rows", "path": f"o{n}", "sha256": f"{n:064x}"} for kind, n in files
    ]
    records.append({"kind": "finished", "status": "finished", "reason": ""})
    with events.journal_path(root, run_id).open("a") as journal:
        for record in records:
            journal.write(json.dumps({"ts": 1790000000000, **record}) + "\n")
    return run_id


@pytest.mark.parametrize("forward", [False, True])
def test_a_long_chain_is_told_to_its_end(tmp_path: Path, forward: bool) -> None:
    ids = [chained(tmp_path, number) for number in range(LONG)]
    asked, last = (ids[0], ids[-1]) if forward else (ids[-1], ids[0])
    with queries.reading(tmp_path) as connection:
        found = lineage(connection, tmp_path, asked, forward=forward)
    lines = list(tree_lines(found, forward=forward, everything=False))
    assert len(lines) == 2 * LONG - (0 if forward else 1)
    assert f"({last[-8:]})" in lines[-2 if forward else -1]
    assert as_json(found.as_dict()).count('"knobs"') == LONG


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_json_is_written_as_everywhere(value: Any) -> None:
    assert as_json(value) == json.dumps(value, indent=1)


def test_json_of_any_depth() -> None:
    value: Any = "inmost"
    for _ in range(5000):
        value = {"a": [value]}
    text = as_json(value)
    assert text.count("[") == text.count("}") == 5000


def test_calls_return_to_their_callers() -> None:
    def total(n: int) -> Call[int]:
        if n == 0:
            return 0
        below: int = yield total(n - 1)
        return n + below

    assert returned(total(5000)) == 5000 * 5001 // 2


def test_an_error_ends_all_calls() -> None:
    def fails(n: int) -> Call[int]:
        if n == 0:
            raise ValueError("at the bottom")
        result: int = yield fails(n - 1)
        return result

    with pytest.raises(ValueError, match="at the bottom"):
        returned(fails(5))
