"""Runs as stages record them, small enough to be reasoned about."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codetune.artefact import Input
from codetune.runlog import Run, open_run

HOSTILE = "\x1b[2Jevil $(touch x) \"q\" 'q' [bold]\nline; DROP TABLE run; -- \u202e" + "x" * 4000


def training(
    root: Path,
    name: str,
    *,
    rate: float = 0.001,
    losses: Sequence[float] = (3.0, 2.0, 1.0),
    data: str = "ab",
    url: str | None = None,
    **more: Any,
) -> Run:
    """A training run with a knob off its default, a loss curve, files and a tag; not yet ended."""
    run = open_run(
        root,
        stage="train",
        name=name,
        seed=more.pop("seed", 42),
        config={"learning_rate": rate, "max_steps": 20, "lora": {"r": 8}, "warmup": None},
        differences={"learning_rate": {"default": 0.0001, "value": rate}},
        argv=["train_qlora.py", "--learning_rate", str(rate)],
        database_url=url,
        **more,
    )
    run.define("train_loss", "nats/token", "lower")
    run.define("exact", "%", "higher")
    for step, loss in enumerate(losses):
        run.metric("train_loss", loss, step)
        run.metric("exact", 100 - 10 * loss, step)
    run.metric("tokens_per_second", 800.0 + rate)
    run.input(Input("data/train.jsonl", data * 32), "train")
    run.tag("best" if rate < 0.002 else "other")
    return run


def crashed(root: Path, name: str, url: str | None = None) -> None:
    """A run whose process is killed: it is recorded as running, and nothing runs."""
    code = (
        "import os, sys; from pathlib import Path; from codetune.runlog import open_run;"
        "run = open_run(Path(sys.argv[1]), stage='sft', config={}, name=sys.argv[2],"
        " database_url=sys.argv[3] or None); run.metric('rows', 3); os._exit(9)"
    )
    source = str(Path(__file__).resolve().parents[2] / "src")
    command = [sys.executable, "-c", code, str(root), name, url or ""]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source})
    assert done.returncode == 9
