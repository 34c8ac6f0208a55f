"""What an adapter folder says about itself: its base, and how that base was loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from codetune import artefact, console, models
from codetune.errors import UserError
from codetune.models import ModelFacts
from codetune.models.load import Quant

FACTS = "codetune.json"
_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class AdapterFacts:
    """None stands for what the folder does not say."""

    path: Path
    base_path: str | None
    base_sha256: str | None
    quant: Quant | None

    @property
    def sha256(self) -> str:
        """A hash of its config and weights."""
        files = [self.path / name for name in _FILES if (self.path / name).is_file()]
        digests = [f"{file.name}={artefact.sha256_file(file)}" for file in files]
        return hashlib.sha256(";".join(digests).encode()).hexdigest()

    @property
    def run_name(self) -> str:
        """The run it belongs to: `outputs/<run>/adapter`, or the folder's own name."""
        place = self.path.absolute()
        return place.parent.name if place.name == "adapter" else place.name

    def quant_of(self, wanted: str) -> Quant:
        """How to load the base: `auto` is as the adapter was trained, or else 4bit."""
        return self.quant or "4bit" if wanted == "auto" else cast("Quant", wanted)


def read(path: Path) -> AdapterFacts:
    """The facts of an adapter folder; one of another tool says less.

    UserError when the folder is missing, no adapter, or broken.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such adapter folder; train one with ./scripts.sh train")
    config_file = path / "adapter_config.json"
    if not config_file.is_file():
        raise UserError(f"{config_file}: missing; is this an adapter folder?")
    config = _object(config_file)
    own = _object(path / FACTS) if (path / FACTS).is_file() else {}
    quant = own.get("quant")
    return AdapterFacts(
        path=path,
        base_path=own.get("base_path") or config.get("base_model_name_or_path"),
        base_sha256=own.get("base_sha256"),
        quant=cast("Quant", quant) if quant in ("4bit", "8bit", "none") else None,
    )


def base_of(adapter: AdapterFacts, name: str | None) -> ModelFacts:
    """The base to run the adapter on: the one named, or the one the adapter names, said aloud.

    UserError when there is none, or when the adapter was trained on another one.
    """
    if name is None:
        name = adapter.base_path
        console.say(f"base of {adapter.path}: {name}")
    if name is None:
        raise UserError(f"{adapter.path}: does not name its base; pass --model_name_or_path")
    base = models.inspect_model(models.find_model(name))
    if adapter.base_sha256 is not None and adapter.base_sha256 != base.weights_sha256:
        raise UserError(
            f"{adapter.path}: was trained on another base than {base.path} (its weights differ); "
            f"pass the right --model_name_or_path (it was {adapter.base_path})"
        )
    return base


def _object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{file}: not a JSON object; the folder is broken, train it again")
    return value
