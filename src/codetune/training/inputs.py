"""What a training run is made from, read and judged before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from codetune import models, tokens
from codetune.errors import UserError
from codetune.training.data import refuse_shared_groups
from codetune.training.recipe import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codetune.artefact import Input, Origin
    from codetune.config import Config
    from codetune.models import ModelFacts
    from codetune.tokens import Tokenizer


class Sources(Protocol):
    """The part of a run record that notes what was read."""

    def source(self, name: str, place: Path, sha256: str | None = None) -> Input:
        """Notes what lies at `place`, and returns it under `name`."""

    def origin(self, config: Config, inputs: Iterable[Input] = ()) -> Origin:
        """What decides the bytes of the adapter."""


@dataclass(frozen=True)
class Inputs:
    """Base, tokenizer, and what the adapter's bytes depend on."""

    facts: ModelFacts
    tok: Tokenizer
    origin: Origin


def read(config: TrainConfig, log: Sources) -> Inputs:
    """The inputs, noted in `log`. UserError for what is missing or does not fit together."""
    facts = models.inspect_model(models.find_model(config.model_name_or_path))
    tok = tokens.load(facts.path)
    if facts.longest and config.max_length > facts.longest:
        limit = f"{facts.path}: made for {facts.longest:,} tokens"
        raise UserError(f"{limit}, not {config.max_length:,}; lower --max_length")
    inputs = [
        log.source("train", config.train_file),
        log.source("eval", config.eval_file),
        log.source("base", facts.path, facts.weights_sha256),
        log.source("tokenizer", facts.path / "tokenizer.json", tok.fingerprint),
    ]
    return Inputs(facts, tok, log.origin(config, inputs))


def check(config: TrainConfig, log: Sources) -> None:
    """Refuses, in seconds, whatever `train` would refuse once it had begun. Changes nothing."""
    from codetune.training.checkpoints import refuse_other

    inputs = read(config, log)
    refuse_shared_groups(config.train_file, config.eval_file)
    if config.resume == "auto":
        folder = config.run_dir / "checkpoints"
        refuse_other(folder, inputs.origin, config.run_dir / "adapter")
