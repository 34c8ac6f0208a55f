"""Runs as a person sees them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from codetune.console import Table
from codetune.runlog import RunFile, RunRow
from codetune.runlog.reading.details import Event, Param, RunDetails, Summary
from codetune.runlog.reading.tables import detail_tables, duration, run_table, when

ROW = RunRow(
    id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
    name="full",
    stage="train",
    status="finished",
    created=1_700_000_000_000,
    started=1_700_000_000_000,
    ended=1_700_000_012_340,
    files=(RunFile("in", "train", "data/train.jsonl", "ab" * 32), RunFile("out", "log", "l", None)),
    metrics={"loss": 1.23456, "eval": None, "step": 7, "more": 1.0},
)


def details(**more: Any) -> RunDetails:
    facts: dict[str, Any] = {
        "row": ROW,
        "version": 2,
        "seed": 0,
        "argv": ["train.py", "--x"],
        "commit": "c" * 40,
        "diff_sha256": None,
        "environment": {"python": "3.11", "packages": {"torch": "2.13+cpu"}, "gpus": []},
        "params": (Param("lr", "2", "1"), Param("r", "8", None)),
        "metrics": (Summary("loss", "nats", "lower", 3.0, 2.0, 1.0, 3.0, 9, 10, ()),),
        "tags": (),
        "events": (Event(1_700_000_000_000, "saved", {"step": 3}),),
        "peak_rss": 2**31,
        "children": (),
    }
    return RunDetails(**{**facts, **more})


def titled(run: RunDetails) -> dict[str, Table]:
    return {table.title: table for table in detail_tables(run)}


def test_a_line_of_the_list_is_short() -> None:
    (line,) = run_table("runs", [ROW]).rows
    assert line[0] == "Q69G5FAV"
    assert line[1:4] == ("full", "train", "finished")
    assert line[5:] == ("12.3 s", "loss=1.235 eval=nan step=7")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "12.3 s"),
        ({"ended": 1_700_000_060_000}, "0:01:00"),
        ({"ended": 1_700_000_000_000 + 3_723_000}, "1:02:03"),
        ({"started": None}, "-"),
        ({"status": "crashed", "ended": None, "heartbeat": 1_700_000_005_000}, "5.0 s"),
    ],
)
def test_durations(changes: dict[str, Any], shown: str) -> None:
    assert duration(RunRow(**{**vars(ROW), **changes})) == shown


def test_a_running_run_lasts_until_now() -> None:
    begun = int(time.time() * 1000) - 30_000
    row = RunRow(**{**vars(ROW), "status": "running", "started": begun, "ended": None})
    assert duration(row) in ("30.0 s", "30.1 s", "30.2 s")


def test_moments_are_local_and_to_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert when(1_700_000_000_000) == "2023-11-14 22:13"
    monkeypatch.undo()
    time.tzset()


def test_only_changed_knobs_are_shown() -> None:
    assert titled(details())["knobs changed from their defaults"].rows == (("lr", "2", "1"),)


def test_best_follows_the_direction() -> None:
    for direction, best in (("lower", "1"), ("higher", "3"), ("none", "2")):
        summary = Summary("m", "", direction, 3.0, 2.0, 1.0, 3.0, 9, 10, ())
        table = titled(details(metrics=(summary,)))["metrics"]
        assert table.as_dicts()[0]["best"] == best


def test_files_show_what_a_person_compares() -> None:
    rows = titled(details())["files"].rows
    assert rows == (("in", "train", "data/train.jsonl", "abababab"), ("out", "log", "l", "-"))


def test_what_is_empty_is_left_out() -> None:
    bare = RunRow(**{**vars(ROW), "files": ()})
    shown = titled(details(row=bare, params=(), metrics=(), events=()))
    assert list(shown) == ["full"]


@pytest.mark.parametrize(
    ("commit", "diff", "shown"),
    [
        ("c" * 40, None, "c" * 12),
        ("c" * 40, "d" * 64, f"{'c' * 12} with changes {'d' * 8}"),
        (None, None, "no commit"),
        (None, "d" * 64, f"no commit changes {'d' * 8}"),
    ],
)
def test_the_code_is_named(commit: str | None, diff: str | None, shown: str) -> None:
    facts = dict(titled(details(commit=commit, diff_sha256=diff))["full"].rows)
    assert facts["code"] == shown


def test_facts_of_a_run() -> None:
    facts = dict(titled(details())["full"].rows)
    assert facts["id"] == ROW.id
    assert facts["seed"] == "0"
    assert facts["command"] == "train.py --x"
    assert facts["peak memory"] == "2.00 GiB"
    assert facts["GPU"] == "none"
    assert facts["packages"] == "torch 2.13+cpu"
    assert dict(titled(details(peak_rss=None, seed=None))["full"].rows)["peak memory"] == "-"


def test_children_are_listed() -> None:
    (child,) = titled(details(children=(ROW,)))["runs it started"].rows
    assert child == (ROW.id[-8:], "full", "finished")
