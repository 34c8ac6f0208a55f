"""A LoRA adapter folder as the low-rank deltas of named base weights.

Everything that would change the arithmetic of a merge (DoRA, whole trained modules, biases, ...)
is refused by name, and so is every option this module has never heard of: a merge is exact or it
does not happen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import tokens
from codetune.errors import RefusedError, UserError
from codetune.models.adapter_files import CONFIG, FACTS, WEIGHTS, read_adapter
from codetune.models.facts import ModelFacts

if TYPE_CHECKING:
    import torch

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
# Options that decide which weights were trained, or how, but not what a merge computes.
_HARMLESS = {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
    *("revision", "inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha"),
    *("lora_dropout", "use_rslora", "layers_to_transform", "layers_pattern", "rank_pattern"),
    *("alpha_pattern", "init_lora_weights", "megatron_core", "qalora_group_size"),
    *("runtime_config", "ensure_weight_tying"),
}
# How B and A started. The others (pissa, olora, loftq, ...) also change the base they belong to.
_PLAIN_STARTS = (None, True, False, "true", "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class Delta:
    """What is added to one weight [out, in]: scale * B [out, rank] @ A [rank, in], in float32."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight it belongs to."""
        return self.b.shape[0], self.a.shape[1]


@dataclass(frozen=True)
class Adapter:
    """An adapter folder: its configuration, and what training noted about the base."""

    path: Path
    config: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def base_name(self) -> str | None:
        """The base that it names, a folder or a hub name."""
        return self.facts.get("base_path") or self.config.get("base_model_name_or_path")

    @cached_property
    def deltas(self) -> dict[str, Delta]:
        """Deltas by the name of the weight they change; read when first asked for.

        UserError when the file is damaged or holds anything but pairs of LoRA factors.
        """
        return _deltas(self.path, self.config)


def load_adapter(path: Path) -> Adapter:
    """An adapter folder, checked but for its weights.

    UserError when it is none, holds pickles or code, or uses something that cannot be merged
    exactly; RefusedError when its manifest does not verify.
    """
    config, facts = read_adapter(path)
    if not (path / WEIGHTS).is_file():
        raise UserError(f"{path / WEIGHTS}: missing; only safetensors adapters are merged")
    refuse_inexact(path, config)
    return Adapter(path, config, facts)


def adapter_files(path: Path) -> tuple[Path, ...]:
    """The files of an adapter folder that decide what is merged, and into what."""
    return tuple(path / name for name in (CONFIG, WEIGHTS, FACTS) if (path / name).is_file())


def refuse_inexact(path: Path, config: Mapping[str, Any]) -> None:
    """UserError when the adapter is not plain LoRA, which alone is merged exactly."""
    if config.get("peft_type") != "LORA":
        raise UserError(f"{path}: is {config.get('peft_type')}, not LoRA; only LoRA is merged")
    start = config.get("init_lora_weights")
    if (start.lower() if isinstance(start, str) else start) not in _PLAIN_STARTS:
        raise UserError(f"{path}: init_lora_weights={start} changed its base; it cannot be merged")
    for option, value in config.items():
        is_off = value in (None, False, "none", 0) or value == {} or value == []
        if option not in _HARMLESS and not is_off:
            raise UserError(f"{path}: uses {option}, which is not merged exactly; train without it")


def check_base(adapter: Adapter, base: ModelFacts) -> str | None:
    """None when `base` is what the adapter was trained on, else a line of doubt.

    RefusedError when the recorded fingerprint of the base or of its tokenizer is another one;
    UserError for a quantised base.
    """
    if "quantization_config" in base.config:
        raise UserError(f"{base.path}: is quantised; pass the original 16-bit or 32-bit model")
    recorded = adapter.facts.get("base_sha256")
    if recorded is None:
        return f"{adapter.path}: names no base fingerprint; {base.path} is taken on trust"
    if recorded != base.weights_sha256:
        raise RefusedError(
            f"{adapter.path}: was trained on another base than {base.path} "
            f"(it was {adapter.base_name}); pass that one"
        )
    words = adapter.facts.get("tokenizer_sha256")
    if words is not None and words != tokens.load(base.path).fingerprint:
        raise RefusedError(
            f"{base.path}: its tokenizer or chat template is not the one {adapter.path} was "
            "trained with; put the original files back"
        )
    return None


def _deltas(path: Path, config: Mapping[str, Any]) -> dict[str, Delta]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path / WEIGHTS)
    except SafetensorError as problem:
        raise UserError(f"{path / WEIGHTS}: damaged ({problem}); train again") from None
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise UserError(f"{path}: {key} is no LoRA weight of a linear layer; cannot be merged")
        pairs.setdefault(match["module"], {})[match["part"]] = tensor.float()
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise UserError(f"{path}: {module} lacks a matching pair of lora_A and lora_B")
    if not pairs:
        raise UserError(f"{path}: holds no LoRA weights")
    return {
        f"{module}.weight": Delta(pair["A"], pair["B"], _scale(config, module, pair["A"].shape[0]))
        for module, pair in pairs.items()
    }


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv 2312.03732)."""
    alpha = float(config["lora_alpha"])
    for pattern, special in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            alpha = float(special)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
