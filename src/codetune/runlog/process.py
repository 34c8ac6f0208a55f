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


@dataclass(frozen=True)
class Process:
    """A process that a pid alone would not identify: pids are used again."""

    machine: str
    pid: int
    started: int  # ms since the epoch


def current() -> Process:
    """The process that is running this code."""
    import psutil

    return Process(_machine(), os.getpid(), int(psutil.Process().create_time() * 1000))


def is_alive(process: Process, heartbeat: int, now: int | None = None) -> bool:
    """True while `process` runs. `heartbeat` and `now` are ms UTC.

    On this machine the process table decides; for another machine, or another container, all we
    know is when it last wrote.
    """
    if process.machine != _machine():
        return (now_ms() if now is None else now) - heartbeat < LEASE_MS
    import psutil

    try:
        found = psutil.Process(process.pid)
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(found.create_time() * 1000 - process.started) < _START_TOLERANCE_MS
    except psutil.NoSuchProcess:
        return False


def now_ms() -> int:
    """Milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


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
