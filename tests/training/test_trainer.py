"""The trainer: really 4-bit, fp32 adapters, exact resume, exact evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.nn.modules import has_avx512bf16

from codetune.errors import UserError
from codetune.training.checkpoints import all_checkpoints, compute_dtype

Make = Callable[..., Any]


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_every_linear_of_the_base_is_4bit(make_trainer: Make) -> None:
    base = make_trainer().model.get_base_model()
    linears = {n: m for n, m in base.model.named_modules() if isinstance(m, bnb.nn.Linear4bit)}
    assert len(linears) == 2 * 7
    for layer in linears.values():
        assert isinstance(layer.weight, bnb.nn.Params4bit)
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested, "double quantisation"
        assert layer.support_avx512bf16_for_cpu is False


def test_adapters_are_fp32_and_all_linear(make_trainer: Make) -> None:
    trained = weights(make_trainer())
    assert len(trained) == 2 * 7 * 2
    assert {w.dtype for w in trained.values()} == {torch.float32}


def test_evaluation_leaves_gradients_alone(make_trainer: Make) -> None:
    """bitsandbytes repacks 4-bit weights on AVX512-BF16 CPUs at the first evaluation.

    The flag is asserted on every machine (above); only on such a CPU can gradients differ here.
    """
    trainer = make_trainer()
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))

    def gradient() -> torch.Tensor:
        trainer.model.train()
        trainer.model.zero_grad()
        trainer.compute_loss(trainer.model, dict(inputs)).backward()
        return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])

    before = gradient()
    trainer.evaluate()
    assert torch.equal(before, gradient())
    print(f"the fault {'could' if has_avx512bf16() else 'could not'} occur on this CPU")


def test_evaluation_is_a_mean_over_tokens_whatever_the_batches(make_trainer: Make) -> None:
    found = []
    for size in (1, 3, 8):
        trainer = make_trainer(per_device_eval_batch_size=size)
        found.append(trainer.evaluate()["eval_loss"])
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("optim", ["adamw_torch", "paged_adamw_8bit"])
@pytest.mark.parametrize("packing", [True, False])
def test_resume_is_bit_equal(make_trainer: Make, tmp_path: Path, optim: str, packing: bool) -> None:
    knobs = {"optim": optim, "packing": packing, "lora_dropout": 0.1, "save_total_limit": 9}
    whole = make_trainer(tmp_path / "whole", **knobs)
    whole.train()
    for checkpoint in all_checkpoints(tmp_path / "whole")[:-1]:
        resumed = make_trainer(tmp_path / f"from-{checkpoint.name}", **knobs)
        resumed.train(resume_from_checkpoint=str(checkpoint))
        assert resumed.state.global_step == whole.state.global_step
        assert same(weights(resumed), weights(whole)), checkpoint.name


def test_resume_is_bit_equal_over_epochs_and_ragged_steps(
    make_trainer: Make, tmp_path: Path
) -> None:
    knobs = {"max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 5}
    knobs |= {"packing": False, "save_total_limit": 20, "eval_steps": 1, "save_steps": 1}
    whole = make_trainer(tmp_path / "whole", **knobs)
    whole.train()
    points = all_checkpoints(tmp_path / "whole")[:-1]
    assert len(points) == 9
    for checkpoint in points[3:7]:  # around the epoch border
        resumed = make_trainer(tmp_path / f"from-{checkpoint.name}", **knobs)
        resumed.train(resume_from_checkpoint=str(checkpoint))
        assert same(weights(resumed), weights(whole)), checkpoint.name


def test_checkpoints_hold_no_pickle(make_trainer: Make, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "c")
    trainer.train()
    names = {p.name for p in (tmp_path / "c").rglob("*") if p.is_file()}
    assert names == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "trainer.safetensors",
        "trainer_state.json",
    }


def test_the_best_checkpoint_is_what_remains(make_trainer: Make, tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path / "c",
        max_steps=8,
        learning_rate=1.0,
        lr_scheduler_type="constant",
        save_total_limit=1,
        early_stopping_patience=2,
    )
    trainer.train()
    history = [(e["step"], e["eval_loss"]) for e in trainer.state.log_history if "eval_loss" in e]
    best = min(history, key=lambda item: item[1])
    assert trainer.state.best_global_step == best[0]
    assert (tmp_path / "c" / f"checkpoint-{best[0]}").exists()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(best[1], rel=1e-6)


def test_a_best_between_two_planned_checkpoints_is_kept(make_trainer: Make, tmp_path: Path) -> None:
    knobs = {"learning_rate": 20.0, "lr_scheduler_type": "constant", "early_stopping_patience": 0}
    trainer = make_trainer(tmp_path / "c", max_steps=8, eval_steps=1, save_steps=8, **knobs)
    trainer.train()
    evals = [(e["eval_loss"], e["step"]) for e in trainer.state.log_history if "eval_loss" in e]
    loss, step = min(evals)
    assert step != 8, "this seed must be best before the planned checkpoint"
    assert (tmp_path / "c" / f"checkpoint-{step}").exists()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(loss, rel=1e-6)


def test_a_checkpoint_names_its_compute_type(make_trainer: Make, tmp_path: Path) -> None:
    make_trainer(tmp_path / "c", max_steps=2).train()
    assert compute_dtype(tmp_path / "c" / "checkpoint-2") == "float32"


def test_a_loss_that_is_no_number_stops_the_run(make_trainer: Make) -> None:
    trainer = make_trainer()
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(float("nan"))
    with pytest.raises(UserError, match="step 1: loss is nan"):
        trainer.train()


def test_bf16_compute_keeps_fp32_adapters(make_trainer: Make) -> None:
    trainer = make_trainer(dtype="bfloat16", max_steps=2)
    trainer.train()
    assert {w.dtype for w in weights(trainer).values()} == {torch.float32}
