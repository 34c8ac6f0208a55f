"""Loss on trained tokens, row by row, without ever keeping the logits.

The head is applied only at positions that carry loss, a few hundred at a time; with a vocabulary
of 152k that is most of the work and nearly all of the memory of an ordinary forward pass.
Rows are batched by length under a token budget and padded on the right, where a causal model
cannot see the padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codetune.errors import UserError
from codetune.tokens import IGNORED

if TYPE_CHECKING:
    import torch

    from codetune.tokens import Tokens

TOKENS_PER_BATCH = 4096
# Positions the head is applied to at once: logits of 128 x 152k are 78 MB; a GPU likes more.
_POSITIONS_AT_ONCE = {"cpu": 128, "cuda": 1024}


@dataclass(frozen=True)
class RowLoss:
    """Summed negative log-likelihood of a row's trained tokens, in nats, and their number."""

    total: float
    count: int

    @property
    def mean(self) -> float:
        """Nats per trained token."""
        return self.total / self.count


def score(
    model: Any,
    rows: Sequence[Tokens],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    done: Callable[[int], None] | None = None,
) -> list[RowLoss]:
    """The loss of every row, in the order given; `done` is told how many rows were finished.

    Works on any causal language model of transformers, with or without PEFT adapters; one whose
    logits are not simply its head over its last hidden state is asked for full logits instead.
    Raises UserError when a loss is not a finite number.
    """
    import torch

    if not rows:
        return []
    losses: list[RowLoss | None] = [None] * len(rows)
    with torch.no_grad():
        logprobs = _logprobs_of(model, rows[0])
        for batch in batches([len(row.input_ids) for row in rows], tokens_per_batch):
            found = _batch_losses(model, [rows[place] for place in batch], logprobs)
            for place, loss in zip(batch, found, strict=True):
                losses[place] = loss
            if done:
                done(len(batch))
    return [_finite(loss) for loss in losses]


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Positions in batches of similar length, the longest first, each padded within `budget`.

    A row longer than the budget is a batch of its own. Longest first, so that what does not fit
    into memory fails at once.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _batch_losses(model: Any, rows: Sequence[Tokens], logprobs: _LogProbs) -> list[RowLoss]:
    """The losses of one padded batch."""
    import torch

    width = max(len(row.input_ids) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for place, row in enumerate(rows):
        n = len(row.input_ids)
        ids[place, :n] = torch.tensor(row.input_ids)
        labels[place, :n] = torch.tensor(row.labels)
        mask[place, :n] = 1
    device = model.device
    # The token at position t+1 is predicted at position t.
    wanted = labels[:, 1:] != IGNORED
    values = logprobs(ids.to(device), mask.to(device), labels[:, 1:].to(device))
    # `values` is in the order of the positions wanted: row after row.
    owners = wanted.nonzero()[:, 0]
    totals = torch.zeros(len(rows), dtype=torch.float64).index_add_(0, owners, -values.double())
    return [
        RowLoss(float(total), int(count))
        for total, count in zip(totals, wanted.sum(dim=1), strict=True)
    ]


# (ids [B, T], mask [B, T], next labels [B, T-1]) -> fp32 log-probabilities [number wanted] on CPU
_LogProbs = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]


def _logprobs_of(model: Any, row: Tokens) -> _LogProbs:
    """The frozen-head way where it is exact for this model, else full logits."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone, head = getattr(causal, "base_model", None), causal.get_output_embeddings()
    prompts = getattr(model, "active_peft_config", None)
    learned_prompt = getattr(prompts, "is_prompt_learning", False)
    if head is None or backbone is None or backbone is causal or learned_prompt:
        return _full(model)
    frozen = _frozen_head(backbone, head)
    return frozen if _agree(frozen, _full(model), row, model.device) else _full(model)


def _frozen_head(backbone: Any, head: Any) -> _LogProbs:
    def logprobs(ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        import torch

        output = backbone(input_ids=ids, attention_mask=mask, use_cache=False)
        wanted = labels != IGNORED
        states, targets = output.last_hidden_state[:, :-1][wanted], labels[wanted]
        step = _POSITIONS_AT_ONCE.get(ids.device.type, 128)
        found = [
            _picked(head(states[at : at + step]), targets[at : at + step])
            for at in range(0, len(targets), step)
        ]
        return torch.cat(found)

    return logprobs


def _full(model: Any) -> _LogProbs:
    def logprobs(ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        wanted = labels != IGNORED
        return _picked(logits[wanted], labels[wanted])

    return logprobs


def _picked(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log softmax in fp32 at the targets."""
    from torch.nn.functional import cross_entropy

    return -cross_entropy(logits.float(), targets, reduction="none").cpu()


def _agree(ours: _LogProbs, theirs: _LogProbs, row: Tokens, device: Any) -> bool:
    """Whether both ways give the same numbers at the start of a row.

    Softcapped, scaled or otherwise processed logits (Gemma 2, Cohere, Granite) do not.
    """
    import torch

    ids = torch.tensor([row.input_ids[:9]], device=device)
    if ids.shape[1] < 2:
        return True
    found = [way(ids, torch.ones_like(ids), ids[:, 1:]) for way in (ours, theirs)]
    return bool(torch.allclose(found[0], found[1], rtol=1e-2, atol=1e-3))


def _finite(loss: RowLoss | None) -> RowLoss:
    if loss is None or not math.isfinite(loss.total):
        raise UserError("the model's loss is not a finite number; try another --dtype or --quant")
    return loss
