"""The standard library of this Python in, a small language model out: the demo's base.

A byte-level tokenizer with Qwen2.5-Coder's special tokens and chat form, and a Qwen2 model that
is pre-trained here for about a minute on two cores. No weights are downloaded.

    ./scripts.sh demo        makes it, once, in outputs/demo-base
"""

from __future__ import annotations

import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import stage
from codetune.config import Config, knob

if TYPE_CHECKING:
    from codetune.runlog import Run


class DemoBaseConfig(Config):
    """What decides the demo model."""

    output_dir: Path = knob(Path("outputs/demo-base"), "the model folder to make")
    corpus_bytes: int = knob(3_000_000, "source text to read at most", unit="bytes", ge=300_000)
    max_steps: int = knob(400, "pre-training steps; they decide the time it takes", ge=1)
    seed: int = knob(42, "seed of weights and order")


def run(config: DemoBaseConfig, log: Run) -> stage.Report:
    """Makes the model, or says that it is up to date."""
    from codetune import artefact, console
    from codetune.models.demo_corpus import fingerprint, standard_library

    sources = standard_library(config.corpus_bytes)
    corpus = artefact.Input("python-stdlib", fingerprint(sources))
    log.input(artefact.Input(sysconfig.get_paths()["stdlib"], corpus.sha256), "corpus")
    origin = log.origin(config, [corpus])
    if artefact.is_current(config.output_dir, origin):
        log.output(config.output_dir, "model")
        headline = f"{config.output_dir} was made from this Python's standard library"
        return stage.Report(headline, status="up to date", outputs=(config.output_dir,))

    from codetune.models.demo_base import Recipe, make_demo_base

    recipe = Recipe(steps=config.max_steps, seed=config.seed)
    log.define("train_loss", "nats/token", "lower")
    log.event("steps_planned", total=recipe.steps, done=0)
    started = time.monotonic()
    with console.progress("pre-training steps", recipe.steps) as bar:

        def step_done(loss: float) -> None:
            bar.advance()
            log.metric("train_loss", loss, bar.done)

        made = make_demo_base(config.output_dir, sources, recipe, origin, step_done)
    seconds = time.monotonic() - started
    log.output(config.output_dir, "model")
    curve = [[f"{step:,}", f"{loss:.3f}"] for step, loss in made.smoothed(points=8)]
    last = made.smoothed(points=8)[-1][1]
    return stage.Report(
        headline=f"{config.output_dir}: {made.n_parameters / 1e6:.1f} M parameters, "
        f"{made.n_tokens:,} tokens, loss {made.losses[0]:.2f} -> {last:.2f}",
        outputs=(config.output_dir,),
        metrics={"tokens_per_second": made.n_tokens / seconds, "loss_last": last},
        tables=(console.table("pre-training", ["step", "loss (nats/token)"], curve),),
    )


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, DemoBaseConfig, run, stage="demo-base"))
