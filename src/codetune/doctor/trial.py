"""What torch can do here, tried for real: the GPU, a 4-bit product, its speed. Takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from codetune.doctor.finding import Finding

# GPU memory in GiB that a QLoRA run over 2,048 tokens needs, by size of Qwen2.5-Coder. Arithmetic
# from the sizes of weights, adapters and checkpoints; not measured.
GPU_GIB = {"0.5B": 2.0, "1.5B": 3.0, "3B": 4.5, "7B": 8.0, "14B": 12.0, "32B": 24.0}
AMPERE = 8  # below this compute capability bf16 is emulated, though torch calls it supported


def gpu(nvidia: str) -> Iterator[Finding]:
    """The GPU (`nvidia` as its driver calls it), or that torch will use the CPU."""
    import torch

    if not nvidia and not torch.cuda.is_available():
        yield Finding("GPU", "none", "presets that fit: smoke, and 0.5B in its CPU variant")
        return
    try:
        torch.ones(8, 8, device="cuda").mm(torch.ones(8, 8, device="cuda")).sum().item()
    except (RuntimeError, AssertionError) as problem:  # no kernel for it, no driver, a CPU build
        todo = "./scripts.sh setup --torch auto (then cu126 or cu118), or update the driver"
        yield Finding("GPU", nvidia, f"torch cannot: {str(problem).splitlines()[0]}", todo, True)
        return
    facts = torch.cuda.get_device_properties(0)
    gib = facts.total_memory / 2**30
    yield Finding("GPU", nvidia or facts.name, f"sm_{facts.major}{facts.minor}, {gib:.1f} GiB")
    dtype = "bf16" if facts.major >= AMPERE else "fp16: this GPU only emulates bf16"
    yield Finding("compute type", dtype, "attention: SDPA, memory-efficient kernels")
    fit = [size for size, need in GPU_GIB.items() if need < gib]
    yield Finding("presets that fit", ", ".join(fit) or "none", "by arithmetic, at 2,048 tokens")


def nf4(device: str) -> Iterator[Finding]:
    """A product with a matrix rounded to NF4: 4 bits cost about a tenth of accuracy, no more."""
    import torch
    from bitsandbytes import matmul_4bit  # type: ignore[attr-defined]
    from bitsandbytes.functional import quantize_4bit

    drawn = torch.randn(260, 256, generator=torch.Generator().manual_seed(0)).to(device)
    weight, rows = drawn[:256], drawn[256:]
    packed, state = quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
    exact = rows @ weight.t()
    error = float((matmul_4bit(rows, packed.t(), state) - exact).norm() / exact.norm())
    todo = "" if 0.02 < error < 0.2 else "4-bit training would be wrong here: report this line"
    found = f"bitsandbytes {metadata.version('bitsandbytes')} on {device}"
    yield Finding("NF4 product", found, f"relative error {error:.3f}, about 0.1 is right", todo)


def speed(device: str) -> Iterator[Finding]:
    """GFLOP/s of a square matrix product by type, where training will run."""
    import torch
    from torch.utils.benchmark import Timer

    from codetune.models import choose_dtype

    size, threads = (4096 if device == "cuda" else 512), torch.get_num_threads()
    rates = []
    for name in ("float32", "bfloat16", "float16"):
        names = {"square": torch.ones(size, size, device=device, dtype=getattr(torch, name))}
        timed = Timer("square.mm(square)", globals=names, num_threads=threads).timeit(4)
        rates.append(f"{name} {2 * size**3 / timed.mean / 1e9:,.0f}")
    chosen = f"train computes in {choose_dtype(device).name}"
    yield Finding("matrix product", f"{', '.join(rates)} GFLOP/s on {device}", chosen)
