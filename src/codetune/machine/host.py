"""The processor, memory and disk of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Host:
    """A moment of the machine. Sizes in bytes."""

    cpus: int
    cpu_percent: float  # of all cores, since the call before; 0.0 at the first
    load: float  # mean number of processes that wanted to run, over the last minute
    memory_used: int
    memory_total: int
    swap_used: int
    swap_total: int
    disk_free: int  # of the file system that `root` lies on
    disk_total: int


def host(root: Path, *, wait: float | None = None) -> Host:
    """The machine now; `wait` seconds measure the processor when there was no call before."""
    import psutil

    memory, swap, disk = psutil.virtual_memory(), psutil.swap_memory(), psutil.disk_usage(str(root))
    return Host(
        cpus=psutil.cpu_count() or 1,
        cpu_percent=psutil.cpu_percent(wait),
        load=psutil.getloadavg()[0],
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        swap_used=swap.used,
        swap_total=swap.total,
        disk_free=disk.free,
        disk_total=disk.total,
    )
