"""Greedy completions: the same alone and in a batch, and free of a model's own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codetune import models, tokens
from codetune.evaluation.generate import complete
from tests.evaluation import tiny


@pytest.fixture(scope="module")
def tok(tiny_base: Path) -> tokens.Tokenizer:
    return tokens.load(tiny_base)


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Any:
    return models.load_base(tiny_base, "none", "float32", "cpu").model


@pytest.fixture(scope="module")
def prompts(tok: tokens.Tokenizer) -> list[tokens.Prompt]:
    rows = [*tiny.general_rows(4), tiny.chat_row(50, "how do I get a row? " * 4, "so")]
    return [tokens.prompt(row, tok, 256) for row in rows]


def texts(model: Any, prompts: list[tokens.Prompt], tok: tokens.Tokenizer, **how: Any) -> list[str]:
    return [made.text for made in complete(model, prompts, tok, **{"max_new_tokens": 16, **how})]


def test_batched_equals_one_by_one_in_the_order_given(
    model: Any, prompts: list[tokens.Prompt], tok: tokens.Tokenizer
) -> None:
    assert len({len(prompt.input_ids) for prompt in prompts}) > 2  # so that padding matters
    batched = texts(model, prompts, tok, batch_size=8)
    assert batched == texts(model, prompts, tok, batch_size=1)
    assert batched[::-1] == texts(model, prompts[::-1], tok, batch_size=3)


def test_the_model_writes_what_it_was_taught_and_stops(
    model: Any, prompts: list[tokens.Prompt], tok: tokens.Tokenizer
) -> None:
    fim, chat = complete(model, prompts[:2], tok, max_new_tokens=24)
    assert fim.stopped and chat.stopped
    assert fim.text.startswith("    found = value.") and fim.text.endswith("()")
    assert chat.text.startswith("use ")
    assert not any(special in fim.text + chat.text for special in tiny.SPECIALS)


def test_a_token_limit_is_kept_and_told(
    model: Any, prompts: list[tokens.Prompt], tok: tokens.Tokenizer
) -> None:
    cut = complete(model, prompts[:1], tok, max_new_tokens=2)[0]
    assert (cut.n_tokens, cut.stopped) == (2, False)


def test_a_models_own_generation_settings_are_set_aside_and_put_back(
    tiny_base: Path, prompts: list[tokens.Prompt], tok: tokens.Tokenizer, model: Any
) -> None:
    """Qwen2.5 Instruct ships a repetition penalty and sampling in generation_config.json."""
    other = models.load_base(tiny_base, "none", "float32", "cpu").model
    own = other.generation_config
    own.update(repetition_penalty=5.0, do_sample=True, temperature=3.0, no_repeat_ngram_size=1)
    assert texts(other, prompts, tok) == texts(model, prompts, tok)
    assert other.generation_config is own
    assert own.repetition_penalty == 5.0


def test_prompts_with_other_stop_tokens_are_not_mixed(
    model: Any, prompts: list[tokens.Prompt], tok: tokens.Tokenizer
) -> None:
    endless = tokens.Prompt(prompts[0].input_ids, "", [])
    patient = tokens.Prompt(prompts[0].input_ids, "", [tok.special("<|fim_pad|>")])
    made = complete(model, [prompts[0], patient], tok, max_new_tokens=20)
    assert made[0].stopped and not made[1].stopped
    assert made[1].text.startswith(made[0].text)
    assert not complete(model, [endless], tok, max_new_tokens=20)[0].stopped


def test_an_adapter_changes_completions_and_disabling_it_gives_the_base(
    tiny_base: Path,
    good_adapter: Path,
    prompts: list[tokens.Prompt],
    tok: tokens.Tokenizer,
    model: Any,
) -> None:
    loaded = models.load_base(tiny_base, "none", "float32", "cpu")
    tuned = models.attach_adapter(loaded, good_adapter)
    assert "title" in texts(tuned, prompts[:1], tok)[0]
    with tuned.disable_adapter():
        assert texts(tuned, prompts, tok) == texts(model, prompts, tok)


def test_no_prompts_no_completions(model: Any, tok: tokens.Tokenizer) -> None:
    assert complete(model, [], tok, max_new_tokens=4) == []
