"""How busy this process and its GPUs are: one cheap sample every few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from codetune.machine.gpus import memory, watts
from codetune.machine.nvml import GpuUnavailable, ask, connect
from codetune.machine.visible import visible_handles


@dataclass(frozen=True)
class Load:
    """One sample. GPU figures are over the GPUs that the process sees; None without one."""

    cpu_percent: float  # of one core, all threads of this process, since the sample before
    rss: int  # bytes
    gpu_percent: float | None = None  # mean utilisation
    gpu_memory: int | None = None  # bytes in use by anyone, summed
    gpu_temperature: float | None = None  # deg C of the hottest
    gpu_power: float | None = None  # W, summed


class Sampler:
    """Samples this process. Make it in the thread that samples: the driver may take a second.

    `visible` is the value of CUDA_VISIBLE_DEVICES, None where it is not set.
    """

    def __init__(self, visible: str | None = None) -> None:
        import psutil

        self._process, self._failures = psutil.Process(), (psutil.Error, OSError)
        self._cpu, self._rss = 0.0, 0
        self._read_process()  # the first call only starts the clock of the processor's share
        self._nvml: Any = None
        self._handles: list[Any] = []
        if visible is None or visible.strip() not in ("", "-1"):
            self._open(visible)

    def sample(self) -> Load:
        """The load now. Never raises: what cannot be read is None, or as it was before."""
        self._read_process()
        nvml, handles = self._nvml, self._handles
        if not handles:
            return Load(self._cpu, self._rss)
        busy = _told(ask(nvml.nvmlDeviceGetUtilizationRates, handle) for handle in handles)
        room = _told(memory(nvml, handle) for handle in handles)
        heat = _told(
            ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
            for handle in handles
        )
        power = _told(watts(ask(nvml.nvmlDeviceGetPowerUsage, handle)) for handle in handles)
        return Load(
            self._cpu,
            self._rss,
            gpu_percent=fmean(rates.gpu for rates in busy) if busy else None,
            gpu_memory=sum(info.used for info in room) if room else None,
            gpu_temperature=float(max(heat)) if heat else None,
            gpu_power=float(sum(power)) if power else None,
        )

    def _open(self, visible: str | None) -> None:
        try:
            self._nvml = connect()
        except GpuUnavailable:  # a machine without GPUs: the run itself tells of any trouble
            return
        self._handles = visible_handles(self._nvml, visible)

    def _read_process(self) -> None:
        try:
            self._cpu = self._process.cpu_percent()
            self._rss = self._process.memory_info().rss
        except self._failures:  # too many open files, say
            return


def _told(answers: Any) -> list[Any]:
    return [answer for answer in answers if answer is not None]
