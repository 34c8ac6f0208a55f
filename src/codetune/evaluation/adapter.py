"""What an adapter folder says about itself: its base, and how that base was loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from codetune.errors import UserError

FACTS = "codetune.json"
Quant = Literal["4bit", "8bit", "none"]


@dataclass(frozen=True)
class AdapterFacts:
    """None stands for what the folder does not say."""

    path: Path
    base_path: str | None
    quant: Quant | None
    max_length: int | None


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
    quant, longest = own.get("quant"), own.get("max_length")
    return AdapterFacts(
        path=path,
        base_path=own.get("base_path") or config.get("base_model_name_or_path"),
        quant=cast("Quant", quant) if quant in ("4bit", "8bit", "none") else None,
        max_length=longest if isinstance(longest, int) else None,
    )


def _object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{file}: not a JSON object; the folder is broken, train it again")
    return value
