"""Tokenizers for these tests: small ones made on the spot, and the real Qwen2.5-Coder one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codetune import tokens
from tests.tokens.tiny_model import QWEN_TOKENS, build_model


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """`build_model` in the test's own folder."""
    return lambda *args, **more: build_model(tmp_path / "model", *args, **more)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tokens.Tokenizer:
    """A byte tokenizer with Qwen2.5-Coder's control tokens and a ChatML template."""
    return tokens.load(build_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def qwen_tokens() -> tuple[str, ...]:
    """The control tokens of `tiny`."""
    return QWEN_TOKENS


@pytest.fixture(scope="session")
def qwen(qwen_tokenizer: Path) -> tokens.Tokenizer:
    """The real tokenizer of Qwen2.5-Coder."""
    return tokens.load(qwen_tokenizer)


@pytest.fixture(scope="session")
def transformers_qwen(qwen_tokenizer: Path) -> Any:
    """The same, as transformers reads it: what ids are compared with."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(qwen_tokenizer)
