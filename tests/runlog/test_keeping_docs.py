"""docs/runs.md, Lineage and Keeping order: its commands work, and its words are the code's."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from codetune.runlog.keeping import amend
from codetune.runlog.reading import disk, export, lineage

KEEPING = {"lineage", "tag", "note", "rm", "prune", "export", "reindex", "upgrade"}


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/runs.md").read_text()


def test_every_command_is_understood(root: Path, page: str) -> None:
    parser = runpy.run_path(str(root / "scripts/runs/keep.py"))["_parser"]()
    lines = re.findall(r"\./scripts\.sh runs (.+)$", page, re.M)
    commands = [shlex.split(line, comments=True) for line in lines]
    kept = [words for words in commands if words[0] in KEEPING]
    assert {words[0] for words in kept} == KEEPING
    for words in kept:
        before_redirection = words[: words.index(">")] if ">" in words else words
        assert parser.parse_args(before_redirection).verb == words[0]


def test_the_door_knows_every_verb(root: Path) -> None:
    door = (root / "scripts.sh").read_text()
    (line,) = [line for line in door.splitlines() if "scripts/runs/keep.py" in line]
    assert set(line.partition(")")[0].replace(" ", "").split("|")) == KEEPING


def test_its_words_and_numbers_are_those_of_the_code(page: str) -> None:
    for word in (disk.CHANGED, disk.GONE):
        assert f"| `{word}` |" in page
    assert f"| `{disk.DAMAGED}: ...` |" in page
    assert lineage.LISTED == 6 and "More than six sources" in page
    assert amend.LONGEST_NOTE == 4096 and "up to 4 kB" in page
    assert f"one page of 1 to {export.MOST_ON_A_PAGE} runs" in page
    for column in export.COLUMNS:
        assert f"`{column}`" in page


def test_its_roles_and_kinds_are_those_that_stages_record(root: Path, page: str) -> None:
    """Every word in the table is one that the stage's script says when it records."""
    rows = re.findall(r"^\| (`[^|]+) \| (.+) \| (.+) \|$", page.partition("## Lineage")[2], re.M)
    scripts = {
        "claude2sft": "data_prep/claude_logs/claude2sft.py",
        "repo2fim": "data_prep/actual_code/repo2fim.py",
        "check-lengths": "testing/check_lengths.py",
        "demo-base": "training/make_demo_base.py",
        "train": "training/train_qlora.py",
        "merge": "training/merge_lora.py",
    }
    checked = 0
    for stage, reads, makes in rows:
        place = scripts.get(stage.strip("`"))
        if place is None:
            continue
        source = (root / "scripts" / place).read_text()
        if stage == "`train`":  # its inputs are read, and its checkpoints recorded, in here
            parts = ("inputs.py", "callbacks.py")
            source += "".join((root / "src/codetune/training" / n).read_text() for n in parts)
        for word in re.findall(r"`([^`]+)`", f"{reads} {makes}"):
            assert f'"{word}"' in source, (stage, word)
            checked += 1
    assert checked > 15
