"""Who a process is: the numbers that a driver tells are not always ours to look up."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

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
    import psutil

    try:
        return psutil.Process(pid).username()
    except (psutil.Error, KeyError):  # KeyError: a user id without a name
        return None


def rss_of(pid: int) -> int | None:
    """The memory of a process in bytes; None when it is gone."""
    import psutil

    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return None
