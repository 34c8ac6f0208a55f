"""The sessions of Claude Code: how many will soon be deleted, and the command that keeps them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.doctor import sessions
from codetune.doctor.finding import Finding
from codetune.doctor.sessions import DAY, KEEP, claude_sessions, retention


def session(projects: Path, name: str, age: float) -> Path:
    """A session file that was last changed `age` days ago."""
    file = projects / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"type":"user"}\n')
    changed = time.time() - age * DAY
    os.utime(file, (changed, changed))
    return file


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with sessions of five ages, one of them a subagent's."""
    projects = tmp_path / "home" / ".claude" / "projects"
    session(projects, "-src-a/fresh.jsonl", 0.2)
    session(projects, "-src-a/week.jsonl", 22.9)
    session(projects, "-src-a/soon.jsonl", 23.1)
    session(projects, "-src-b/old.jsonl", 31)
    session(projects, "-src-b/old/subagents/agent-1.jsonl", 45)
    session(projects, "-src-b/notes.txt", 300)
    return tmp_path / "home"


def looked(
    home: Path, config_dir: str | None = None, managed: Path | None = None
) -> dict[str, Finding]:
    found = claude_sessions(home, config_dir, managed=[managed] if managed else [])
    return {finding.what: finding for finding in found}


def settings(home: Path, value: object, name: str = "settings.json") -> None:
    (home / ".claude" / name).write_text(json.dumps({"model": "x", "cleanupPeriodDays": value}))


def test_by_default_sessions_go_after_thirty_days(home: Path) -> None:
    found = looked(home)
    assert found["sessions"].found == "5 files, the oldest 45 days"
    assert found["sessions"].meaning == "in ~/.claude/projects"
    assert found["cleanupPeriodDays"] == Finding("cleanupPeriodDays", "30 days", "the default")
    week = found["deleted in a week"]
    assert week.found == "3 files"
    assert week.meaning == "2 of them at the next start of Claude Code"
    command, change = week.todo.splitlines()
    assert command == "./scripts.sh archive-logs"
    assert change == 'set "cleanupPeriodDays": 36500 in ~/.claude/settings.json'


@pytest.mark.parametrize(
    ("days", "shown", "files"),
    [(36500, "36500 days", "0 files"), (60, "60 days", "0 files"), (1, "1 days", "5 files")],
)
def test_the_setting_decides(home: Path, days: int, shown: str, files: str) -> None:
    settings(home, days)
    found = looked(home)
    assert found["cleanupPeriodDays"].found == shown
    assert found["cleanupPeriodDays"].meaning == "set in ~/.claude/settings.json"
    assert found["deleted in a week"].found == files
    assert bool(found["deleted in a week"].todo) is (days == 1)


def test_what_is_local_wins_over_the_users_and_the_administrators_over_both(home: Path) -> None:
    settings(home, 90)
    settings(home, 60, "settings.local.json")
    assert retention(home / ".claude", []).days == 60
    managed = home / "managed.json"
    managed.write_text('{"cleanupPeriodDays": 7}')
    assert looked(home, managed=managed)["cleanupPeriodDays"].found == "7 days"
    managed.write_text('{"permissions": {}}')
    assert looked(home, managed=managed)["cleanupPeriodDays"].found == "60 days"


def test_another_folder_is_named_by_the_environment(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "it's $(here)"
    session(other / "projects", "-src-c/one.jsonl", 29)
    (other / "settings.json").write_text('{"cleanupPeriodDays": 30}')
    found = looked(home, str(other))
    assert found["sessions"].found == "1 files, the oldest 29 days"
    assert found["sessions"].meaning == f"in {other}/projects"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"cleanupPeriodDays": "365"}', "not a number of days"),
        ('{"cleanupPeriodDays": -1}', "not a number of days"),
        ('{"cleanupPeriodDays": true}', "not a number of days"),
        ('{"cleanupPeriodDays": NaN}', "not a number of days"),
        ('{"cleanupPeriodDays": null}', "not a number of days"),
        ('{"cleanupPeriodDays": 0}', "0: older versions keep no session, newer ones refuse it"),
        ('{"cleanupPeriodDays": 365', "the settings cannot be read"),
        ("[" * 100_000, "the settings cannot be read"),
        ("\udcff", "the settings cannot be read"),
    ],
)
def test_settings_that_keep_nothing_are_a_problem(home: Path, text: str, problem: str) -> None:
    (home / ".claude" / "settings.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    found = looked(home)["cleanupPeriodDays"]
    assert found.found == problem
    assert found.todo.startswith('set "cleanupPeriodDays": 36500 in ~/.claude/settings.json')


@pytest.mark.parametrize("text", ["[]", "3", "{}", '"x"'])
def test_settings_without_the_setting_are_the_default(home: Path, text: str) -> None:
    (home / ".claude" / "settings.json").write_text(text)
    assert looked(home)["cleanupPeriodDays"].found == "30 days"


@given(value=st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_no_setting_breaks_it(value: object) -> None:
    kept = sessions._judged(value, Path("settings.json"))
    assert kept.days >= 0
    assert kept.problem or kept.days > 0


def test_nothing_there_is_no_problem(tmp_path: Path) -> None:
    (finding,) = claude_sessions(tmp_path, None, managed=[])
    assert finding == Finding("Claude Code", "no sessions", "in ~/.claude/projects")


def test_nothing_is_changed(home: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in home.rglob("*")}
    looked(home)
    assert {path: path.lstat().st_mtime_ns for path in home.rglob("*")} == before


def test_the_command_it_names_keeps_the_sessions(home: Path, tmp_path: Path, root: Path) -> None:
    door = (root / "scripts.sh").read_text()
    script = re.search(rf"^  {KEEP.split()[1]}\) stage (\S+) ", door, re.M)
    assert script
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(root / "src")}
    project = tmp_path / "project"
    project.mkdir()
    subprocess.run([sys.executable, root / script[1]], cwd=project, env=surroundings, check=True)
    (kept,) = (project / "data" / "archive").rglob("old.jsonl")
    assert kept.read_bytes() == (home / ".claude/projects/-src-b/old.jsonl").read_bytes()


def test_thousands_of_sessions_are_looked_at_quickly(tmp_path: Path) -> None:
    projects = tmp_path / ".claude" / "projects"
    for number in range(2000):
        session(projects, f"-p{number % 20}/{number}.jsonl", 10)
    began = time.process_time()
    found = looked(tmp_path)
    assert found["sessions"].found == "2,000 files, the oldest 10 days"
    assert time.process_time() - began < 1
