"""What this machine has and how busy it is: NVIDIA GPUs by NVML, the rest by psutil.

Nothing here starts a program or reads its output. Both libraries load when they are first needed.
"""

from codetune.machine.gpus import Gpu, GpuProcess, gpus, probe
from codetune.machine.host import Host, host
from codetune.machine.nvml import GpuUnavailable
from codetune.machine.sampler import Load, Sampler

__all__ = [
    "Gpu",
    "GpuProcess",
    "GpuUnavailable",
    "Host",
    "Load",
    "Sampler",
    "gpus",
    "host",
    "probe",
]
