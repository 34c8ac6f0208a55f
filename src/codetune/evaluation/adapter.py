"""What an adapter folder says about itself: its base, and how that base was loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from codetune import artefact, console, models
from codetune.errors import RefusedError, UserError
from codetune.models import ModelFacts
from codetune.models.adapter_files import CONFIG, WEIGHTS, read_adapter
from codetune.models.load import Quant

_FILES = (CONFIG, WEIGHTS)


@dataclass(frozen=True)
class AdapterFacts:
    """None stands for what the folder does not say; of 4 bits the usual kind is assumed."""

    path: Path
    base_path: str | None
    base_sha256: str | None
    quant: Quant | None
    quant_type: str = "nf4"
    double_quant: bool = True

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

    UserError when the folder is missing, no adapter, or broken; RefusedError when it was changed.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such adapter folder; train one with ./scripts.sh train")
    config, own = read_adapter(path)
    quant = own.get("quant")
    return AdapterFacts(
        path=path,
        base_path=own.get("base_path") or config.get("base_model_name_or_path"),
        base_sha256=own.get("base_sha256"),
        quant=cast("Quant", quant) if quant in ("4bit", "8bit", "none") else None,
        quant_type=str(own.get("bnb_4bit_quant_type", "nf4")),
        double_quant=own.get("bnb_4bit_use_double_quant", True) is True,
    )


def base_of(adapter: AdapterFacts, name: str | None) -> ModelFacts:
    """The base to run the adapter on: the one named, or the one the adapter names, said aloud.

    UserError when there is none, or when the adapter was trained on another one.
    """
    typed, name = name is not None, name or adapter.base_path
    if name is None:
        raise UserError(f"{adapter.path}: does not name its base; pass --model_name_or_path")
    if not typed:
        console.say(f"base of {adapter.path}: {name}")
    base = models.inspect_model(models.find_model(name, download=typed))
    if adapter.base_sha256 is not None and adapter.base_sha256 != base.weights_sha256:
        raise UserError(
            f"{adapter.path}: was trained on another base than {base.path} (its weights differ); "
            f"pass the right --model_name_or_path (it was {adapter.base_path})"
        )
    return base


def check_held_out(adapter: AdapterFacts, eval_file: Path, sha256: str) -> None:
    """Refuses rows that the adapter was trained on; warns of rows it did not hold out itself."""
    if not artefact.manifest_path(adapter.path).exists():
        return
    inputs = artefact.read_manifest(adapter.path).get("inputs", [])
    made_from = {entry["path"]: entry["sha256"] for entry in inputs}
    if sha256 == made_from.get("train"):
        raise RefusedError(f"{eval_file}: {adapter.path} was trained on these rows")
    if sha256 != made_from.get("eval", sha256):
        console.warn(
            f"{eval_file} is not what {adapter.path} held out; rows it has trained on flatter it"
        )
