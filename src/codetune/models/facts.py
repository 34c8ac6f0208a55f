"""What a model folder is, read from its files alone, and what is refused before loading."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from codetune.artefact import sha256_file
from codetune.errors import UserError

# Code and pickles run when they are loaded; `trust_remote_code=False` alone is no boundary.
_CODE = ("*.py", "*.pyc", "*.so")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_DOWNLOADED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "LICENSE*"]


@dataclass(frozen=True)
class ModelFacts:
    """A model folder that may be loaded."""

    path: Path
    config: dict[str, Any]

    @property
    def model_type(self) -> str:
        """The architecture's name in transformers, such as `qwen2`."""
        return str(self.config.get("model_type", ""))

    @property
    def dtype(self) -> str:
        """The type its weights are stored in, as the config says."""
        return str(self.config.get("dtype") or self.config.get("torch_dtype") or "float32")

    @property
    def longest(self) -> int | None:
        """How many tokens the model was made for, where its config says so."""
        found = self.config.get("max_position_embeddings")
        return found if isinstance(found, int) else None

    @property
    def weight_files(self) -> list[Path]:
        """Its safetensors files, sorted."""
        return sorted(self.path.glob("*.safetensors"))

    @property
    def weight_bytes(self) -> int:
        """Size of its weights on disk."""
        return sum(file.stat().st_size for file in self.weight_files)

    @cached_property
    def n_parameters(self) -> int:
        """Number of stored parameters, from the safetensors headers."""
        return sum(_parameters_in(file) for file in self.weight_files)

    @cached_property
    def weights_sha256(self) -> str:
        """A fingerprint of config and weights: every byte counts.

        Files of the hub's cache are named by their own SHA-256, which then need not be read.
        """
        joined = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for file in self.weight_files:
            named = file.resolve().name
            content = named if re.fullmatch(r"[0-9a-f]{64}", named) else sha256_file(file)
            joined.update(f"{file.name}={content};".encode())
        return joined.hexdigest()


def find_model(name: str, *, download: bool = True) -> Path:
    """The folder of a model given by path or by hub name.

    A hub name is looked up in the local cache, then downloaded (safetensors and JSON only) if
    `download`: names that a person did not type are only looked up. UserError when not found.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not _HUB_NAME.fullmatch(name) or folder.is_absolute():
        raise UserError(f"{name}: no such model folder; pass a folder or a hub name like org/model")
    return _from_hub(name, download)


def inspect_model(path: Path | str) -> ModelFacts:
    """The facts of a model folder.

    UserError when it is missing, has no safetensors weights, or carries code or pickles.
    """
    folder = Path(path)
    config_file = folder / "config.json"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder; check --model_name_or_path")
    if not config_file.exists():
        raise UserError(f"{folder}: no config.json; is this a model folder?")
    try:
        config = json.loads(config_file.read_bytes())
    except ValueError:
        raise UserError(f"{config_file}: not JSON; download the model again") from None
    facts = ModelFacts(folder, config)
    refuse_unsafe(folder)
    if not facts.weight_files:
        raise UserError(f"{folder}: no *.safetensors weights; only safetensors are loaded")
    return facts


def refuse_unsafe(folder: Path) -> None:
    """UserError when a model or adapter folder holds code, pickles, or asks for remote code."""
    for patterns, what in ((_CODE, "code"), (_PICKLES, "a pickle")):
        for pattern in patterns:
            found = next(iter(sorted(folder.glob(pattern))), None)
            if found is not None:
                raise UserError(f"{found}: {what} in a model folder is never loaded; remove it")
    for file in sorted(folder.glob("*.json")):
        if file.stat().st_size < 1 << 20 and _asks_for_code(file):
            raise UserError(f"{file}: asks for remote code (auto_map); this model is not loaded")


def _asks_for_code(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and bool({"auto_map", "trust_remote_code"} & set(content))


def _parameters_in(file: Path) -> int:
    with file.open("rb") as source:
        (length,) = struct.unpack("<Q", source.read(8))
        header = json.loads(source.read(length))
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    total = 0
    for shape in shapes:
        size = 1
        for side in shape:
            size *= side
        total += size
    return total


def _from_hub(name: str, download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(name, allow_patterns=_DOWNLOADED, local_files_only=True)
        if any(Path(found).glob("*.safetensors")):
            return Path(found)
    except (LocalEntryNotFoundError, FileNotFoundError):
        pass
    if not download:
        raise UserError(f"{name}: not on this machine; pass --model_name_or_path to fetch it")
    try:
        return Path(snapshot_download(name, allow_patterns=_DOWNLOADED))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as problem:
        why = type(problem).__name__
        raise UserError(
            f"{name}: not on this machine and not to be had from the hub ({why}); "
            "check the name and the network, or pass a local folder"
        ) from None
