"""The training recipe: one knob per decision, each with its reason.

Defaults follow published evidence (QLoRA 2305.14314: all linear layers, NF4, double
quantisation; LoRA Without Regret: learning rate about ten times that of full tuning and small
effective batches).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from codetune.config import Config, knob


class TrainConfig(Config):
    """Everything a training run is decided by."""

    model_name_or_path: str = knob(
        "Qwen/Qwen2.5-Coder-1.5B-Instruct",
        "base model: a folder, or a hub name",
        aliases=("base_model", "model"),
        place=True,
    )
    train_file: Path = knob(Path("data/train.jsonl"), "rows to train on")
    eval_file: Path = knob(Path("data/eval.jsonl"), "held-out rows")
    run_name: str = knob("default", "names outputs/<run_name> and runs/<run_name>", place=True)
    output_dir: Path | None = knob(None, "instead of outputs/<run_name>", aliases=("output",))
    resume: Literal["auto", "never"] = knob(
        "auto",
        "go on from the newest checkpoint that verifies",
        place=True,
        aliases=("resume_from_checkpoint",),
    )

    max_length: int = knob(
        4096,
        "longest row; longer chats are dropped, FIM context is cut",
        unit="tokens",
        aliases=("cutoff_len", "sequence_len", "max_seq_length"),
        ge=16,
    )
    packing: bool = knob(
        True,
        "several rows in one sequence, which cannot see each other",
        aliases=("sample_packing", "neat_packing"),
    )

    load_in_4bit: bool = knob(True, "base weights in 4 bits (QLoRA)")
    load_in_8bit: bool = knob(False, "base weights in 8 bits (LLM.int8)")
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = knob("nf4", "4-bit number format")
    bnb_4bit_use_double_quant: bool = knob(True, "quantise the quantisation constants too")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = knob(
        "auto", "compute type; auto decides by capability or by a short measurement"
    )
    device: Literal["auto", "cpu", "cuda"] = knob("auto", "where to train", place=True)

    lora_r: int = knob(32, "rank of the adapter", aliases=("lora_rank",), ge=1)
    lora_alpha: float = knob(32, "scale is lora_alpha / lora_r", gt=0)
    lora_dropout: float = knob(0.0, "dropout before the adapter", ge=0, lt=1)
    lora_target_modules: str | list[str] = knob(
        "all-linear", "which layers get an adapter", aliases=("lora_target",)
    )
    use_rslora: bool = knob(False, "scale by lora_alpha / sqrt(lora_r)")

    per_device_train_batch_size: int = knob(
        1, "sequences per step and device", aliases=("micro_batch_size",), ge=1
    )
    per_device_eval_batch_size: int = knob(4, "rows per evaluation batch", ge=1)
    gradient_accumulation_steps: int = knob(16, "micro batches per optimizer step", ge=1)
    gradient_checkpointing: bool = knob(True, "recompute activations: less memory, more time")

    learning_rate: float = knob(2e-4, "peak learning rate", gt=0)
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = knob(
        "cosine", "how the learning rate falls"
    )
    warmup_ratio: float = knob(0.03, "share of steps with a rising learning rate", ge=0, lt=1)
    weight_decay: float = knob(0.0, "decay of adapter weights", ge=0)
    max_grad_norm: float = knob(1.0, "gradients are clipped to this norm", gt=0)
    optim: str = knob(
        "adamw_torch", "optimizer, by its name in Transformers", aliases=("optimizer",)
    )

    num_train_epochs: float = knob(2, "passes over the rows", aliases=("num_epochs",), gt=0)
    max_steps: int = knob(-1, "stop after so many optimizer steps; -1: by epochs", ge=-1)
    eval_steps: int = knob(50, "evaluate every so many steps", unit="steps", ge=1)
    save_steps: int = knob(50, "checkpoint every so many steps", unit="steps", ge=1)
    save_total_limit: int = knob(2, "checkpoints kept, besides the best", ge=1)
    early_stopping_patience: int = knob(
        3, "stop after so many evaluations without a lower eval loss; 0: never", ge=0
    )
    logging_steps: int = knob(1, "log every so many steps", unit="steps", ge=1, place=True)
    seed: int = knob(42, "seed of adapter, order and dropout")

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.load_in_4bit and self.load_in_8bit:
            raise ValueError("load_in_4bit and load_in_8bit exclude each other; set one to false")
        if self.save_steps % self.eval_steps:
            raise ValueError(
                f"save_steps ({self.save_steps}) must be a multiple of eval_steps "
                f"({self.eval_steps}), so that the best evaluation has a checkpoint"
            )
        if self.max_steps == 0:
            raise ValueError("max_steps must be -1 or at least 1")
        if not self.run_name or Path(self.run_name).name != self.run_name:
            raise ValueError(f"run_name {self.run_name!r} names folders, so it cannot hold a path")
        return self

    @property
    def quant(self) -> Literal["4bit", "8bit", "none"]:
        """How the base is loaded."""
        if self.load_in_4bit:
            return "4bit"
        return "8bit" if self.load_in_8bit else "none"

    @property
    def run_dir(self) -> Path:
        """Where adapter, checkpoints and reports of this run lie."""
        return self.output_dir or Path("outputs") / self.run_name


def sft_config(config: TrainConfig, checkpoints: Path, device: str, dtype: str) -> Any:
    """TRL's `SFTConfig` for this recipe. Types are set here, since TRL's default is bf16."""
    from trl.trainer.sft_config import SFTConfig

    on_gpu = device.startswith("cuda")
    return SFTConfig(
        output_dir=str(checkpoints),
        use_cpu=not on_gpu,
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16" and on_gpu,
        max_length=config.max_length,
        packing=config.packing,
        dataset_kwargs={"skip_prepare_dataset": True},
        per_device_train_batch_size=config.per_device_train_batch_size,
        per_device_eval_batch_size=config.per_device_eval_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        activation_checkpointing=config.gradient_checkpointing,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=config.optim,
        num_train_epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        eval_strategy="steps",
        eval_steps=config.eval_steps,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=config.save_total_limit,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=config.logging_steps,
        # A NaN that is averaged away in the log is a run that looks healthy and is not.
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=on_gpu,
        seed=config.seed,
        data_seed=config.seed,
    )


def lora_config(config: TrainConfig) -> Any:
    """PEFT's `LoraConfig` for this recipe."""
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_r,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
        use_rslora=config.use_rslora,
        bias="none",
    )
