"""Loss on trained tokens only, with a frozen head.

In LoRA the output head gets no gradient, so the gradient of the hidden states can be computed
together with the loss, chunk by chunk: two matrix products per chunk instead of three, only at
positions that carry loss, and no [tokens, vocabulary] matrix is kept.
"""

from __future__ import annotations

from typing import Any

import torch

# Rows of logits held at once: small enough for caches on a CPU, large enough to fill a GPU.
_CHUNK = {"cpu": 256, "cuda": 1024}
# Decoder + plain linear head, no logit scaling or soft-capping: what this loss computes.
PLAIN_HEADS = frozenset({"llama", "mistral", "qwen2", "qwen3"})


class _FrozenHeadNll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        chunk = _CHUNK.get(hidden.device.type, 1024)
        wants_gradient = hidden.requires_grad
        gradient = torch.empty_like(hidden) if wants_gradient else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            picked = targets[rows].unsqueeze(1)
            logits = (hidden[rows].to(weight.dtype) @ weight.T).float()
            norm = logits.logsumexp(dim=1, keepdim=True)
            total += (norm - logits.gather(1, picked)).sum()
            if gradient is not None:
                probability = logits.sub_(norm).exp_()
                probability.scatter_add_(1, picked, -torch.ones_like(picked, dtype=torch.float32))
                gradient[rows] = (probability.to(weight.dtype) @ weight).to(hidden.dtype)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0].to(gradient.dtype), None, None


def frozen_head_nll(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Summed negative log-likelihood (nats, fp32 scalar) of `targets`.

    hidden [n, d], weight [vocabulary, d] frozen, targets [n] of token ids.
    """
    result: torch.Tensor = _FrozenHeadNll.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return result


def labelled_states(
    decoder: Any, inputs: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(hidden states [n, d], targets [n]) at the positions that predict a trained token.

    Under packing `position_ids` mark the rows and no attention mask may be passed: with one,
    or with a cache, rows of a pack would see each other.
    """
    passed = {k: inputs[k] for k in ("input_ids", "position_ids", "attention_mask") if k in inputs}
    if "position_ids" in passed:
        passed.pop("attention_mask", None)
    hidden = decoder(**passed, use_cache=False).last_hidden_state
    targets = inputs["labels"][:, 1:]
    kept = targets != -100
    return hidden[:, :-1][kept], targets[kept]
