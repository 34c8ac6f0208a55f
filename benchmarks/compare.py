"""Scoring held-out rows: ours against row by row with full logits, same model and rows.

Time of the process's CPU (robust on a shared machine) and peak memory, each way in a process of
its own; losses must agree.

    python benchmarks/compare.py --rows 48 --hidden 256 --layers 8 --trained 0.33
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import time
from typing import Any


def model_of(options: argparse.Namespace) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=options.vocab,
        hidden_size=options.hidden,
        intermediate_size=3 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        num_key_value_heads=max(1, options.hidden // 128),
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).eval()


def rows_of(options: argparse.Namespace) -> list[Any]:
    """Rows of 64 to 512 tokens, the last `trained` share of which carries loss."""
    from codetune.tokens import IGNORED, Tokens

    draw = random.Random(0)
    rows = []
    for _ in range(options.rows):
        n = draw.randint(64, 512)
        ids = [draw.randrange(options.vocab) for _ in range(n)]
        first = int(n * (1 - options.trained))
        labels = [token if place >= first else IGNORED for place, token in enumerate(ids)]
        rows.append(Tokens(ids, labels))
    return rows


def ours(model: Any, rows: list[Any]) -> list[float]:
    from codetune.evaluation.loss import score

    return [loss.mean for loss in score(model, rows)]


def row_by_row(model: Any, rows: list[Any]) -> list[float]:
    import torch

    found = []
    with torch.no_grad():
        for row in rows:
            ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
            found.append(float(model(input_ids=ids, labels=labels).loss))
    return found


def measured(way: str, options: argparse.Namespace, results: Any) -> None:
    model, rows = model_of(options), rows_of(options)
    score = {"ours": ours, "row by row": row_by_row}[way]
    score(model, rows[:2])  # warm up
    cpu, wall = time.process_time(), time.perf_counter()
    losses = score(model, rows)
    facts = {
        "way": way,
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    results.put((facts, losses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rows", 48), ("hidden", 256), ("layers", 8), ("vocab", 151_936)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--trained", type=float, default=0.33, help="share that carries loss")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    seen = []
    for way in ("row by row", "ours"):
        results = spawn.Queue()
        worker = spawn.Process(target=measured, args=(way, options, results))
        worker.start()
        seen.append(results.get())
        worker.join()
        print(json.dumps(seen[-1][0]))
    (theirs, expected), (mine, found) = seen
    worst = max(abs(a - b) for a, b in zip(expected, found, strict=True))
    speedup = theirs["cpu_seconds"] / mine["cpu_seconds"]
    print(json.dumps({"speedup_cpu": round(speedup, 2), "largest_loss_difference": worst}))


if __name__ == "__main__":
    main()
