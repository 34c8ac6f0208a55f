"""The knobs of `baseline` and `compare`: what is measured, and how much of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from codetune.config import Config, knob


class MeasureConfig(Config):
    """What both stages share."""

    eval_file: Path = knob(Path("data/eval.jsonl"), "held-out rows")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = knob(
        "auto", "compute type; auto decides by capability or by a short measurement"
    )
    device: Literal["auto", "cpu", "cuda"] = knob("auto", "where to run", place=True)
    max_length: int = knob(
        4096,
        "longest row; longer chats are left out, FIM context is cut",
        unit="tokens",
        aliases=("cutoff_len", "sequence_len", "max_seq_length"),
        ge=16,
    )
    max_items: int = knob(1000, "rows scored at most, a seeded subset of more", unit="rows", ge=1)
    generate_items: int = knob(64, "FIM rows completed, and up to 8 chats", unit="rows", ge=0)
    max_new_tokens: int = knob(128, "longest answer", unit="tokens", ge=1)
    seed: int = knob(0, "seed of the subsets and of the bootstrap", ge=0)
    prompt: str | None = knob(
        None, "a question of your own: answers only, no scores", place=True, text=True
    )
    prompt_file: Path | None = knob(None, "questions of your own, parted by lines of ---")


class BaselineConfig(MeasureConfig):
    """A base by itself."""

    model_name_or_path: str = knob(
        "",
        "base model: a folder, or a hub name",
        aliases=("base_model", "model"),
        required=True,
        place=True,
    )
    quant: Literal["4bit", "8bit", "none"] = knob("4bit", "how the base is loaded")
    output_dir: Path = knob(
        Path("outputs/baseline"), "results, in a folder per base and rows", aliases=("output",)
    )


class CompareConfig(MeasureConfig):
    """An adapter against its base."""

    model_name_or_path: str | None = knob(
        None, "base; the one the adapter names by default", aliases=("base_model",), place=True
    )
    adapter: Path | None = knob(
        None, "adapter folder; the newest finished run's by default", aliases=("ckpt",)
    )
    output_dir: Path | None = knob(
        None, "folder of the report; outputs/<run>/report by default", aliases=("output",)
    )
    quant: Literal["auto", "4bit", "8bit", "none"] = knob(
        "auto", "how the base is loaded; auto: as the adapter was trained, else 4bit"
    )
    gate: bool = knob(False, "exit 0 when better, 3 when worse, 4 when inconclusive", place=True)
