"""The whole pipeline for real, in minutes on two CPU cores: no GPU, no download of a model.

A small language model is pre-trained on the standard library of this Python; hand-made assistant
sessions and this repository's own source become rows; a 4-bit QLoRA adapter is trained, compared
with its base on held-out rows, and merged. Run again, it says that everything is up to date.

    ./scripts.sh demo
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import stage
from codetune.config import Config, knob

if TYPE_CHECKING:
    from codetune.console import Table
    from codetune.pipeline import Done
    from codetune.runlog import Run

SCRIPTS = Path(__file__).resolve().parents[1]
VERDICTS = {
    "better": "the tuned model is better than its base",
    "inconclusive": "the tuned model is NOT shown to be better than its base",
    "worse": "the tuned model is WORSE than its base",
}
# Apart from your own rows, which `data/*.jsonl` and a bare `train` read.
DATA = Path("data/demo")
_SHOWN_LINES = 8


class DemoConfig(Config):
    """What the demo runs."""

    pipeline_config: Path = knob(Path("configs/pipeline/demo.yaml"), "what the pipeline reads")
    name: str = knob("demo", "names data/demo/*.<name>.jsonl and outputs/<name>", place=True)
    base_steps: int = knob(400, "pre-training steps of the base", ge=1)


def run(config: DemoConfig, log: Run) -> stage.Report:
    """Makes the base, runs the pipeline, and shows what came out."""
    from codetune import pipeline

    environment = {**os.environ, stage.PARENT_RUN: log.id}
    scripts = {
        "demo-base": ("training/make_demo_base.py", ["--max_steps", str(config.base_steps)]),
        "pipeline": (
            "runs/pipeline.py",
            [
                *("--config", str(config.pipeline_config), "--name", config.name),
                *("--data_dir", str(DATA)),
            ],
        ),
    }
    ended = {}
    for name, (place, arguments) in scripts.items():
        ended[name] = done = pipeline.execute(name, SCRIPTS / place, arguments, environment)
        if done.code:
            raise pipeline.failure(done)
    stages = [pipeline.Done(**one) for one in ended["pipeline"].report["stages"]]
    return report(config, [ended["demo-base"], *stages])


def report(config: DemoConfig, ended: list[Done]) -> stage.Report:
    """The last screen."""
    from codetune import pipeline

    found = json.loads((Path("outputs") / config.name / "report" / "compare.json").read_bytes())
    sample = telling(found["samples"])
    measured = found["headline"].removeprefix(f"{found['verdict']}: ")
    fresh = any(done.status != "up to date" for done in ended)
    return stage.Report(
        headline=f"{VERDICTS[found['verdict']]}: {measured}",
        status="done" if fresh else "up to date",
        tables=(
            pipeline.costs(ended),
            *([before_and_after(sample)] if sample else []),
            deltas(found["metrics"]),
            pipeline.places(config.name, DATA),
        ),
        details={"verdict": found["verdict"], "groups": found["n_groups"]},
    )


def telling(samples: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The completion to show: the one with a gap whose loss fell most, else any."""
    gaps = [sample for sample in samples if sample["task"] == "fim"]
    by_gain = sorted(gaps or samples, key=lambda s: s["tuned_loss"] - s["base_loss"])
    return by_gain[0] if by_gain else None


def before_and_after(sample: dict[str, Any]) -> Table:
    """One held-out completion: what was asked, what stood there, and both answers."""
    from codetune import console

    losses = {side: f"{side} (loss {sample[f'{side}_loss']:.2f})" for side in ("base", "tuned")}
    asked = sample["prompt_tail"].splitlines()[-_SHOWN_LINES:]
    rows = [["...", "\n".join(asked)], ["really there", cut(sample["expected"])]]
    rows += [[losses[side], cut(sample[side])] for side in ("base", "tuned")]
    title = "one held-out completion; a model this small writes no usable code: read its loss"
    return console.table(title, ["", "text"], rows, quoted=True)


def cut(text: str) -> str:
    """The first lines of `text`."""
    lines = text.splitlines()
    more = [f"... {len(lines) - _SHOWN_LINES} more lines"] if len(lines) > _SHOWN_LINES else []
    return "\n".join([*lines[:_SHOWN_LINES], *more])


def deltas(metrics: dict[str, dict[str, Any]]) -> Table:
    """Base against tuned on all held-out rows, each difference with its interval."""
    from codetune.evaluation import tables
    from codetune.evaluation.metrics import Delta

    rows = tables.metric_rows({name: Delta(**values) for name, values in metrics.items()})
    return tables.console_table("all held-out rows, base against tuned", rows)


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, DemoConfig, run, stage="demo"))
