"""Which compute type to use: by capability on a GPU, by a short measurement on a CPU.

`torch.cuda.is_bf16_supported()` counts emulation and is True on Turing, so the compute
capability decides. On CPUs without AVX512-BF16 or AMX, bf16 products are 100 times slower than
fp32, so a small matrix product is timed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from codetune.errors import UserError

if TYPE_CHECKING:
    import torch

_AMPERE = 8
# Shaped like a small model's MLP product; large enough to leave call overhead behind.
_PROBE = (256, 896, 1216)
# bf16 must win clearly: it rounds to 8 bits, and timings on a busy machine are noisy.
_CLEAR_WIN = 1.3
_LEAST_REPEATS = 3


@dataclass(frozen=True)
class DtypeChoice:
    """A compute type, why it was taken, and the speeds measured (GFLOP/s by type name)."""

    dtype: torch.dtype
    reason: str
    gflops: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The type's name, such as `bfloat16`."""
        return dtype_name(self.dtype)


def dtype_name(dtype: torch.dtype) -> str:
    """A type's name without its module, such as `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def pick_device(wanted: str = "auto") -> str:
    """`cuda` when torch can use a GPU, else `cpu`; UserError when a wanted GPU is not there."""
    import torch

    usable = torch.cuda.is_available()
    if wanted == "cuda" and not usable:
        raise UserError("no GPU that torch can use; run ./scripts.sh doctor")
    return ("cuda" if usable else "cpu") if wanted == "auto" else wanted


def choose_dtype(device: str = "cpu", wanted: str = "auto") -> DtypeChoice:
    """The compute type for `device`; `wanted` other than auto is taken as it is."""
    import torch

    if wanted != "auto":
        return DtypeChoice(getattr(torch, wanted), "as configured")
    if device.startswith("cuda"):
        major, minor = torch.cuda.get_device_capability()
        if major >= _AMPERE:
            return DtypeChoice(torch.bfloat16, f"compute capability {major}.{minor} has bf16")
        return DtypeChoice(torch.float16, f"compute capability {major}.{minor} only emulates bf16")
    speed = {name: gemm_gflops(getattr(torch, name)) for name in ("float32", "bfloat16")}
    fast = speed["bfloat16"] > _CLEAR_WIN * speed["float32"]
    shown = f"fp32 {speed['float32']:.0f}, bf16 {speed['bfloat16']:.0f} GFLOP/s here"
    return DtypeChoice(torch.bfloat16 if fast else torch.float32, shown, speed)


def gemm_gflops(dtype: torch.dtype, seconds: float = 0.05) -> float:
    """GFLOP/s of a small CPU matrix product: the best of a few repeats in about `seconds`."""
    import torch

    rows, inner, columns = _PROBE
    left = torch.ones(rows, inner, dtype=dtype)
    right = torch.ones(inner, columns, dtype=dtype)
    torch.mm(left, right)  # the first product of a shape pays for choosing its kernel
    times: list[float] = []
    while len(times) < _LEAST_REPEATS or sum(times) < seconds:
        start = time.perf_counter()
        torch.mm(left, right)
        times.append(time.perf_counter() - start)
    best = min(times)
    return 2 * rows * inner * columns / best / 1e9
