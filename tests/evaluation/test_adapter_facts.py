"""What an adapter folder says about itself, and which base it accepts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from codetune import models
from codetune.errors import UserError
from codetune.evaluation import adapter


@pytest.fixture
def folder(good_adapter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good_adapter, tmp_path / "outputs" / "mine" / "adapter"))


def say(folder: Path, **facts: object) -> adapter.AdapterFacts:
    (folder / "codetune.json").write_text(json.dumps(facts))
    return adapter.read(folder)


def test_an_adapter_of_another_tool_names_its_base(folder: Path, tiny_base: Path) -> None:
    facts = adapter.read(folder)
    assert facts.base_path == str(tiny_base)
    assert facts.base_sha256 is None and facts.quant is None
    assert facts.quant_of("auto") == "4bit" and facts.quant_of("none") == "none"
    assert adapter.base_of(facts, None).path == tiny_base


def test_our_own_facts_win(folder: Path, tiny_base: Path) -> None:
    sha = models.inspect_model(tiny_base).weights_sha256
    facts = say(folder, base_path="elsewhere", base_sha256=sha, quant="none")
    assert (facts.base_path, facts.quant_of("auto")) == ("elsewhere", "none")
    assert adapter.base_of(facts, str(tiny_base)).path == tiny_base


def test_the_kind_of_4_bits_is_read_too(folder: Path) -> None:
    usual = adapter.read(folder)
    assert (usual.quant_type, usual.double_quant) == ("nf4", True)
    other = say(folder, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False)
    assert (other.quant_type, other.double_quant) == ("fp4", False)


def test_another_base_is_refused_and_the_right_one_named(folder: Path, tiny_base: Path) -> None:
    facts = say(folder, base_path="the/right/one", base_sha256="0" * 64)
    with pytest.raises(UserError, match=r"another base.*the/right/one"):
        adapter.base_of(facts, str(tiny_base))


def test_the_run_is_read_from_the_path(folder: Path) -> None:
    assert adapter.read(folder).run_name == "mine"
    assert adapter.read(folder.rename(folder.parent / "other")).run_name == "other"


def test_the_hash_follows_weights_and_config_and_not_the_place(folder: Path) -> None:
    first = adapter.read(folder).sha256
    moved = adapter.read(Path(shutil.copytree(folder, folder.parent / "copy")))
    assert moved.sha256 == first
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert adapter.read(folder).sha256 != first


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: shutil.rmtree(f), "no such adapter folder"),
        (lambda f: (f / "adapter_config.json").unlink(), "is this an adapter folder"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "not a JSON object"),
        (lambda f: (f / "codetune.json").write_text("[]"), "not a JSON object"),
    ],
)
def test_what_is_no_adapter_is_a_user_error(folder: Path, spoil: object, message: str) -> None:
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(UserError, match=message):
        adapter.read(folder)


def test_an_adapter_without_a_base_asks_for_one(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": None})
    )
    with pytest.raises(UserError, match="--model_name_or_path"):
        adapter.base_of(adapter.read(folder), None)
