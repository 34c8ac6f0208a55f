"""docs/runs.md: its commands are understood, and what it names is there."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from codetune.runlog.reading import keys, statement
from codetune.runlog.reading import page as one_run
from codetune.runlog.reading.details import Peaks, Summary
from codetune.runlog.reading.listing import wanted_of
from tests.runlog.test_reading_page import RECORD

LOOKING = ("list", "show", "metrics", "compare", "diff", "sql")


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/runs.md").read_text()


def test_every_command_is_understood(root: Path, page: str) -> None:
    script = runpy.run_path(str(root / "scripts/runs/runs.py"))
    commands = [
        shlex.split(line) for line in re.findall(r"^    \./scripts\.sh runs (.+)$", page, re.M)
    ]
    asked = [words for words in commands if words[0] in LOOKING]
    assert {words[0] for words in asked} == set(LOOKING)
    for words in asked:
        options = vars(script["_parser"]().parse_args(script["_joined"](words)))
        if words[0] == "list":
            flags = ("stage", "status", "where", "sort", "reverse")
            assert wanted_of(**{name: options[name] for name in flags})


def test_every_fact_and_figure_is_named(page: str) -> None:
    for fact in keys._facts([], 0):
        assert f"`{fact}`" in page, fact
    for which in keys.WHICH:
        assert f".{which}`" in page, which
    for operator in keys._COMPARE:
        assert f"`{operator}`" in page, operator


def test_every_field_of_a_record_is_named(page: str) -> None:
    fields = RECORD | set(Peaks.__dataclass_fields__) | set(Summary.__dataclass_fields__)
    assert {name for name in fields if f"`{name}`" not in page} == set()


def test_its_numbers_are_those_of_the_code(page: str) -> None:
    assert f"ended after {statement.SECONDS:.0f} seconds" in page
    assert f"the newest {one_run._EVENTS} events" in page
