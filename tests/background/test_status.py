"""What `tmux-status` shows: one line a session, on any terminal."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from codetune.background import Session, session_name, status_lines
from codetune.runlog import create_run, open_run, process
from codetune.runlog.progress import LOSS, PLANNED
from tests.background.checkout import ROOT, Checkout, until

NAMES = ["plain", "two\nlines $(touch pwned)", "\x1b[31mred\x07\u202e", "x" * 4000, "广" * 60]
DAY = 24 * 60 * 60 * 1000


def a_session(root: Path, name: str, **more: object) -> Session:
    run = create_run(root, stage="train", name=name)
    fields = {"since": process.now_ms(), "handle": "$1", "program": process.current(), **more}
    return Session("tmux", session_name(name), name, run, **fields)  # type: ignore[arg-type]


def shown(root: Path, sessions: list[Session], width: int | None) -> list[str]:
    lines = status_lines(root, sessions, width, process.now_ms())
    return [line.plain for line in lines]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("exit_code", [None, 137])
def test_a_line_a_session_at_any_width(tmp_path: Path, width: int, exit_code: int | None) -> None:
    since = process.now_ms() - DAY
    sessions = [a_session(tmp_path, name, since=since, exit_code=exit_code) for name in NAMES]
    lines = shown(tmp_path, sessions, width)
    assert len(lines) == len(NAMES) + 1
    assert max(map(cell_len, lines)) <= width
    assert lines[0].split()[0] == "session" and lines[1].startswith("plain ")
    assert "codetune-" not in "".join(lines) and "\x1b" not in "".join(lines)
    assert ("exit" in lines[0]) == (exit_code is not None)
    assert all(" starting " in line for line in lines[1:])
    assert ("run" in lines[0].split()) == (width >= 100)


def test_a_run_called_as_its_session_needs_no_column(tmp_path: Path) -> None:
    same = a_session(tmp_path, "mine")
    for width in (80, 120, None):
        assert "run" not in shown(tmp_path, [same], width)[0].split()
    other = replace(a_session(tmp_path, "theirs"), name="codetune-other")
    assert shown(tmp_path, [same, other], 120)[2].split()[:2] == ["other", "theirs"]


def test_a_pipe_gets_all_of_it(tmp_path: Path) -> None:
    lines = shown(tmp_path, [a_session(tmp_path, "x" * 4000)], None)
    assert "x" * 4000 in lines[1] and "…" not in lines[1]
    assert "-" in lines[1].split()[-2], "the day too"


def test_figures_stay_whole_where_names_give_way(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="train", name="n" * 90, config={})
    run.event(PLANNED, total=1_000_000, done=0)
    for step in (1, 123_456):
        run.metric(LOSS, 2.5, step)
    name = session_name("n" * 90)
    session = Session("tmux", name, "n" * 90, run.id, 0, "$1", process.current(), exit_code=1)
    line = shown(tmp_path, [session], 80)[1]
    run.finish("finished")
    assert cell_len(line) <= 80 and "…" in line.split()[0]
    for figure in (" running ", " 123,456/1,000,000 ", " 2.5000 "):
        assert figure in line


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120])
def test_on_a_real_terminal(checkout: Checkout, width: int) -> None:
    for name in NAMES:
        opened = checkout.call("train", f"--name={name}", DOOR_EXIT="0")
        assert opened.returncode == 0, opened.stderr
    status = [sys.executable, f"{ROOT}/scripts/runs/background.py", "status"]
    here = ["-c", str(checkout.root).replace("#", "##")]
    shell = ["env", "-u", "COLUMNS", "sh", "-c", '"$@"; echo done; sleep 1000', "sh", *status]
    checkout.tmux("new-session", "-d", "-x", str(width), "-y", "24", "-s", "look", *here, *shell)
    until(lambda: "done" in checkout.tmux("capture-pane", "-p", "-t", "look"), "it is shown")
    lines = checkout.tmux("capture-pane", "-p", "-t", "look").splitlines()
    assert lines[len(NAMES) + 1] == "done", "no line was folded"
    assert lines[0].startswith("session ") and lines[0].endswith(" exit")
    assert all(" not started " in line for line in lines[1 : len(NAMES) + 1])
