"""Bases and adapters, loaded so that what is measured is what was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from codetune.errors import UserError
from codetune.models.adapter_files import read_adapter
from codetune.models.dtype import choose_dtype, dtype_name, pick_device
from codetune.models.facts import inspect_model

if TYPE_CHECKING:
    import torch

Quant = Literal["4bit", "8bit", "none"]


@dataclass(frozen=True)
class LoadedModel:
    """A frozen base in eval mode; `model` is a transformers causal language model."""

    model: Any
    path: Path
    device: str
    dtype: torch.dtype
    reason: str
    quant: Quant

    @property
    def dtype_name(self) -> str:
        """The compute type's name, such as `bfloat16`."""
        return dtype_name(self.dtype)

    def __str__(self) -> str:
        """How it was loaded, for a person."""
        return f"{self.quant} on {self.device}, computing in {self.dtype_name} ({self.reason})"


def load_base(
    path: Path,
    quant: Quant = "4bit",
    dtype: str = "auto",
    device: str = "auto",
    *,
    quant_type: str = "nf4",
    double_quant: bool = True,
) -> LoadedModel:
    """Loads a causal language model from a folder that passed `inspect_model`.

    `quant`: 4bit (NF4 with double quantisation by default), 8bit (LLM.int8) or none.
    """
    import transformers
    from transformers.utils import logging as bars

    inspect_model(path)
    place = pick_device(device)
    choice = choose_dtype(place, dtype)
    cast(Any, bars).disable_progress_bar()
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            path,
            dtype=choice.dtype,
            device_map={"": place},
            attn_implementation="sdpa",
            quantization_config=_quantisation(quant, choice.dtype, quant_type, double_quant),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        )
    except (ValueError, KeyError) as problem:
        raise UserError(f"{path}: cannot be loaded: {_first_line(problem)}") from None
    make_safe_for_cpu(model)
    model.requires_grad_(False)
    model.eval()
    return LoadedModel(model, Path(path), place, choice.dtype, choice.reason, quant)


def attach_adapter(loaded: LoadedModel, adapter: Path) -> Any:
    """The base with a LoRA adapter on it (fp32 adapter weights, eval mode, frozen).

    `with model.disable_adapter():` is then the exact base. UserError when it does not fit.
    """
    from peft import PeftModel

    read_adapter(adapter)
    try:
        model: Any = PeftModel.from_pretrained(loaded.model, adapter, is_trainable=False)
    except (RuntimeError, ValueError) as problem:
        first = _first_line(problem)
        raise UserError(f"{adapter}: does not fit {loaded.path}: {first}") from None
    model.eval()
    return model


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__)


def make_safe_for_cpu(model: Any) -> int:
    """Keeps bitsandbytes from repacking 4-bit weights on CPUs; returns how many were found.

    On AVX512-BF16 cores the first no-grad forward in eval mode repacks every `Linear4bit` in
    place; after that gradients are wrong and the disabled adapter is not the base any more.
    """
    from bitsandbytes.nn.modules import Linear4bit

    layers = [m for m in model.modules() if isinstance(m, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def _quantisation(quant: Quant, dtype: torch.dtype, quant_type: str, double_quant: bool) -> Any:
    import transformers

    made: Any = transformers.BitsAndBytesConfig
    if quant == "none":
        return None
    if quant == "8bit":
        return made(load_in_8bit=True)
    return made(
        load_in_4bit=True,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=dtype,
    )
