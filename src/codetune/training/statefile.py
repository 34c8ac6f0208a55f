"""Nested Python state in one safetensors file, so that resuming unpickles nothing.

Tensors and numpy arrays are its tensors; the structure around them is JSON in its metadata.
Tuples, dictionaries with keys that are no strings, and shared tensors come back as they were.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codetune.errors import UserError

_TREE = "tree"


@contextmanager
def full_disk_is_told(target: Path) -> Iterator[None]:
    """Turns safetensors' own error for a full disk into the line that every other write gives."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as problem:
        if "os error 28" not in str(problem) and "os error 27" not in str(problem):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from None


def save_state(file: Path, state: Any) -> None:
    """Writes `state` to a .safetensors file. TypeError for objects of a foreign type."""
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    tree = _packed(state, tensors, {})
    save_file(tensors, file, metadata={_TREE: json.dumps(tree, separators=(",", ":"))})


def load_state(file: Path) -> Any:
    """What `save_state` wrote; UserError when the file is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            tree = json.loads(opened.metadata()[_TREE])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as problem:
        raise UserError(f"{file}: checkpoint state cannot be read: {problem}") from None
    return _unpacked(tree, tensors)


def _packed(value: Any, tensors: dict[str, Any], seen: dict[int, str]) -> Any:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        name = seen.setdefault(id(value), f"t{len(seen)}")
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"!": "tensor", "v": name}
    if isinstance(value, np.ndarray):
        name = f"t{len(seen)}"
        seen[id(value)] = name
        tensors[name] = torch.from_numpy(value.copy())
        return {"!": "array", "v": name}
    if isinstance(value, (tuple, list)):
        items = [_packed(item, tensors, seen) for item in value]
        return {"!": "tuple", "v": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        pairs = [[_packed(k, tensors, seen), _packed(v, tensors, seen)] for k, v in value.items()]
        return {"!": "dict", "v": pairs}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot keep a {type(value).__name__} in a checkpoint")


def _unpacked(tree: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(tree, list):
        return [_unpacked(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kind, value = tree["!"], tree["v"]
    if kind == "tensor":
        return tensors[value]
    if kind == "array":
        return tensors[value].numpy()
    if kind == "tuple":
        return tuple(_unpacked(item, tensors) for item in value)
    return {_unpacked(k, tensors): _unpacked(v, tensors) for k, v in value}
