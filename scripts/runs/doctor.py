"""Says what this machine can train, and what to do about each problem. Changes nothing.

Out: a table, or with --json an object. Exit 3 when the installed torch cannot use the NVIDIA GPU.

    ./scripts.sh doctor
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from codetune import console

# GPU memory in GiB that a QLoRA run over 2,048 tokens needs, by size of Qwen2.5-Coder. Arithmetic
# from the sizes of weights, adapters and checkpoints; not measured.
GPU_GIB = {"0.5B": 2.0, "1.5B": 3.0, "3B": 4.5, "7B": 8.0, "14B": 12.0, "32B": 24.0}
AMPERE = 8  # below this compute capability bf16 is emulated, though torch calls it supported
DISK_GIB = 20.0  # room for a 1.5B base, its merged copy and checkpoints; 7B takes about 40


@dataclass(frozen=True)
class Finding:
    """A line of the table. `todo` is set for a problem, `blocked` where torch cannot use a GPU."""

    what: str
    found: str
    meaning: str = ""
    todo: str = ""
    blocked: bool = False


def surroundings() -> Iterator[Finding]:
    """Python, disk and tmux."""
    yield Finding("Python", platform.python_version(), platform.platform(terse=True))
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    few = "" if free >= DISK_GIB else "keep models and outputs/ on a larger disk"
    yield Finding("free disk", f"{free:.0f} GiB", "", few)
    tmux = shutil.which("tmux")
    gone = "" if tmux else "install tmux: without it a training ends with the ssh session"
    yield Finding("tmux", tmux or "not found", "", gone)


def driver() -> str:
    """The NVIDIA GPU as the driver tells of it, whatever torch thinks; "" where there is none."""
    smi = shutil.which("nvidia-smi")
    if smi:
        query = [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        told = subprocess.run(query, capture_output=True, text=True, check=False)
        if told.returncode == 0 and told.stdout.strip():
            return told.stdout.strip().splitlines()[0].replace(", ", ", driver ")
    version = Path("/proc/driver/nvidia/version")
    known = re.search(r"Module\s+([\d.]+)", version.read_text()) if version.exists() else None
    return f"NVIDIA GPU, driver {known[1]}" if known else ""


def gpu(nvidia: str) -> Iterator[Finding]:
    """The torch build, and the GPU or the CPU that it will train on."""
    import torch

    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs"
    yield Finding("torch", torch.__version__, build)
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
    from bitsandbytes import matmul_4bit
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


def main() -> int:
    """Draws the table, or emits the object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON on stdout")
    as_json = parser.parse_args().json
    from codetune import models, stage

    stage.load_environment()
    findings = [*surroundings(), *gpu(driver())]
    blocked = any(finding.blocked for finding in findings)
    device = "cpu" if blocked else models.pick_device()
    findings += [*nf4(device), *speed(device)]
    if as_json:
        told = {"findings": [asdict(finding) for finding in findings], "gpu_unusable": blocked}
        console.emit(json.dumps(told, indent=1))
    else:
        rows = [[f.what, f.found, f.meaning, f.todo or "ok"] for f in findings]
        console.draw(console.table("doctor", ["what", "found", "meaning", "to do"], rows))
    return 3 if blocked else 0


if __name__ == "__main__":
    raise SystemExit(main())
