"""The published adapter: weights, tokenizer, and what they were trained on and from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from codetune import artefact, sample
from codetune.artefact import Origin
from codetune.models import ModelFacts
from codetune.tokens import Tokenizer

# Files an adapter folder needs to be served by itself.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
FACTS_FILE = "codetune.json"


def publish_adapter(
    model: Any, facts: ModelFacts, tok: Tokenizer, final: Path, origin: Origin
) -> Path:
    """Writes the adapter folder atomically; returns it.

    Its `codetune.json` names the base by fingerprint, so that merging into another is refused.
    """
    about = {
        "base_path": str(facts.path),
        "base_sha256": facts.weights_sha256,
        "tokenizer_sha256": tok.fingerprint,
        "chat_template_sha256": sample.digest(tok.template.source, n=64) if tok.template else None,
    }
    with artefact.staged_directory(final, origin) as staging:
        model.save_pretrained(staging)
        (staging / "README.md").unlink(missing_ok=True)
        for name in _TOKENIZER_FILES:
            if (facts.path / name).exists():
                shutil.copyfile(facts.path / name, staging / name)
        text = json.dumps(about, indent=1)
        artefact.write_plain(staging / FACTS_FILE, text)
    return final


def read_facts(adapter: Path) -> dict[str, Any]:
    """What `publish_adapter` noted; empty for an adapter made by another tool."""
    file = adapter / FACTS_FILE
    if not file.exists():
        return {}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
