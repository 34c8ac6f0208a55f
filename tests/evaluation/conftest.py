"""The tiny base and its adapters, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation import tiny


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real, tiny model and tokenizer."""
    return tiny.make_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def good_adapter(tiny_base: Path) -> Path:
    """Tuned on the habits that the held-out rows have."""
    folder = tiny_base.parent / "good" / "adapter"
    return tiny.make_adapter(tiny_base, folder, tiny.house_rows(), steps=12)
