"""`tmux-train` and its companions on real training, through the real scripts.sh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codetune import artefact
from codetune.runlog import local
from codetune.runlog.events import journal_path
from codetune.runlog.progress import progress_of
from tests.background.checkout import ROOT, Checkout, attached, is_alive, read_until, until
from tests.background.conftest import private as private  # a fixture, by its name
from tests.evaluation import tiny

SCRIPT = "runs/background.py"
Run = Callable[..., subprocess.CompletedProcess[str]]
# The other windows would start a TensorBoard for every test.
DOOR = """#!/usr/bin/env bash
[[ $1 == train ]] || exit 0
exec "${BASH_SOURCE[0]%/*}/real.sh" "$@"
"""
RECIPE = {
    "max_length": 96,
    "eval_steps": 5,
    "save_steps": 5,
    "gradient_accumulation_steps": 2,
    "lora_r": 4,
    "dtype": "float32",
    "device": "cpu",
    "early_stopping_patience": 0,
}


@pytest.fixture
def real(tmp_path: Path, private: dict[str, str]) -> Checkout:
    """A checkout with rows, a small model and the real scripts.sh."""
    root = tmp_path / "real"
    (root / "data").mkdir(parents=True)
    for name in ("scripts", "requirements", "pyproject.toml"):
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "scripts.sh", root / "real.sh")
    (root / "scripts.sh").write_text(DOOR)
    (root / "scripts.sh").chmod(0o755)
    tiny.make_base(root / "base", steps=0)
    tiny.write_rows(root / "data" / "train.jsonl", tiny.house_rows(24))
    tiny.write_rows(root / "data" / "eval.jsonl", tiny.house_rows(8, first=100))
    return Checkout(root, private | {"VIRTUAL_ENV": sys.prefix, "OMP_NUM_THREADS": "1"})


def words(**changes: Any) -> list[str]:
    knobs = {"model_name_or_path": "base", "run_name": "mine", **RECIPE, **changes}
    return [word for name, value in knobs.items() for word in (f"--{name}", str(value))]


@pytest.mark.slow
@pytest.mark.parametrize("tmux", [True, False], ids=["tmux", "detached"])
def test_started_left_alone_ended_and_resumed(real: Checkout, tmp_path: Path, tmux: bool) -> None:
    """Train, lose the client, look in again, end it; its checkpoint verifies and is resumed."""
    if not tmux:
        tools = tmp_path / "tools"
        tools.mkdir()
        for name in ("bash", "env", "git", "dirname", "cat", "cksum", "tr"):
            (tools / name).symlink_to(str(shutil.which(name)))
        real.env["PATH"] = str(tools)
    typed = words(max_steps=2000)
    opened = real.call("train", *typed)
    assert opened.returncode == 0, opened.stderr
    [run] = local.run_ids(real.root)
    checkpoints = real.root / "outputs" / "mine" / "checkpoints"
    until(lambda: (checkpoints / "checkpoint-5").exists(), "a checkpoint", 120)

    if tmux:
        client, terminal = attached(real)
        read_until(terminal, b"training steps")
        client.kill()
        client.wait()
        os.close(terminal)
    [told] = real.status()
    assert told["run"] == run and told["status"] == "running"
    assert (told["total"], told["name"]) == (2000, "mine")
    until(lambda: real.status()[0]["step"] > told["step"], "it goes on")
    assert 0 < real.status()[0]["eval_loss"] < 10 and real.status()[0]["seconds_left"] > 0
    if tmux:
        client, terminal = attached(real)
        read_until(terminal, b"training steps")
        os.close(terminal)
        client.wait(30)

    before = progress_of(journal_path(real.root, run))
    assert before is not None and before.run.process is not None
    ended = real.call("kill", "mine")
    assert ended.returncode == 0, ended.stderr
    assert "asked its run to save and exit" in ended.stderr
    assert not is_alive(before.run.process.pid) and real.status() == []
    after = progress_of(journal_path(real.root, run))
    assert after is not None and after.run.status == "interrupted"
    assert after.step is not None and before.step is not None and after.step >= before.step

    newest = max(checkpoints.iterdir(), key=lambda place: int(place.name.split("-")[1]))
    assert newest.name == f"checkpoint-{after.step}", "saved at the step it was asked at"
    assert artefact.verify(newest) is None
    resumes(real, after.step, newest)


def resumes(real: Checkout, step: int, newest: Path) -> None:
    """A later `tmux-train` of the same run takes steps from there on."""
    again = real.call("train", *words(max_steps=2000))
    assert again.returncode == 0, again.stderr
    until(lambda: (real.status()[0]["step"] or 0) > step, "it goes on", 120)
    run = local.run_ids(real.root)[0]
    said = (real.root / "logs" / "runs" / run / "console.log").read_text()
    assert f"going on from {newest.relative_to(real.root)}" in said
    [told] = real.status()
    assert told["run"] == run and told["seconds_left"] is not None
    assert real.call("kill").returncode == 0


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--lerning_rate", "1"], "did you mean learning_rate?"),
        (["--max_steps", "many"], "max_steps"),
        (["--config", "absent.yaml"], "absent.yaml: no such config file"),
        (["--save_steps", "3", "--eval_steps", "2"], "must be a multiple"),
        (["--dry_run"], "--dry_run: not for a run in the background"),
        (["--attach", "--detach"], "not allowed with argument"),
        (["--name"], "expected one argument"),
        (["--replace=yes"], "--replace"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_opens(
    real: Checkout, typed: list[str], said: str
) -> None:
    done = real.call("train", *typed)
    assert (done.returncode, done.stdout) == (2, "")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0]
    assert real.names() == [] and not (real.root / "logs").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["kill", "--wait", "soon"], "--wait"),
        (["kill", "--wait", "-1"], "--wait"),
        (["kill", "--wait", "nan"], "--wait"),
        (["kill", "a", "b"], "unrecognized arguments: b"),
        (["attach", "x"], "tmux-train starts a run"),
        (["kill", "x"], "tmux-train starts a run"),
        (["stop"], "invalid choice"),
        ([], "train|attach|status|kill"),
    ],
)
def test_wrong_words_are_one_line(real: Checkout, typed: list[str], said: str) -> None:
    done = real.call(*typed)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_nothing_there_is_one_line_and_no_error(run_script: Run, private: dict[str, str]) -> None:
    for path in (private["PATH"], "/nonexistent"):
        env = private | {"PATH": path}
        shown = run_script(SCRIPT, "status", env=env)
        assert (shown.returncode, shown.stdout.count("\n"), shown.stderr) == (0, 1, "")
        assert json.loads(run_script(SCRIPT, "status", "--json", env=env).stdout) == []


def test_help_tells_of_every_verb(run_script: Run) -> None:
    shown = run_script(SCRIPT, "--help").stdout
    for verb in ("train", "attach", "status", "kill"):
        assert verb in shown
        assert run_script(SCRIPT, verb, "--help").returncode == 0
    assert "--replace" in run_script(SCRIPT, "train", "--lora_r", "8", "--help").stdout


def test_scripts_sh_has_a_line_for_each_verb() -> None:
    door = (ROOT / "scripts.sh").read_text()
    for verb in ("train", "attach", "status", "kill"):
        assert f'tmux-{verb}) stage scripts/{SCRIPT} {verb} "$@"' in door
