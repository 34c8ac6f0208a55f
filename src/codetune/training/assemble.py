"""One trainer from a recipe, a loaded base and two token tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, EarlyStoppingCallback, PrinterCallback

from codetune.artefact import Origin
from codetune.config import differences
from codetune.models import LoadedModel, ModelFacts
from codetune.tokens import Tokenizer
from codetune.training.data import TokenTable, packed
from codetune.training.recipe import TrainConfig, lora_config, sft_config
from codetune.training.trainer import QLoRATrainer


@dataclass(frozen=True)
class Work:
    """What one run trains on, and what its results are tied to."""

    config: TrainConfig
    facts: ModelFacts
    tok: Tokenizer
    train: TokenTable
    held_out: TokenTable
    origin: Origin


def build_trainer(
    work: Work, loaded: LoadedModel, checkpoints: Path, *, measure_base: bool
) -> QLoRATrainer:
    """The trainer, with a fresh adapter on the base.

    `measure_base` evaluates before the first step, so that the curve starts at the base.
    """
    config = work.config
    settings = sft_config(config, checkpoints, loaded.device, loaded.dtype_name)
    settings.eval_on_start = measure_base
    rows = work.train.dataset
    patience = config.early_stopping_patience
    trainer = QLoRATrainer(
        origin=work.origin,
        keep_checkpoints=config.save_total_limit,
        dtype=loaded.dtype_name,
        model=loaded.model,
        args=settings,
        train_dataset=packed(rows, config.max_length) if config.packing else rows,
        eval_dataset=work.held_out.dataset,
        processing_class=AutoTokenizer.from_pretrained(
            work.facts.path, local_files_only=True, trust_remote_code=False
        ),
        peft_config=lora_config(config),
        callbacks=[EarlyStoppingCallback(patience)] if patience else [],
    )
    # It prints to standard output, which belongs to `--json`.
    trainer.remove_callback(PrinterCallback)
    return trainer


def described(work: Work) -> list[str]:
    """What is not at its default, and how much there is to train on, a line each."""
    changed = differences(work.config).items()
    lines = [f"  {name} = {c['value']} (default {c['default']})" for name, c in changed]
    return [
        *lines,
        f"{work.train.counts.kept:,} rows, {work.train.n_tokens:,} tokens, "
        f"{work.train.n_trained:,} of them trained; {work.held_out.counts.kept:,} rows held out",
    ]


def planned_steps(trainer: QLoRATrainer) -> int:
    """How many optimizer steps the trainer will take unless it stops early."""
    args = trainer.args
    if args.max_steps > 0:
        return args.max_steps
    batches = len(trainer.get_train_dataloader())
    per_epoch = -(-batches // args.gradient_accumulation_steps)
    return int(-(-per_epoch * args.num_train_epochs // 1))
