"""The demo's base: a language model of a few million parameters, pre-trained here in a minute.

Not shipped as weights. Steps decide when training ends, never the clock, so that a seed gives one
result on one machine. Everything is in fp32, which every CPU is fast at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from codetune import tokens
from codetune.artefact import Origin, staged_directory
from codetune.models.demo_corpus import Source, lessons
from codetune.models.demo_tokenizer import (
    END_OF_TEXT,
    END_OF_TURN,
    train_tokenizer,
    write_tokenizer,
)

if TYPE_CHECKING:
    import torch

_HEAD_SIZE = 64
_LONGEST_CONTEXT = 2048
_BETAS = (0.9, 0.99)
_WEIGHT_DECAY = 0.1
_WARMUP = 0.06
_LAST_RATE = 0.05  # of the peak, at the last step


@dataclass(frozen=True)
class Recipe:
    """Shape and schedule; the defaults were the best of two dozen tried at one cost."""

    vocab_size: int = 4096
    hidden_size: int = 192
    intermediate_size: int = 512
    layers: int = 4
    sequence: int = 256
    batch: int = 2
    steps: int = 400
    learning_rate: float = 2e-3
    embedding_rate: float = 4.0  # times the learning rate: most tokens are rare
    seed: int = 42


@dataclass(frozen=True)
class Pretrained:
    """What came out: parameters, tokens seen, and the loss of every step in nats a token."""

    n_parameters: int
    n_tokens: int
    losses: tuple[float, ...]

    def smoothed(self, points: int) -> list[tuple[int, float]]:
        """(last step, mean loss) of `points` equal stretches."""
        size = max(1, math.ceil(len(self.losses) / points))
        starts = range(0, len(self.losses), size)
        parts = [(start, self.losses[start : start + size]) for start in starts]
        return [(start + len(part), sum(part) / len(part)) for start, part in parts]


def make_demo_base(
    final: Path,
    sources: Sequence[Source],
    recipe: Recipe,
    origin: Origin,
    step_done: Callable[[float], None] = lambda _: None,
) -> Pretrained:
    """Trains tokenizer and model on `sources` and publishes the folder `final`.

    The folder is what transformers loads as a causal language model: safetensors in fp32, config,
    tokenizer and chat template.
    """
    with staged_directory(final, origin) as folder:
        texts = [source.text for source in sources]
        write_tokenizer(folder, train_tokenizer(texts, recipe.vocab_size), _LONGEST_CONTEXT)
        tok = tokens.load(folder)
        model = untrained(recipe, tok)
        losses = []
        for loss in pretrain(model, token_blocks(sources, tok, recipe), recipe):
            losses.append(loss)
            step_done(loss)
        _save(model, folder)
    n_parameters = sum(p.numel() for p in model.parameters())
    return Pretrained(n_parameters, recipe.steps * recipe.batch * recipe.sequence, tuple(losses))


def untrained(recipe: Recipe, tok: tokens.Tokenizer) -> Any:
    """A Qwen2 model with tied embeddings, initialised from the recipe's seed."""
    import torch
    import transformers

    config = transformers.Qwen2Config(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.hidden_size // _HEAD_SIZE,
        num_key_value_heads=1,
        max_position_embeddings=_LONGEST_CONTEXT,
        tie_word_embeddings=True,
        # A width this small learns far faster from weights of about 1/sqrt(width) than from 0.02.
        initializer_range=recipe.hidden_size**-0.5,
    )
    torch.manual_seed(recipe.seed)
    model = cast(Any, transformers.Qwen2ForCausalLM(config)).float()
    for layer in model.model.layers:  # every layer starts as a no-op and grows from there
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    ends = [tok.special(END_OF_TURN), tok.special(END_OF_TEXT)]
    generation = cast(Any, transformers.GenerationConfig)
    model.generation_config = generation(eos_token_id=ends, pad_token_id=ends[1])
    model.config.eos_token_id, model.config.pad_token_id = ends[0], ends[1]
    return model


def _save(model: Any, folder: Path) -> None:
    from transformers.utils import logging as bars

    cast(Any, bars).disable_progress_bar()
    model.save_pretrained(folder)


def token_blocks(sources: Sequence[Source], tok: tokens.Tokenizer, recipe: Recipe) -> torch.Tensor:
    """The lessons end to end, cut into equal sequences and shuffled: int64 [blocks, sequence]."""
    import torch

    stream = [i for row in lessons(sources) for i in tokens.tokenise(row, tok).input_ids]
    count = len(stream) // recipe.sequence
    blocks = torch.tensor(stream[: count * recipe.sequence]).view(count, recipe.sequence)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(recipe.seed))
    return blocks[order]


def pretrain(model: Any, blocks: torch.Tensor, recipe: Recipe) -> Iterator[float]:
    """Trains `model` in place on `blocks`, over and over in their order; yields each step's loss.

    Loss is on every token, since a base has to know prompts as well as answers.
    """
    import torch

    optimizer = _optimizer(model, recipe)
    model.train()
    for step in range(recipe.steps):
        first = step * recipe.batch
        batch = blocks[[i % len(blocks) for i in range(first, first + recipe.batch)]]
        hidden = model.model(batch, use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _rate(step, recipe.steps)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()
    model.eval()


def _optimizer(model: Any, recipe: Recipe) -> torch.optim.Optimizer:
    import torch

    embedding = model.model.embed_tokens.weight
    matrices = [p for p in model.parameters() if p.dim() == 2 and p is not embedding]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    rate = recipe.learning_rate
    groups = [
        {"params": matrices, "peak": rate, "weight_decay": _WEIGHT_DECAY},
        {"params": vectors, "peak": rate, "weight_decay": 0.0},
        {"params": [embedding], "peak": rate * recipe.embedding_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(cast(Any, groups), lr=rate, betas=_BETAS, fused=True)


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to `_LAST_RATE`, as a share of the peak."""
    warmup = max(1, round(_WARMUP * steps))
    wave = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / warmup) * (_LAST_RATE + (1 - _LAST_RATE) * wave)
