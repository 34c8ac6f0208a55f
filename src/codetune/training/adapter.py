"""The published adapter: weights, tokenizer, and what they were trained on and from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from codetune import artefact, sample
from codetune.models.adapter_files import FACTS
from codetune.training.assemble import Work
from codetune.training.statefile import full_disk_is_told

# Files an adapter folder needs to be served by itself.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def publish_adapter(model: Any, work: Work, final: Path) -> Path:
    """Writes the adapter folder atomically; returns it.

    Its `codetune.json` names the base by fingerprint, so that merging into another is refused.
    """
    facts, tok = work.facts, work.tok
    about = {
        "base_path": str(facts.path),
        "base_sha256": facts.weights_sha256,
        "quant": work.config.quant,
        "bnb_4bit_quant_type": work.config.bnb_4bit_quant_type,
        "bnb_4bit_use_double_quant": work.config.bnb_4bit_use_double_quant,
        "tokenizer_sha256": tok.fingerprint,
        "chat_template_sha256": sample.digest(tok.template.source, n=64) if tok.template else None,
    }
    staged = artefact.staged_directory(final, work.origin)
    with staged as staging, full_disk_is_told(final):
        model.save_pretrained(staging)
        (staging / "README.md").unlink(missing_ok=True)
        for name in _TOKENIZER_FILES:
            if (facts.path / name).exists():
                shutil.copyfile(facts.path / name, staging / name)
        artefact.write_plain(staging / FACTS, json.dumps(about, indent=1))
    return final
