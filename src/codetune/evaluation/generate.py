"""Greedy, deterministic completions, batched.

Prompts are sorted by length and padded on the left, so that every row's next token stands in the
last column. A batched and a single run may differ in the last bits of a logit and so, rarely, in a
token; both sides of a comparison use the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from codetune.tokens import Prompt, Tokenizer

BATCH_SIZE = 8


@dataclass(frozen=True)
class Completion:
    """Generated text without its end token; `stopped` says whether the model ended by itself."""

    text: str
    n_tokens: int
    stopped: bool


def complete(
    model: Any,
    prompts: Sequence[Prompt],
    tok: Tokenizer,
    *,
    max_new_tokens: int,
    batch_size: int = BATCH_SIZE,
    done: Callable[[int], None] | None = None,
) -> list[Completion]:
    """The most likely continuation of every prompt, in the order given."""
    found: list[Completion | None] = [None] * len(prompts)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    with _plain_greedy(causal):
        for batch in _batches(prompts, batch_size):
            made = _batch(model, [prompts[place] for place in batch], tok, max_new_tokens)
            for place, completion in zip(batch, made, strict=True):
                found[place] = completion
            if done:
                done(len(batch))
    return [completion for completion in found if completion is not None]


def _batches(prompts: Sequence[Prompt], size: int) -> Iterator[list[int]]:
    """Positions in batches of prompts that stop at the same tokens, the longest first."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, prompt in enumerate(prompts):
        alike.setdefault(tuple(sorted(prompt.stop_ids)), []).append(place)
    for places in alike.values():
        places.sort(key=lambda i: (-len(prompts[i].input_ids), i))
        for start in range(0, len(places), size):
            yield places[start : start + size]


def _batch(
    model: Any, prompts: Sequence[Prompt], tok: Tokenizer, max_new_tokens: int
) -> list[Completion]:
    import torch

    width = max(len(prompt.input_ids) for prompt in prompts)
    ids = torch.full((len(prompts), width), tok.pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, prompt in enumerate(prompts):
        ids[place, width - len(prompt.input_ids) :] = torch.tensor(prompt.input_ids)
        mask[place, width - len(prompt.input_ids) :] = 1
    stops = sorted(prompts[0].stop_ids)
    with torch.no_grad():
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            eos_token_id=stops,
            pad_token_id=tok.pad_id,
        )
    rows: list[torch.Tensor] = list(output[:, width:].cpu())
    return [_until_stop(row.tolist(), stops, tok) for row in rows]


def _until_stop(ids: list[int], stops: list[int], tok: Tokenizer) -> Completion:
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    kept = ids if end is None else ids[:end]
    return Completion(tok.decode(kept), len(kept), end is not None)


@contextmanager
def _plain_greedy(causal: Any) -> Iterator[None]:
    """Sets a model's own generation settings aside.

    Transformers fills in what a call leaves open from the model's `generation_config`: for the
    Qwen2.5 Instruct models a repetition penalty and sampling, neither of which may be measured.
    """
    from transformers import GenerationConfig

    own = causal.generation_config
    causal.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, num_beams=1, use_cache=True
    )
    try:
        yield
    finally:
        causal.generation_config = own
