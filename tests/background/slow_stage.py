"""A stage that looks like training to everyone outside: it plans steps, logs losses, and on
a signal saves after the current step and exits. It takes the flags of `train`.

The environment steers it: STEP_SECONDS a step; SAVE_SECONDS for saving; DEAF=1 makes it ignore
signals, and LOST=1 the first one only. What it was given goes to `seen.<run id>.json`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from codetune import console, signals, stage
from codetune.runlog import Run
from codetune.training.recipe import TrainConfig

asked: list[int] = []


def run(config: TrainConfig, log: Run) -> stage.Report:
    for number in signals.NUMBERS:  # as `SafeStop` does, which needs a second to import
        signal.signal(number, lambda number, _: asked.append(number))
    seen = {
        "argv": sys.argv[1:],
        "env": dict(os.environ),
        "pid": os.getpid(),
        "cwd": str(Path.cwd()),
    }
    note = Path(f"seen.{log.id}.json")
    note.with_suffix(".tmp").write_text(json.dumps(seen))
    note.with_suffix(".tmp").rename(note)
    log.event("steps_planned", total=config.max_steps, done=0)
    for key in ("train_loss", "eval_loss"):
        log.define(key, "nats/token", "lower")
    log.metric("eval_loss", 2.5, 0)
    for step in range(1, config.max_steps + 1):
        time.sleep(float(os.environ.get("STEP_SECONDS", "0.05")))
        log.metric("train_loss", 2.0 / step, step)
        console.say(f"this is step {step}")
        if len(asked) > int(os.environ.get("LOST", "0")) and "DEAF" not in os.environ:
            time.sleep(float(os.environ.get("SAVE_SECONDS", "0")))
            Path(f"saved.{log.id}").write_text(f"{step} {len(asked)}")
            raise signals.exception(asked[-1], "stopped with a checkpoint")
    return stage.Report(f"{config.max_steps} steps")


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, TrainConfig, run, stage="train"))
