"""Training steps: our trainer against TRL's as it comes, same NF4 base, rows and batch.

Each way runs in a process of its own; tokens per second of wall clock and of CPU time (two
threads count twice), and peak memory. A third of the tokens carry loss. Compare ratios within
one run: machines differ.

    python benchmarks/train_qlora.py --hidden 768 --layers 12 --vocab 8192 --steps 4
    python benchmarks/train_qlora.py --hidden 896 --layers 24 --vocab 151936 --steps 2
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from codetune.stage import load_environment

WAYS = ("ours", "trl")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("hidden", 768), ("layers", 12), ("vocab", 8192), ("steps", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.way:
        load_environment()
        print(json.dumps(measure(options)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make_base(options, Path(folder) / "base")
        for way in WAYS:
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way, "--folder", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(way, done.stdout.splitlines()[-1])
    return 0


def make_base(options: argparse.Namespace, folder: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    heads = options.hidden // 64
    config = Qwen2Config(
        vocab_size=options.vocab,
        hidden_size=options.hidden,
        intermediate_size=int(options.hidden * 5.43),
        num_hidden_layers=options.layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    from codetune.models import load_base

    loaded = load_base(options.folder / "base", "4bit", options.dtype, "cpu")
    trainer = made(options, loaded)
    trainer.train()  # the first steps pay for warming up
    trainer.args.max_steps = options.steps
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tokens = options.steps * options.batch * options.length
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "tokens_per_second": round(tokens / wall, 1),
        "tokens_per_cpu_second": round(tokens / cpu, 1),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "last_loss": round(losses[-1], 4),
        "dtype": options.dtype,
    }


def made(options: argparse.Namespace, loaded: Any) -> Any:
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import SFTTrainer

    from codetune.artefact import Origin
    from codetune.training.recipe import TrainConfig, lora_config, sft_config
    from codetune.training.trainer import QLoRATrainer

    config = TrainConfig(
        max_steps=1,
        packing=False,
        lora_r=16,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=1,
    )
    args = sft_config(config, options.folder / options.way, "cpu", options.dtype)
    args.eval_strategy = args.save_strategy = "no"
    args.load_best_model_at_end = False
    plain = Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>"))
    settings = {
        "model": loaded.model,
        "args": args,
        "train_dataset": Dataset.from_list(rows(options)),
        "processing_class": PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>"),
        "peft_config": lora_config(config),
    }
    if options.way == "trl":
        return SFTTrainer(**settings)
    return QLoRATrainer(origin=Origin("bench", 1, ""), keep_checkpoints=1, dtype="", **settings)


def rows(options: argparse.Namespace) -> list[dict[str, list[int]]]:
    draw = random.Random(0)
    made_rows = []
    for _ in range(options.batch * (options.steps + 1)):
        ids = [draw.randrange(1, options.vocab) for _ in range(options.length)]
        labels = [t if i > 2 * options.length // 3 else -100 for i, t in enumerate(ids)]
        made_rows.append({"input_ids": ids, "labels": labels})
    return made_rows


if __name__ == "__main__":
    raise SystemExit(main())
