"""A tiny base, rows, and a trainer built as the stage builds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codetune import models, tokens
from codetune.artefact import Origin
from codetune.training.assemble import Work, build_trainer
from codetune.training.data import token_table
from codetune.training.recipe import TrainConfig
from tests.evaluation import tiny

ORIGIN = Origin("train", 1, "recipe")
QUICK = {
    "max_length": 96,
    "max_steps": 4,
    "eval_steps": 2,
    "save_steps": 2,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 2,
    "gradient_checkpointing": False,
    "lora_r": 4,
    "dtype": "float32",
    "device": "cpu",
}


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random, tiny model and its tokenizer."""
    return tiny.make_base(tmp_path_factory.mktemp("tiny") / "base", steps=0)


@pytest.fixture(scope="session")
def row_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(train, eval) row files."""
    folder = tmp_path_factory.mktemp("rows")
    train = tiny.write_rows(folder / "train.jsonl", tiny.house_rows(24))
    return train, tiny.write_rows(folder / "eval.jsonl", tiny.house_rows(8, first=100))


@pytest.fixture
def make_trainer(
    tiny_base: Path, row_files: tuple[Path, Path], tmp_path: Path
) -> Callable[..., Any]:
    """Builds a trainer; keyword arguments are knobs of the recipe."""

    def make(folder: Path = tmp_path / "checkpoints", **knobs: Any) -> Any:
        config = TrainConfig(model_name_or_path=str(tiny_base), **{**QUICK, **knobs})
        tok = tokens.load(tiny_base)
        tables = [token_table(f, tok, config.max_length, tmp_path / "tokens") for f in row_files]
        facts = models.inspect_model(tiny_base)
        work = Work(config, facts, tok, tables[0], tables[1], ORIGIN)
        loaded = models.load_base(tiny_base, config.quant, config.dtype, "cpu")
        return build_trainer(work, loaded, folder, measure_base=False)

    return make
