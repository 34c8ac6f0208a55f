"""The frozen-head loss is the ordinary cross-entropy, value and gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from codetune.training import loss
from codetune.training.loss import frozen_head_nll, labelled_states


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 700])
def test_equals_cross_entropy_across_chunk_borders(rows: int) -> None:
    torch.manual_seed(rows)
    weight, targets = torch.randn(50, 16), torch.randint(0, 50, (rows,))
    ours = torch.randn(rows, 16, requires_grad=True)
    stock = ours.detach().clone().requires_grad_()
    total = frozen_head_nll(ours, weight, targets)
    expected = functional.cross_entropy(stock @ weight.T, targets, reduction="sum")
    (total / rows).backward()
    (expected / rows).backward()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours.grad, stock.grad, rtol=1e-4, atol=1e-6)


def test_no_targets_is_zero_loss_and_empty_gradient() -> None:
    hidden = torch.randn(0, 8, requires_grad=True)
    total = frozen_head_nll(hidden, torch.randn(5, 8), torch.zeros(0, dtype=torch.long))
    total.backward()
    assert total.item() == 0.0
    assert hidden.grad is not None and hidden.grad.shape == (0, 8)


def test_without_gradient_nothing_is_kept() -> None:
    weight, targets = torch.randn(30, 8), torch.randint(0, 30, (10,))
    with torch.no_grad():
        total = frozen_head_nll(torch.randn(10, 8), weight, targets)
    assert not total.requires_grad


def test_bf16_head_stays_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss._CHUNK, "cpu", 3)
    torch.manual_seed(0)
    hidden, weight = torch.randn(20, 32), torch.randn(40, 32) / 6
    targets = torch.randint(0, 40, (20,))
    exact = frozen_head_nll(hidden, weight, targets)
    rounded = frozen_head_nll(hidden, weight.bfloat16(), targets)
    torch.testing.assert_close(rounded, exact, rtol=0.01, atol=0.1)


def test_trainer_loss_equals_trl(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer()
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.model.eval()
    ours = trainer.compute_loss(trainer.model, dict(inputs))
    stock = super(type(trainer), trainer).compute_loss(trainer.model, dict(inputs))
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)


def test_gradients_equal_trl(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(load_in_4bit=False)
    torch.manual_seed(3)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:  # zero at the start: then lora_A has no gradient to compare
            weight.data.normal_(std=0.05)
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    found = []
    for compute in (trainer.compute_loss, super(type(trainer), trainer).compute_loss):
        trainer.model.zero_grad()
        compute(trainer.model, dict(inputs)).backward()
        found.append([p.grad.clone() for p in trainer.model.parameters() if p.requires_grad])
    assert any(g.abs().max() > 1e-4 for g in found[0])
    for ours, stock in zip(*found, strict=True):
        torch.testing.assert_close(ours, stock, rtol=1e-3, atol=1e-6)


def test_packed_rows_cannot_see_each_other(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer()
    trainer.model.eval()
    decoder = trainer.model.get_base_model().model
    rows = [trainer.eval_dataset[i] for i in range(3)]
    with torch.no_grad():
        together = labelled_states(decoder, trainer.data_collator(rows))[0]
        apart = [labelled_states(decoder, trainer.data_collator([row]))[0] for row in rows]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-5)


def test_packed_batches_carry_no_attention_mask(make_trainer: Callable[..., Any]) -> None:
    batch = next(iter(make_trainer().get_train_dataloader()))
    assert "attention_mask" not in batch
    starts = (batch["position_ids"] == 0).sum()
    assert starts > 1, "the plan should have packed several rows"
    assert (batch["labels"][batch["position_ids"] == 0] == -100).all()
