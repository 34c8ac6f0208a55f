"""train/eval rows and a base model in, a LoRA adapter out.

The base is loaded in 4 bits (NF4, double quantisation), every linear layer gets an adapter, and
only the tokens that a row marks as trained carry loss. Evaluates as it goes, keeps the best,
stops early, and goes on after a kill from the newest checkpoint that verifies.

    ./scripts.sh train --config configs/train/default.yaml --model_name_or_path PATH
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import signals, stage
from codetune.training.recipe import TrainConfig

if TYPE_CHECKING:
    from codetune.runlog import Run
    from codetune.training.assemble import Work

DEFAULT_CONFIG = Path("configs/train/default.yaml")


def run(config: TrainConfig, log: Run) -> stage.Report:
    """Trains, or says that the adapter is up to date."""
    from codetune import artefact
    from codetune.training import inputs

    made_from = inputs.read(config, log)
    facts, tok, origin = made_from.facts, made_from.tok, made_from.origin
    adapter = config.run_dir / "adapter"
    if config.resume == "auto" and artefact.is_current(adapter, origin):
        log.output(adapter, "adapter")
        headline = f"{adapter} was made from these rows, base and recipe"
        return stage.Report(headline, status="up to date", outputs=(adapter,))

    from codetune.training.assemble import Work
    from codetune.training.data import refuse_shared_groups, token_table

    refuse_shared_groups(config.train_file, config.eval_file)
    cache = Path("outputs/.tokens")
    train = token_table(config.train_file, tok, config.max_length, cache)
    held_out = token_table(config.eval_file, tok, config.max_length, cache)
    return _train(Work(config, facts, tok, train, held_out, origin), log)


def check(config: TrainConfig) -> None:
    """What `--dry_run` looks at: files, base, groups, and checkpoints of another recipe."""
    from codetune.runlog import disabled
    from codetune.training import inputs

    inputs.check(config, disabled("train"))


def _train(work: Work, log: Run) -> stage.Report:
    from codetune import console, models
    from codetune.training.adapter import publish_adapter
    from codetune.training.assemble import build_trainer, described, planned_steps
    from codetune.training.callbacks import Bar, Recorder, SafeStop
    from codetune.training.checkpoints import compute_dtype, newest_valid, step_of

    config, checkpoints = work.config, work.config.run_dir / "checkpoints"
    console.say(f"what is said here is kept in {log.console_log}")
    for line in described(work):
        console.say(line)
    if config.resume == "never":
        shutil.rmtree(checkpoints, ignore_errors=True)
    resumed = newest_valid(checkpoints, work.origin, config.run_dir / "adapter")
    kept = compute_dtype(resumed) if resumed and config.dtype == "auto" else None
    loaded = models.load_base(
        work.facts.path,
        config.quant,
        kept or config.dtype,
        config.device,
        quant_type=config.bnb_4bit_quant_type,
        double_quant=config.bnb_4bit_use_double_quant,
    )
    console.say(f"base in {loaded}")
    log.event("base_loaded", quant=loaded.quant, device=loaded.device, dtype=loaded.dtype_name)
    trainer = build_trainer(work, loaded, checkpoints, measure_base=resumed is None)
    stop, total = SafeStop(), planned_steps(trainer)
    done = step_of(resumed) if resumed else 0
    log.event("steps_planned", total=total, done=done, eval_steps=config.eval_steps)
    started, recorder = time.monotonic(), Recorder(log, Path("runs") / config.run_name)
    with console.progress("training steps", total) as bar:
        for callback in (recorder, Bar(bar), stop):
            trainer.add_callback(callback)
        if resumed is not None:
            console.say(f"going on from {resumed}")
            log.input(resumed, "checkpoint")
        signals.heed()
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    seconds = time.monotonic() - started
    if stop.signalled is not None:
        raise _interruption(stop.signalled)
    adapter = publish_adapter(trainer.model, work, config.run_dir / "adapter")
    log.output(adapter, "adapter")
    return _report(work, trainer, adapter, (seconds, recorder.step_seconds))


def _interruption(number: int) -> BaseException:
    text = "stopped with a checkpoint; run the same command again to go on"
    return signals.exception(number, text)


def _report(work: Work, trainer: Any, adapter: Path, seconds: tuple[float, float]) -> stage.Report:
    """What came out; `seconds` of all, and of the training steps alone."""
    from codetune import console
    from codetune.evaluation.speed import peak_rss
    from codetune.training.callbacks import curves
    from codetune.training.plot import draw_curves

    state, curve = trainer.state, curves(trainer.state.log_history)
    evals, best = curve["eval_loss"], state.best_metric
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    peak = peak_rss() / 2**20
    speed = trainer.tokens_seen / seconds[1]
    rows = [
        ["steps", f"{state.global_step:,}"],
        ["best step", f"{state.best_global_step or state.global_step:,}"],
        ["eval loss, first", f"{evals[0][1]:.4f}"],
        ["eval loss, best", f"{best:.4f}"],
        ["trained parameters", f"{trained:,}"],
        ["tokens per second", f"{speed:,.0f}"],
        ["peak memory", f"{peak:,.0f} MiB"],
    ]
    plot = draw_curves(curve, work.config.run_dir / "loss.png", work.origin)
    return stage.Report(
        headline=f"{adapter}: eval loss {evals[0][1]:.4f} -> {best:.4f}",
        outputs=(adapter, plot),
        counts={"train rows": work.train.counts, "eval rows": work.held_out.counts},
        metrics={
            "eval_loss_best": best,
            "tokens_per_second": speed,
            "train_seconds": seconds[0],
            "peak_rss_mib": peak,
        },
        tables=(console.table("training", ["what", "value"], rows),),
    )


if __name__ == "__main__":
    raise SystemExit(
        stage.main(
            __doc__, TrainConfig, run, stage="train", default_config=DEFAULT_CONFIG, check=check
        )
    )
