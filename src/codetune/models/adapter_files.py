"""The files of an adapter folder, for whoever publishes, measures or merges one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from codetune import artefact
from codetune.errors import RefusedError, UserError
from codetune.models.facts import refuse_unsafe

WEIGHTS, CONFIG, FACTS = "adapter_model.safetensors", "adapter_config.json", "codetune.json"


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(PEFT's configuration, what our training noted or {}) of an adapter folder.

    UserError when it is none, is broken, or holds pickles or code; RefusedError when it has a
    manifest that does not verify.
    """
    config = _object(folder / CONFIG)
    refuse_unsafe(folder)
    if artefact.manifest_path(folder).exists() and (wrong := artefact.verify(folder)):
        raise RefusedError(f"{wrong}; train the adapter again")
    return config, _object(folder / FACTS) if (folder / FACTS).is_file() else {}


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{file}: missing; is this an adapter folder?") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{file}: not a JSON object; the folder is broken, train it again")
    return found
