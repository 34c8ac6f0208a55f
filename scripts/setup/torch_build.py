"""Decides which build of torch fits this machine, and prints it as JSON; installs nothing.

    python scripts/setup/torch_build.py [auto|keep|cpu|cu118|cu126|cu128|cu130|default]

What comes out: `reason`, a line for the user, and `attempts`, ways to install it from the best to
the last resort, each with the arguments for `uv pip install`. Needs only the standard library.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

BUILDS = ("auto", "keep", "cpu", "cu118", "cu126", "cu128", "cu130", "default")
TESTED = Path(__file__).resolve().parents[2] / "requirements" / "torch.txt"
SUPPORTED = "torch>=2.6,<3"
# The oldest drivers that CUDA 12 and CUDA 11 programs run on (Linux, NVIDIA's compatibility table).
CUDA_12_DRIVER, CUDA_11_DRIVER = (525, 60), (450, 80)
TURING = 7.5  # the oldest generation that CUDA 13 builds know
# Old drivers do not report the compute capability: these names are Turing.
TURING_NAMES = re.compile(r"RTX 20\d\d|GTX 16\d\d|Quadro RTX|TITAN RTX|\bT4\b")


@dataclass(frozen=True)
class Gpu:
    """The first NVIDIA GPU; `capability` is None where neither driver nor name tells it."""

    name: str
    driver: tuple[int, ...]
    capability: float | None


@dataclass(frozen=True)
class Attempt:
    """One way to install torch: a label for people and the arguments for `uv pip install`."""

    label: str
    args: list[str]


LAST_CUDA_11 = Attempt("torch 2.7.1, cu118 build", ["--torch-backend=cu118", "torch==2.7.1"])


@dataclass(frozen=True)
class Plan:
    """What to try, in order, and why; no attempts means that torch is left as it is."""

    reason: str
    attempts: list[Attempt]


def plan(wanted: str, gpu: Gpu | None, find_links: list[str], tested: str) -> Plan:
    """The decision, from what is known of the machine alone.

    A CPU build comes without dependencies: base.txt pins them all. A CUDA build brings its own.
    """
    cpu = [Attempt("torch, CPU build", ["--no-deps", "--torch-backend=cpu", tested])]
    if find_links:
        links = [word for link in find_links for word in ("--find-links", link)]
        args = ["--no-deps", "--no-index", *links, tested]
        cpu.append(Attempt("torch, CPU wheel from pip's find-links", args))
    default = Attempt("torch, default build of the package index (large)", [tested])
    if wanted == "auto":
        return _automatic(gpu, [*cpu, default])
    asked = {"keep": [], "cpu": cpu, "default": [default], "cu118": [LAST_CUDA_11]}
    return Plan(f"as asked for: {wanted}", asked.get(wanted, [_backend(wanted)]))


def _automatic(gpu: Gpu | None, cpu: list[Attempt]) -> Plan:
    if gpu is None:
        return Plan("no NVIDIA GPU was found: a CPU build is enough", cpu)
    about = f"{gpu.name}, driver {'.'.join(map(str, gpu.driver))}"
    if gpu.driver < CUDA_11_DRIVER:
        return Plan(f"{about} is too old for any CUDA build: a CPU build; update the driver", cpu)
    if gpu.driver < CUDA_12_DRIVER:
        return Plan(f"{about} is too old for CUDA 12: the last torch for CUDA 11.8", [LAST_CUDA_11])
    if gpu.capability is not None and gpu.capability < TURING:
        sm = f"sm_{gpu.capability * 10:.0f}"
        return Plan(f"{about}, {sm}: CUDA 12.6 builds are the last for it", [_backend("cu126")])
    return Plan(f"{about}: the newest build for this driver", [_backend("auto"), cpu[-1]])


def _backend(name: str) -> Attempt:
    return Attempt(f"torch, {name} build", [f"--torch-backend={name}", SUPPORTED])


def parse_gpu(smi: str) -> Gpu | None:
    """The GPU in the first line of nvidia-smi's CSV: name, driver_version[, compute_cap]."""
    fields = [field.strip() for field in smi.partition("\n")[0].split(",")]
    if len(fields) < 2 or not re.fullmatch(r"[\d.]+", fields[1]):
        return None
    name, driver = fields[0], tuple(map(int, fields[1].strip(".").split(".")))
    if len(fields) > 2 and re.fullmatch(r"\d+\.\d+", fields[2]):
        return Gpu(name, driver, float(fields[2]))
    return Gpu(name, driver, TURING if TURING_NAMES.search(name) else None)


def find_gpu() -> Gpu | None:
    """The first NVIDIA GPU that the driver reports, or None."""
    smi = shutil.which("nvidia-smi")
    for columns in ("name,driver_version,compute_cap", "name,driver_version"):
        if smi and (out := _output([smi, f"--query-gpu={columns}", "--format=csv,noheader"])):
            return parse_gpu(out)
    return None


def find_links() -> list[str]:
    """The folders and pages of extra wheels that pip is configured with; uv does not read them."""
    listed = os.environ.get("PIP_FIND_LINKS", "")
    if not listed:
        listed = _output([sys.executable, "-m", "pip", "config", "get", "global.find-links"])
    return list(dict.fromkeys(listed.split()))


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def main(wanted: str) -> int:
    """Prints the plan."""
    if wanted not in BUILDS:
        print(f"--torch takes one of: {', '.join(BUILDS)}", file=sys.stderr)
        return 2
    lines = TESTED.read_text(encoding="utf-8").splitlines()
    tested = next(line for line in lines if line.startswith("torch"))
    print(json.dumps(asdict(plan(wanted, find_gpu(), find_links(), tested))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1] if len(sys.argv) > 1 else "auto"))
