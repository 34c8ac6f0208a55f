"""Whether a model fits into the memory there is, estimated before it is loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from codetune.errors import UserError

if TYPE_CHECKING:
    from codetune.models import ModelFacts
    from codetune.models.load import Quant

QUANTS: tuple[Quant, ...] = ("none", "8bit", "4bit")
# Bytes a weight of a linear layer takes: NF4 with double quantisation is 4.127 bits.
_LINEAR_BYTES = {"4bit": 0.52, "8bit": 1.02}
_MARGIN = 1.05
_RUNTIME_BYTES = 600 << 20
# From here on a model counts as large: its weights pass through RAM on their way to a GPU.
_LARGE = 10_000_000_000
_UNITS = {"": 10**9, "m": 10**6, "g": 10**9, "mi": 1 << 20, "gi": 1 << 30}


def bytes_needed(facts: ModelFacts, quant: str, device: str) -> int:
    """An estimate from the parameter count: weights, some room for activations, the runtime.

    Embeddings are never quantised. What is not quantised takes two bytes a weight on a GPU and,
    since bf16 is slow on many CPUs, four on a CPU.
    """
    plain_bytes = 2 if device == "cuda" else 4
    total = facts.n_parameters
    vocabulary = int(facts.config.get("vocab_size", 0)) * int(facts.config.get("hidden_size", 0))
    tied = bool(facts.config.get("tie_word_embeddings", False))
    plain = min(total, vocabulary * (1 if tied else 2))
    weights = plain * plain_bytes + (total - plain) * _LINEAR_BYTES.get(quant, plain_bytes)
    return int(weights * _MARGIN) + _RUNTIME_BYTES


def choose_quant(
    wanted: str, facts: ModelFacts, device: str, free: tuple[int, int], *, skip_large: bool = False
) -> tuple[Quant | None, str]:
    """The quantisation to use (`wanted`; auto: the least that fits), or None and why not.

    `free`: bytes of RAM and of the device's own memory. `skip_large` refuses models of 10B
    parameters and more whose 4-bit weights exceed the RAM, even when the GPU would hold them.
    """
    ram, budget = free
    small = bytes_needed(facts, "4bit", device)
    if skip_large and facts.n_parameters >= _LARGE and ram < small:
        return None, f"large, and {_gb(ram)} of RAM is less than its {_gb(small)} in 4 bits"
    choices = [quant for quant in QUANTS if wanted in ("auto", quant)]
    for quant in choices:
        if bytes_needed(facts, quant, device) <= budget:
            return quant, ""
    need = bytes_needed(facts, choices[-1], device)
    place = "memory" if device == "cpu" else "GPU memory"
    return None, f"needs about {_gb(need)} of {place} in {choices[-1]}; {_gb(budget)} may be used"


def budgets(ram: int | None, gpu: int | None, device: str) -> tuple[int, int]:
    """Bytes that may be used, (RAM, the device's own): what is free, and no more than given."""
    import psutil

    free_ram = int(psutil.virtual_memory().available)
    ram = free_ram if ram is None else min(free_ram, ram)
    if device == "cpu":
        return ram, ram
    import torch

    free_gpu, _ = torch.cuda.mem_get_info()
    return ram, free_gpu if gpu is None else min(free_gpu, gpu)


def parse_size(text: str) -> int:
    """Bytes of `9GB`, `9`, `7.5GiB` or `800MB`; a bare number is gigabytes. UserError otherwise."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mg]i?|)b?\s*", text, re.I)
    if found is None or float(found[1]) <= 0:
        raise UserError(f"{text!r} is no size; write it as 9GB, 7.5GiB or 800MB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
