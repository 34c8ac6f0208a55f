"""Who a process is: the numbers that a driver tells are not always ours to look up."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from psutil import Process

T = TypeVar("T")

# The inode of the first process namespace, fixed in the kernel (PROC_PID_INIT_INO).
_FIRST_NAMESPACE = 0xEFFFFFFC
_PROC = Path("/proc")


def is_known(pid: int) -> bool:
    """Whether the process that the GPU driver calls `pid` is the one that we see under `pid`.

    Always where process numbers are the host's own. Inside a container a driver may tell the
    host's numbers, which belong to others here: there the process must have CUDA loaded, too.
    """
    try:
        if (_PROC / "self/ns/pid").stat().st_ino == _FIRST_NAMESPACE:
            return (_PROC / str(pid)).exists()
        return "/libcuda.so" in (_PROC / str(pid) / "maps").read_text("utf-8", "replace")
    except OSError:
        return False


def nearest(pid: int, wanted: Collection[int]) -> int | None:
    """The first of `pid`, its parent, the parent of that and so on that is `wanted`."""
    import psutil

    if pid in wanted:
        return pid
    try:
        above = (parent.pid for parent in psutil.Process(pid).parents())
        return next((number for number in above if number in wanted), None)
    except psutil.Error:
        return None


def user_of(pid: int) -> str | None:
    """The name of the user who owns a process; None when it is gone."""
    return _asked(pid, lambda process: str(process.username()))


def command_of(pid: int) -> str | None:
    """The name of the program that a process runs; None when it is gone."""
    return _asked(pid, lambda process: str(process.name()))


def rss_of(pid: int) -> int | None:
    """The memory of a process in bytes; None when it is gone."""
    return _asked(pid, lambda process: int(process.memory_info().rss))


def _asked(pid: int, question: Callable[[Process], T]) -> T | None:
    import psutil

    try:
        return question(psutil.Process(pid))
    except (psutil.Error, KeyError):  # KeyError: a user id without a name
        return None
