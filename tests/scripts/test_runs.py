"""`runs list` and `runs show` as a person types them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codetune.artefact import Input
from codetune.runlog import Run, open_run

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def training(tmp_path: Path) -> Run:
    """A finished training run in the project folder that `run_script` uses."""
    parent = open_run(tmp_path, stage="pipeline", config={}, name="whole")
    run = open_run(
        tmp_path,
        stage="train",
        name="full",
        config={"learning_rate": 0.002, "max_steps": 20},
        differences={"learning_rate": {"default": 0.0001, "value": 0.002}},
        argv=["train_qlora.py", "--learning_rate", "0.002"],
        parent=parent.id,
        seed=42,
    )
    run.define("loss", "nats", "lower")
    for step in range(20):
        run.metric("loss", 3.0 - step / 10, step)
    run.metric("tokens_per_second", 812.5)
    run.input(Input("data/train.jsonl", "ab" * 32), "train_file")
    run.output(tmp_path, "adapter")
    run.finish("finished", "max_steps reached")
    parent.finish("interrupted", "Ctrl-C")
    return run


def test_list_shows_the_newest_first(training: Run, run_script: Script) -> None:
    done = run_script("runs/runs.py", "list")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "full" in line or "whole" in line]
    assert len(lines) == 2
    assert "full" in lines[0]
    assert training.id[-8:] in lines[0]
    assert "finished" in lines[0]
    assert "loss=1.1" in lines[0]
    assert "interrupted" in lines[1]
    assert done.stdout == ""


def test_list_as_json_and_narrowed(training: Run, run_script: Script) -> None:
    done = run_script("runs/runs.py", "list", "--json", "--stage", "train", "--limit", "5")
    (row,) = json.loads(done.stdout)
    assert (row["id"], row["name"], row["status"]) == (training.id, "full", "finished")
    assert row["metrics"]["loss"] == pytest.approx(1.1)
    assert row["files"][0]["path"] == "data/train.jsonl"


def test_show_tells_everything_about_a_run(training: Run, run_script: Script) -> None:
    done = run_script("runs/runs.py", "show", "full")
    assert done.returncode == 0, done.stderr
    wanted = [
        training.id,
        "finished: max_steps reached",
        "train_qlora.py --learning_rate 0.002",
        "learning_rate   0.002    0.0001",
        "data/train.jsonl   abababab",
        "loss [nats]",
        "tokens_per_second",
        "loss by step",
        "python",
    ]
    for part in wanted:
        assert part in done.stderr, part
    assert "max_steps  " not in done.stderr  # at its default
    plot = [line.partition("|")[2] for line in done.stderr.splitlines() if "|" in line]
    assert len(plot) == 8
    firsts = [line.index("*") for line in plot]
    assert firsts == sorted(firsts)


def test_show_lists_children_and_parent(training: Run, run_script: Script) -> None:
    assert training.id[-8:] in run_script("runs/runs.py", "show", "whole").stderr
    shown = json.loads(run_script("runs/runs.py", "show", training.id[-8:], "--json").stdout)
    assert shown["row"]["parent"]
    assert shown["seed"] == 42
    assert shown["environment"]["packages"]["torch"]
    assert [m["key"] for m in shown["metrics"]] == ["loss", "tokens_per_second"]


def test_looking_is_not_recorded(training: Run, run_script: Script, tmp_path: Path) -> None:
    before = sorted(p.name for p in (tmp_path / "logs/runs").iterdir())
    run_script("runs/runs.py", "list")
    run_script("runs/runs.py", "show", "full")
    assert sorted(p.name for p in (tmp_path / "logs/runs").iterdir()) == before


def test_control_characters_never_reach_the_terminal(run_script: Script, tmp_path: Path) -> None:
    run = open_run(
        tmp_path,
        stage="sft",
        config={"a": "\x1b]52;c;x\x07[/bold]"},
        name="\x1b[2Jevil",
        differences={"a": {"default": "", "value": ""}},
    )
    run.finish("failed", "\x1b[31mred")
    for words in (["list"], ["show", run.id]):
        shown = run_script("runs/runs.py", *words).stderr
        assert "\x1b" not in shown
        assert "evil" in shown
    assert "[/bold]" in run_script("runs/runs.py", "show", run.id).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nothing"], "no run is called 'nothing'"),
        (["show", "full", "--metric", "lss"], "those that have: loss"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    training: Run, run_script: Script, words: list[str], said: str
) -> None:
    done = run_script("runs/runs.py", *words)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_unreachable_database_is_one_line_without_the_password(run_script: Script) -> None:
    url = "mysql://me:hunter2@127.0.0.1/runs"
    done = run_script("runs/runs.py", "list", env={"DATABASE_URL": url})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


def test_before_the_first_run_it_says_so(run_script: Script, tmp_path: Path) -> None:
    done = run_script("runs/runs.py", "list")
    assert (done.returncode, done.stderr.strip()) == (0, "no runs yet")
    assert not (tmp_path / "logs").exists()
    assert json.loads(run_script("runs/runs.py", "list", "--json").stdout) == []


@pytest.mark.parametrize("script", ["runs", "tensorboard"])
def test_help_is_quick(root: Path, script: str) -> None:
    """The best of three, since other work on the machine only ever adds."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, str(root / f"scripts/runs/{script}.py"), "--help"]
        subprocess.run(
            command, check=True, capture_output=True, env={"PYTHONPATH": str(root / "src")}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3
