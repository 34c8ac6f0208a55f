"""State goes to safetensors and comes back as it was."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codetune.errors import UserError
from codetune.training.statefile import load_state, save_state

_PLAIN = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8)
_KEYS = st.text(max_size=5) | st.integers(-5, 5) | st.booleans()
_STATE = st.recursive(
    _PLAIN | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_KEYS, inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


@given(_STATE)
def test_plain_state_survives(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    file = tmp_path_factory.mktemp("state") / "x.safetensors"
    save_state(file, state)
    found = load_state(file)
    assert found == state and repr(found) == repr(state)


@pytest.mark.parametrize("optimizer", ["adamw", "adam8bit"])
def test_optimizer_state_survives(tmp_path: Path, optimizer: str) -> None:
    import bitsandbytes as bnb

    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(64, 128))
    made = torch.optim.AdamW([weight], lr=0.1)
    if optimizer == "adam8bit":
        made = bnb.optim.AdamW8bit([weight], lr=0.1)
    for _ in range(3):
        weight.grad = torch.randn_like(weight)
        made.step()
    save_state(tmp_path / "x.safetensors", made.state_dict())
    found, kept = load_state(tmp_path / "x.safetensors"), made.state_dict()
    assert _flat(found) == _flat(kept)
    made.load_state_dict(found)


def test_random_states_survive(tmp_path: Path) -> None:
    state = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }
    save_state(tmp_path / "rng.safetensors", state)
    expected = random.random(), np.random.random(), torch.rand(1).item()
    found = load_state(tmp_path / "rng.safetensors")
    random.setstate(found["python"])
    np.random.set_state(found["numpy"])
    torch.set_rng_state(found["torch"])
    assert (random.random(), np.random.random(), torch.rand(1).item()) == expected


def test_shared_tensors_are_kept_once(tmp_path: Path) -> None:
    shared = torch.arange(5)
    save_state(tmp_path / "x.safetensors", {"a": shared, "b": [shared]})
    found = load_state(tmp_path / "x.safetensors")
    assert found["a"] is found["b"][0]


def test_foreign_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Path"):
        save_state(tmp_path / "x.safetensors", {"a": tmp_path})


@pytest.mark.parametrize("damage", ["missing", "empty", "half", "no tree"])
def test_damage_is_one_line(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "x.safetensors"
    save_state(file, {"a": torch.ones(100)})
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "no tree":
        file.write_bytes(whole.replace(b'"tree"', b'"tr__"'))
    else:
        file.write_bytes(b"" if damage == "empty" else whole[: len(whole) // 2])
    with pytest.raises(UserError, match="checkpoint state cannot be read"):
        load_state(file)


def _flat(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return {key: _flat(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_flat(item) for item in value)
    return value
