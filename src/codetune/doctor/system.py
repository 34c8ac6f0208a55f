"""Python, processor, memory, disk, and the programs and packages that are good to have."""

from __future__ import annotations

import platform
import shutil
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from codetune.doctor.finding import Finding

GIB = 2**30
# Room in GiB for a Qwen2.5-Coder base, its merged copy and the checkpoints of a run. Arithmetic:
# two copies at 2 bytes a parameter, and three checkpoints of adapter and optimizer.
DISK_GIB = {"0.5B": 4, "1.5B": 10, "3B": 16, "7B": 40, "14B": 70, "32B": 145}
FEW_GIB = 20.0
_PACKAGES = (
    ("psycopg", "a run log that several machines share, in PostgreSQL (DATABASE_URL)"),
    ("tensorboard", "curves of all runs in a browser: ./scripts.sh tensorboard"),
)


def surroundings(root: Path) -> Iterator[Finding]:
    """Python, processor, memory and disk."""
    from codetune.machine import host

    yield Finding("Python", platform.python_version(), platform.platform(terse=True))
    now = host(root)
    memory = f"{now.memory_total / GIB:.1f} GiB of memory"
    free = f"{(now.memory_total - now.memory_used) / GIB:.1f} GiB of it free"
    yield Finding("machine", f"{now.cpus} cores, {memory}", free)
    room = shutil.disk_usage(root).free / GIB
    fit = [size for size, need in DISK_GIB.items() if need <= room]
    meaning = f"room for base, merged copy and checkpoints: {', '.join(fit) or 'of none'}"
    few = "" if room >= FEW_GIB else "keep models and outputs/ on a larger disk"
    yield Finding("free disk", f"{room:.0f} GiB", meaning, few)


def extras() -> Iterator[Finding]:
    """What is optional, whether it is here, and what it is for."""
    tmux = shutil.which("tmux")
    gone = "" if tmux else "install tmux: without it a training ends with the ssh session"
    yield Finding("tmux", tmux or "not found", "keeps a training alive without you", gone)
    git = shutil.which("git")
    gone = "" if git else "install git: without it repositories cannot be read for `fim`"
    meaning = "reads repositories; records the commit that a run was made with"
    yield Finding("git", git or "not found", meaning, gone)
    for name, meaning in _PACKAGES:
        yield _package(name, meaning)
    yield _sqlite(sqlite3.sqlite_version_info)


def _package(name: str, meaning: str) -> Finding:
    try:
        return Finding(name, metadata.version(name), meaning)
    except metadata.PackageNotFoundError:
        return Finding(name, "not found", meaning, "./scripts.sh setup")


def _sqlite(version: tuple[int, int, int]) -> Finding:
    from codetune.runlog.store.database import wal_is_safe

    how = "the write-ahead log is used"
    if not wal_is_safe(version):
        how = "a rollback journal is used: this version lacks the write-ahead log's fix"
    return Finding("SQLite", ".".join(map(str, version)), f"run log; {how}")
