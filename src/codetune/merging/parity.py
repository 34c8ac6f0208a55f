"""Compares two models by their logits on the same tokens: the proof that a merge kept the tuning.

The reference is the unquantised base with the adapter on it, in float32. Its distance to the
merged model is rounding alone; its distance to the base without adapter is what was learned, and
the first has to be small against the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# The largest mean KL per token (nats) that one rounding of the weights may cost, by their type.
# Random Qwen2 models of 50M parameters measured 1e-11 (fp32), 3e-6 (fp16), 2e-4 (bf16): see
# docs/merge_lora.md.
_LARGEST_KL = {"float32": 1e-8, "float16": 1e-4, "bfloat16": 2e-3}
# Of what was learned, a merge may lose this share; below a tenth of the largest KL nothing can be
# told from rounding, and is not asked to be.
_LOST_SHARE, _NOISE = 0.25, 0.1
_POSITIONS = 16


@dataclass(frozen=True)
class Comparison:
    """How far `other` is from a reference over all token positions of some prompts.

    `max_delta` is the largest absolute difference of two logits, `mean_kl` and `max_kl` are
    KL(reference || other) in nats per token, `top1_agreement` the share of positions with the
    same most likely token.
    """

    max_delta: float
    mean_kl: float
    max_kl: float
    top1_agreement: float
    tokens: int

    def as_dict(self) -> dict[str, float]:
        """As JSON values."""
        return dict(vars(self))


def logits_of(model: Any, prompt: Sequence[int]) -> torch.Tensor:
    """The model's logits as float32 on the CPU: [tokens, vocabulary]."""
    import torch

    with torch.no_grad():
        ids = torch.tensor([list(prompt)], device=model.device)
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0]
        return logits.float().cpu()


def compare(
    reference: Sequence[torch.Tensor], model: Any, prompts: Sequence[Sequence[int]]
) -> Comparison:
    """Compares `model` with the reference's logits of the same prompts, one prompt at a time."""
    import torch

    largest, worst, divergence, same, tokens = 0.0, 0.0, 0.0, 0, 0
    for whole, prompt in zip(reference, prompts, strict=True):
        parts = (torch.split(half, _POSITIONS) for half in (whole, logits_of(model, prompt)))
        for expected, found in zip(*parts, strict=True):
            largest = max(largest, float((expected - found).abs().max()))
            logs, others = (torch.log_softmax(part.double(), -1) for part in (expected, found))
            per_token = (logs.exp() * (logs - others)).sum(-1).clamp_min(0.0)
            worst = max(worst, float(per_token.max()))
            divergence += float(per_token.sum())
            same += int((expected.argmax(-1) == found.argmax(-1)).sum())
            tokens += len(per_token)
    return Comparison(largest, divergence / tokens, worst, same / tokens, tokens)


def tolerance(dtypes: Iterable[str], learned_kl: float) -> float:
    """The largest mean KL at which a merge passes.

    `dtypes` are the types that weights and computation round to, `learned_kl` the mean KL of the
    tuned model to its base.
    """
    largest = max(_LARGEST_KL[dtype] for dtype in dtypes)
    return min(largest, max(_LOST_SHARE * learned_kl, _NOISE * largest))
