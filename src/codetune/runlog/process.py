"""Which process a run belongs to, and whether that process is still there."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

# A run on another machine shows a sign of life every few seconds; after this it counts as lost.
LEASE_MS = 60_000
_START_TOLERANCE_MS = 2_000
_LONGEST_UPTIME_MS = 10**12  # 31 years; what is more counts from the epoch
_SELF = Path("/proc/self/stat")


@dataclass(frozen=True)
class Process:
    """A process that a pid alone would not identify: pids are used again."""

    machine: str
    pid: int
    # Milliseconds since the machine was booted where that can be known, since a clock that is set
    # changes them not; else since the epoch, as in journals of earlier versions.
    started: int


def current() -> Process:
    """The process that is running this code."""
    return Process(_machine(), os.getpid(), _since_boot(_SELF) or _since_epoch(os.getpid()) or 0)


def find(pid: int) -> Process | None:
    """The process that has this pid now; None where there is none, or only its exit code."""
    since_boot = _SELF.exists()
    started = _since_boot(Path(f"/proc/{pid}/stat")) if since_boot else _since_epoch(pid)
    return None if started is None else Process(_machine(), pid, started)


def is_alive(process: Process, heartbeat: int, now: int | None = None) -> bool:
    """True while `process` runs. `heartbeat` and `now` are ms UTC.

    On this machine the process table decides; for another machine, or another container, all we
    know is when it last wrote; a time that is still to come, by a wrong clock, tells nothing.
    """
    if process.machine != _machine():
        return abs((now_ms() if now is None else now) - heartbeat) < LEASE_MS
    found = find(process.pid)
    if found is None:
        return False
    started: int | None = found.started
    if process.started > _LONGEST_UPTIME_MS:
        started = _since_epoch(process.pid)
    return started is not None and abs(started - process.started) < _START_TOLERANCE_MS


def now_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


def _since_boot(stat: Path) -> int | None:
    """When a process was started; None when it is gone, or dead and not yet waited for.

    Source: proc(5), fields 3 (state) and 22 (starttime) of /proc/pid/stat.
    """
    try:
        # The name of the program, in brackets, may hold anything: also brackets and spaces.
        fields = stat.read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    dead = not fields or fields[0] in (b"Z", b"X")
    return None if dead else int(fields[19]) * 1000 // os.sysconf("SC_CLK_TCK")


def _since_epoch(pid: int) -> int | None:
    import psutil

    try:
        found = psutil.Process(pid)
        dead = found.status() == psutil.STATUS_ZOMBIE
        return None if dead else int(found.create_time() * 1000)
    except psutil.Error:
        return None


def _machine() -> str:
    """A hash that two processes share when one can see the other in its process table.

    Boot and process namespace, hashed, so that no host name is recorded.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    seen = (
        boot.read_text() + str(namespace.readlink())
        if boot.exists() and namespace.is_symlink()
        else platform.node()
    )
    return hashlib.sha256(seen.encode()).hexdigest()[:16]
