"""The NVIDIA management library: opened once, and each question to it may stay unanswered."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from codetune.errors import UserError

T = TypeVar("T")
_LIBRARY = "libnvidia-ml.so.1"
# How NVML refuses, by its error code, and what to do about it.
_REASONS = {
    4: "no permission to use the NVIDIA driver: /dev/nvidia* must be readable and writable for you",
    9: "the NVIDIA driver is not loaded: try `sudo modprobe nvidia`, or start the machine anew; in "
    "a container, start it with the GPUs (`docker run --gpus all`)",
    18: "the NVIDIA driver and its library differ in version: the driver was updated while it ran; "
    "start the machine anew",
}


class GpuUnavailable(UserError):
    """The GPUs cannot be asked. `has_driver` is False where there is simply no NVIDIA driver."""

    def __init__(self, reason: str, *, has_driver: bool) -> None:
        super().__init__(reason)
        self.has_driver = has_driver


@cache
def connect() -> Any:
    """The module pynvml, initialised; GpuUnavailable where that is impossible (asked anew then).

    Without a driver pynvml, 50 ms of imports, is not loaded. Where the driver is not kept loaded
    (persistence mode off) the first call may take a second.
    """
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        raise GpuUnavailable("no NVIDIA driver on this machine", has_driver=False) from None
    import pynvml  # type: ignore[import-untyped]

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as problem:
        unknown = f"the NVIDIA driver does not answer: {problem}"
        raise GpuUnavailable(_REASONS.get(problem.value, unknown), has_driver=True) from None
    return pynvml


def ask(question: Callable[..., T], *details: Any) -> T | None:
    """The answer to one question, or None: not supported here, not allowed, or the GPU is lost."""
    import pynvml

    try:
        return question(*details)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None
