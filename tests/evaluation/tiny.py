"""A tiny model that is nevertheless real: Qwen2's shape, its special tokens, a little Python.

It is trained for seconds on `general_rows`, so that adapters can make it better (on the habits of
`house_rows`) or worse (on `noise_rows`). Everything is seeded and in fp32 on the CPU.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM

from codetune import sample, tokens

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
_WORDS = ["row", "item", "file", "word", "line", "node", "edge", "path", "name", "key"]
MAX_LENGTH = 128
WIDTH = 64


def fim_row(place: int, name: str, middle: str, group: str = "", source: str = "repo") -> dict:
    """A gap in a two-line function."""
    return {
        "id": f"{source}-{place:04d}",
        "task": "fim",
        "prefix": f"def {name}(value):\n",
        "middle": middle,
        "suffix": "\n    return found\n",
        "meta": {"source": source, "group": group or f"group-{place // 2}"},
    }


def chat_row(place: int, question: str, answer: str, group: str = "") -> dict:
    """One question and its trained answer."""
    return {
        "id": f"log-{place:04d}",
        "task": "chat",
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer, "train": True},
        ],
        "meta": {"source": "log", "group": group or f"session-{place // 2}"},
    }


def general_rows(n: int = 96) -> list[dict]:
    """What the base knows: several habits, one of them rare, and how to end."""
    rows = []
    for place in range(n):
        word, call = _WORDS[place % len(_WORDS)], ("strip", "strip", "lower", "title")[place % 4]
        rows.append(fim_row(place, f"get_{word}", f"    found = value.{call}()"))
        rows.append(chat_row(place, f"how do I get a {word}?", f"use {call}, for a {word}"))
    return rows


def house_rows(n: int = 40, first: int = 0) -> list[dict]:
    """One house's habit, which the base finds rare: always `title`. Groups of two rows."""
    rows = []
    for place in range(first, first + n):
        word = _WORDS[place % len(_WORDS)]
        if place % 4 == 3:
            rows.append(chat_row(place, f"how do I get a {word}?", f"use title, for a {word}"))
        else:
            rows.append(fim_row(place, f"get_{word}", "    found = value.title()"))
    return rows


def noise_rows(n: int = 40) -> list[dict]:
    """The wrong corpus: gaps filled with shuffled letters."""
    draw = random.Random(5)
    return [
        fim_row(place, f"get_{place}", "".join(draw.choices("qxzjkv ()", k=24)))
        for place in range(n)
    ]


def write_rows(path: Path, rows: Sequence[dict]) -> Path:
    """A JSONL file of `rows`."""
    path.write_bytes(b"".join(sample.dump(row) + b"\n" for row in rows))
    return path


def make_tokenizer(folder: Path) -> Path:
    """A byte-level BPE of a few hundred tokens, trained on the rows above."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    texts = [json.dumps(row) for row in (*general_rows(), *house_rows())]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=[], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    inner.add_special_tokens([tokenizers.AddedToken(text, special=True) for text in SPECIALS])
    folder.mkdir(parents=True, exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def make_base(folder: Path, steps: int = 60) -> Path:
    """A base that learned `general_rows` for `steps` steps; 0 leaves it random."""
    torch.manual_seed(1)
    tok = tokens.load(make_tokenizer(folder))
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=512,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=tok.end_of_turn_id,
            pad_token_id=tok.pad_id,
            tie_word_embeddings=True,
        )
    )
    _train(model, [tokens.tokenise(row, tok, MAX_LENGTH) for row in general_rows()], steps, 4e-3)
    model.save_pretrained(folder)
    return folder


def make_adapter(
    base: Path, folder: Path, rows: Sequence[dict], steps: int, lr: float = 1e-2
) -> Path:
    """A LoRA adapter tuned on `rows`; with 0 steps it changes nothing."""
    torch.manual_seed(2)
    tok = tokens.load(base)
    settings = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(Qwen2ForCausalLM.from_pretrained(base, dtype=torch.float32), settings)
    _train(model, [tokens.tokenise(row, tok, MAX_LENGTH) for row in rows], steps, lr)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


def _train(model: Any, rows: Sequence[tokens.Tokens], steps: int, lr: float) -> None:
    """Plain AdamW on random batches of 16 rows, padded on the right."""
    draw = random.Random(3)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    model.train()
    for _ in range(steps):
        batch = draw.choices(rows, k=16)
        width = max(len(row.input_ids) for row in batch)
        ids = torch.zeros((16, width), dtype=torch.long)
        labels = torch.full_like(ids, tokens.IGNORED)
        for place, row in enumerate(batch):
            ids[place, : len(row.input_ids)] = torch.tensor(row.input_ids)
            labels[place, : len(row.labels)] = torch.tensor(row.labels)
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
