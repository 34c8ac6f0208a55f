"""Pruning what a real training run left: its own state says which checkpoint is best."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from codetune import artefact
from codetune.runlog.keeping.checkpoints import best_step
from tests.evaluation import tiny

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_a_finished_training_run_is_pruned_and_stays_finished(
    tmp_path: Path, run_script: Script
) -> None:
    base = tiny.make_base(tmp_path / "base", steps=0)
    (tmp_path / "data").mkdir()
    tiny.write_rows(tmp_path / "data/train.jsonl", tiny.house_rows(24))
    tiny.write_rows(tmp_path / "data/eval.jsonl", tiny.house_rows(8, first=100))
    knobs = {
        "model_name_or_path": base, "run_name": "mine", "max_length": 96, "max_steps": 8,
        "eval_steps": 2, "save_steps": 2, "save_total_limit": 4, "lora_r": 4, "dtype": "float32",
        "device": "cpu", "early_stopping_patience": 0,
    }  # fmt: skip
    words = [word for name, value in knobs.items() for word in (f"--{name}", value)]
    trained = run_script("training/train_qlora.py", *words)
    assert trained.returncode == 0, trained.stderr

    folder = tmp_path / "outputs/mine/checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == [f"checkpoint-{n}" for n in (2, 4, 6, 8)]
    best = best_step(folder / "checkpoint-8")
    assert best in (2, 4, 6, 8)
    told = json.loads(run_script("runs/keep.py", "prune", "--yes", "--json").stdout)
    assert told["freed"] > 0
    left = {int(p.name.rpartition("-")[2]) for p in folder.iterdir()}
    assert left == {best, 8}
    assert artefact.verify(tmp_path / "outputs/mine/adapter") is None
    again = run_script("training/train_qlora.py", *words)
    assert again.returncode == 0 and "up to date" in again.stderr
    assert json.loads(run_script("runs/keep.py", "prune", "--json").stdout)["may_go"] == 0

    longer = run_script("training/train_qlora.py", *words, "--max_steps", 10)
    assert longer.returncode == 0, longer.stderr  # another recipe: what is left is no obstacle
