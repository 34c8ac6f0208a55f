"""Losses row by row: equal to plain full logits, whatever the batch, the padding or the adapter."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codetune import models, tokens
from codetune.errors import UserError
from codetune.evaluation.loss import RowLoss, batches, score
from tests.evaluation import tiny


@pytest.fixture(scope="module")
def rows(tiny_base: Path) -> list[tokens.Tokens]:
    tok = tokens.load(tiny_base)
    mixed = [*tiny.house_rows(9), tiny.fim_row(99, "x", "    found = " + "value + " * 30)]
    return [tokens.tokenise(row, tok, 512) for row in mixed]


@pytest.fixture
def model(tiny_base: Path) -> Any:
    return models.load_base(tiny_base, "none", "float32", "cpu").model


def one_by_one(model: Any, rows: list[tokens.Tokens]) -> list[RowLoss]:
    """The reference: full logits in fp64, no batch, no padding, torch's own cross entropy."""
    found = []
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].double()
            labels = torch.tensor(row.labels[1:])
            total = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            found.append(RowLoss(float(total), row.trained))
    return found


def assert_close(found: list[RowLoss], wanted: list[RowLoss], rel: float = 1e-5) -> None:
    assert [loss.count for loss in found] == [loss.count for loss in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.total == pytest.approx(theirs.total, rel=rel, abs=1e-4)


@pytest.mark.parametrize("budget", [1, 64, 300, 100_000])
def test_losses_equal_those_of_full_logits_one_by_one(
    model: Any, rows: list[tokens.Tokens], budget: int
) -> None:
    assert_close(score(model, rows, tokens_per_batch=budget), one_by_one(model, rows))


def test_losses_with_an_adapter_on_and_off(
    tiny_base: Path, good_adapter: Path, rows: list[tokens.Tokens], model: Any
) -> None:
    loaded = models.load_base(tiny_base, "none", "float32", "cpu")
    tuned = models.attach_adapter(loaded, good_adapter)
    assert_close(score(tuned, rows), one_by_one(tuned, rows))
    with tuned.disable_adapter():
        off = score(tuned, rows)
    assert [loss.total for loss in off] == [loss.total for loss in score(model, rows)]
    assert [loss.total for loss in off] != [loss.total for loss in score(tuned, rows)]


def test_losses_of_a_4bit_base_are_those_of_the_base_alone_after_the_adapter_was_used(
    tiny_base: Path, good_adapter: Path, rows: list[tokens.Tokens]
) -> None:
    alone = score(models.load_base(tiny_base, "4bit", "float32", "cpu").model, rows)
    loaded = models.load_base(tiny_base, "4bit", "float32", "cpu")
    tuned = models.attach_adapter(loaded, good_adapter)
    score(tuned, rows)
    with tuned.disable_adapter():
        assert_close(score(tuned, rows), alone, rel=1e-7)


def test_a_row_is_scored_alike_whatever_else_is_in_the_file(
    model: Any, rows: list[tokens.Tokens]
) -> None:
    together = score(model, rows)
    for place in (0, len(rows) - 1):
        assert_close(score(model, [rows[place]]), [together[place]])


def test_the_head_is_applied_to_trained_positions_alone(
    model: Any, rows: list[tokens.Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    head = model.get_output_embeddings()
    monkeypatch.setattr(
        head, "forward", lambda x, f=head.forward: (seen.append(x.shape[:-1].numel()), f(x))[1]
    )
    score(model, rows, tokens_per_batch=10_000)
    trained = sum(row.trained for row in rows)
    probing = 2 * 9  # the check that the short way is exact: both ways over nine tokens
    assert trained <= sum(seen) <= trained + probing


def test_a_model_that_processes_its_logits_is_scored_by_its_own_logits(
    model: Any, rows: list[tokens.Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands for Gemma 2's softcapping or Cohere's scale, which a bare head would miss."""
    plain = model.forward

    def softcapped(**given: Any) -> Any:
        return SimpleNamespace(logits=torch.tanh(plain(**given).logits / 2) * 2)

    unchanged = score(model, rows)
    monkeypatch.setattr(model, "forward", softcapped)
    found = score(model, rows)
    assert_close(found, one_by_one(model, rows))
    assert found[0].total != pytest.approx(unchanged[0].total, rel=1e-3)


def test_a_loss_that_is_not_finite_is_a_user_error(
    model: Any, rows: list[tokens.Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not a finite number"):
        score(model, rows)


def test_progress_counts_every_row_once_and_nothing_is_nothing(
    model: Any, rows: list[tokens.Tokens]
) -> None:
    done: list[int] = []
    score(model, rows, tokens_per_batch=128, done=done.append)
    assert sum(done) == len(rows)
    assert len(done) > 1
    assert score(model, []) == []


def test_scoring_leaves_the_model_trainable(model: Any, rows: list[tokens.Tokens]) -> None:
    score(model, rows)
    model.requires_grad_(True)
    ids = torch.tensor([rows[0].input_ids])
    model(input_ids=ids, labels=ids).loss.backward()


@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 1000))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    made = list(batches(lengths, budget))
    assert sorted(place for batch in made for place in batch) == list(range(len(lengths)))
    for batch in made:
        widest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or widest * len(batch) <= budget
    longest = [max(lengths[place] for place in batch) for batch in made]
    assert longest == sorted(longest, reverse=True)
