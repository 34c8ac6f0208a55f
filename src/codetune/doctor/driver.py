"""The NVIDIA driver and its GPUs as NVML tells of them, and whether torch's build fits them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from codetune.doctor.finding import Finding
from codetune.machine import Gpu, probe

GIB = 2**30
# The oldest drivers that programs of a CUDA generation run on (Linux).
# Source: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
OLDEST_DRIVER = {11: "450.80", 12: "525.60", 13: "580"}
TURING = (7, 5)  # the oldest generation that CUDA 13 builds have code for
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
_BUSY = 0.1  # share of a GPU's memory that another program may hold unmentioned
_NO_LIBRARY = (
    "the driver is in the kernel, but its library libnvidia-ml.so.1 is not here: in a container, "
    "start it with the GPUs (`docker run --gpus all`); else install the driver anew"
)
_OTHER_BUILD = "./scripts.sh setup --torch auto (then cu126 or cu118), or update the driver"


def driver_findings() -> Iterator[Finding]:
    """The driver, and the memory of each GPU that is in use."""
    gpus, problem = probe()
    if problem is not None:
        module = kernel_driver()
        todo = str(problem) if problem.has_driver else _NO_LIBRARY if module else ""
        found = module or ("does not answer" if todo else "none")
        yield Finding("NVIDIA driver", found, "", todo)
        return
    first = gpus[0]
    cuda = f"runs programs up to CUDA {first.cuda}" if first.cuda else ""
    yield Finding("NVIDIA driver", first.driver or "unknown", cuda)
    for gpu in gpus:
        if gpu.memory_total and gpu.memory_used is not None:
            free = gpu.memory_total - gpu.memory_used
            busy = gpu.memory_used > _BUSY * gpu.memory_total
            found = f"{free / GIB:.1f} of {gpu.memory_total / GIB:.1f} GiB free"
            meaning = "./scripts.sh gpu shows who holds the rest" if busy else ""
            yield Finding(f"memory of GPU {gpu.index}", found, meaning)


def nvidia() -> str:
    """The first NVIDIA GPU, whatever torch thinks; "" where there is none."""
    gpus, _ = probe()
    if gpus:
        return f"{gpus[0].name or 'NVIDIA GPU'}, driver {gpus[0].driver or 'unknown'}"
    module = kernel_driver()
    return f"NVIDIA GPU, driver {module}" if module else ""


def kernel_driver() -> str:
    """The version of the driver in the kernel, which is there even when its library is not."""
    try:
        known = re.search(r"Module\s+(?:for \S+\s+)?([\d.]+)", _KERNEL_MODULE.read_text())
    except OSError:
        return ""
    return known[1] if known else ""


def torch_by_its_files() -> Iterator[Finding]:
    """The torch build and whether it fits the first GPU, without loading it (seconds)."""
    version, cuda = torch_build()
    gpus, _ = probe()
    build = f"built for CUDA {cuda}" if cuda else "built for CPUs"
    if not version:
        yield Finding("torch", "not found", "", "./scripts.sh setup")
    elif not gpus:
        yield Finding("torch", version, build)
    else:
        problem = misfit(cuda, gpus[0])
        meaning = f"{build}: {problem}" if problem else f"{build}, which this driver runs"
        todo = _OTHER_BUILD if problem else ""
        yield Finding("torch", version, meaning, todo, blocked=bool(problem))


def torch_build() -> tuple[str, str]:
    """Version of torch and of the CUDA it was built for, read from its files; "" for neither."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return "", ""
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except OSError:
        return "unknown", ""
    told = dict(re.findall(r"^(__version__|cuda)\b[^=\n]*=\s*'([^']*)'", text, re.MULTILINE))
    return told.get("__version__", "unknown"), told.get("cuda", "")


def misfit(cuda: str, gpu: Gpu) -> str:
    """Why a torch built for CUDA `cuda` cannot use `gpu`; "" where nothing is known against it."""
    if not cuda:
        return "it cannot use the GPU"
    generation = int(cuda.partition(".")[0])
    oldest = OLDEST_DRIVER.get(generation)
    if oldest and gpu.driver and _numbers(gpu.driver) < _numbers(oldest):
        return f"it needs driver {oldest} or later, this is {gpu.driver}"
    if generation >= 13 and gpu.capability and gpu.capability < TURING:
        return (
            f"CUDA {generation} builds have no code for sm_{gpu.capability[0]}{gpu.capability[1]}"
        )
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
