"""The NVIDIA GPUs of this machine, and the processes that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codetune.machine.nvml import GpuUnavailable, ask, connect


@dataclass(frozen=True)
class GpuProcess:
    """A process on a GPU. Inside a container `pid` may be the host's number for it."""

    pid: int
    memory: int | None  # bytes


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver tells of it now; None for what it does not tell."""

    index: int  # in the order of the PCI bus, as nvidia-smi counts
    uuid: str | None
    name: str | None
    memory_used: int | None  # bytes
    memory_total: int | None  # bytes
    utilisation: int | None  # percent of the time in which it computed, of the last second or less
    power: float | None  # W
    power_limit: float | None  # W
    temperature: int | None  # deg C
    capability: tuple[int, int] | None  # compute capability, (8, 6) for sm_86
    driver: str | None
    cuda: str | None  # the newest CUDA that the driver can run
    processes: tuple[GpuProcess, ...] | None


def gpus() -> list[Gpu]:
    """All GPUs; GpuUnavailable with one clear reason where the driver cannot be asked."""
    nvml = connect()
    driver, cuda = ask(nvml.nvmlSystemGetDriverVersion), cuda_version(nvml)
    handles = [ask(nvml.nvmlDeviceGetHandleByIndex, i) for i in range(count(nvml))]
    return [
        _gpu(nvml, index, handle, driver, cuda)
        for index, handle in enumerate(handles)
        if handle is not None  # fell off the bus, or belongs to somebody else
    ]


def probe() -> tuple[list[Gpu], GpuUnavailable | None]:
    """All GPUs, and where there are none, why."""
    try:
        found = gpus()
    except GpuUnavailable as problem:
        return [], problem
    none = GpuUnavailable("the NVIDIA driver has no GPU here", has_driver=True)
    return found, None if found else none


def count(nvml: Any) -> int:
    """How many GPUs the driver has."""
    return ask(nvml.nvmlDeviceGetCount) or 0


def memory(nvml: Any, handle: Any) -> Any:
    """`used` and `total` in bytes, without what the driver keeps for itself where it can tell."""
    newer = ask(nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2)
    return newer or ask(nvml.nvmlDeviceGetMemoryInfo, handle)


def watts(milliwatts: int | None) -> float | None:
    """Power as people read it."""
    return None if milliwatts is None else milliwatts / 1000


def cuda_version(nvml: Any) -> str | None:
    """The newest CUDA that the driver can run, such as 12.4."""
    number = ask(nvml.nvmlSystemGetCudaDriverVersion_v2) or ask(nvml.nvmlSystemGetCudaDriverVersion)
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def _gpu(nvml: Any, index: int, handle: Any, driver: str | None, cuda: str | None) -> Gpu:
    room, busy = memory(nvml, handle), ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    sensor = nvml.NVML_TEMPERATURE_GPU
    capability = ask(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return Gpu(
        index=index,
        uuid=ask(nvml.nvmlDeviceGetUUID, handle),
        name=ask(nvml.nvmlDeviceGetName, handle),
        memory_used=room.used if room else None,
        memory_total=room.total if room else None,
        utilisation=busy.gpu if busy else None,
        power=watts(ask(nvml.nvmlDeviceGetPowerUsage, handle)),
        power_limit=watts(ask(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
        temperature=ask(nvml.nvmlDeviceGetTemperature, handle, sensor),
        capability=(capability[0], capability[1]) if capability else None,
        driver=driver,
        cuda=cuda,
        processes=_processes(nvml, handle),
    )


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...] | None:
    """Who computes or draws there, the largest first; None when the driver does not tell."""
    found: dict[int, int | None] = {}
    told = False
    for kind in ("Compute", "Graphics"):
        newer = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses_v3")
        older = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses_v2")  # drivers before 510
        listed = ask(newer, handle)
        listed = ask(older, handle) if listed is None else listed
        told = told or listed is not None
        for process in listed or ():  # one that does both stands in both lists
            found[process.pid] = process.usedGpuMemory or found.get(process.pid)
    rows = [GpuProcess(pid, used) for pid, used in found.items()]
    return tuple(sorted(rows, key=lambda row: (-(row.memory or 0), row.pid))) if told else None
