"""Who holds the GPUs: processes, and the runs that they belong to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codetune.machine import Gpu, Host, host, probe
from codetune.machine.processes import is_known, nearest, rss_of, user_of
from codetune.runlog import RunRow, active_runs, events
from codetune.runlog.local import run_ids
from codetune.runlog.process import current, is_alive

_REREAD_SECONDS = 10.0
_TAIL = 64 * 1024


@dataclass(frozen=True)
class Holder:
    """A process on a GPU, or an active run on none; None for what cannot be known here."""

    gpu: int | None
    pid: int | None
    gpu_memory: int | None = None  # bytes
    run: str | None = None  # its name
    id: str | None = None
    stage: str | None = None
    step: int | None = None
    user: str | None = None
    rss: int | None = None  # bytes


@dataclass(frozen=True)
class Look:
    """The machine in one moment."""

    gpus: list[Gpu]
    reason: str | None  # why there are none
    machine: Host
    processes: list[Holder]


class Watch:
    """Looks again and again; all journals are read only now and then."""

    def __init__(self, root: Path) -> None:
        self._root, self._machine = root, current().machine
        self._ids: list[str] = []
        self._rows: list[RunRow] = []
        self._read_at = -_REREAD_SECONDS

    def look(self, *, wait: float | None = None) -> Look:
        """The GPUs and who holds them, then active runs on none. `wait` as in `machine.host`."""
        gpus, problem = probe()
        here, elsewhere = self._runs()
        held = [
            self._holder(gpu.index, process.pid, process.memory, here)
            for gpu in gpus
            for process in gpu.processes or ()
        ]
        seen = {holder.id for holder in held}
        rest = [self._holder(None, pid, None, here) for pid in here if here[pid].id not in seen]
        away = [Holder(None, None, **self._told(row)) for row in elsewhere]
        reason = str(problem) if problem else None
        return Look(gpus, reason, host(self._root, wait=wait), [*held, *rest, *away])

    def _runs(self) -> tuple[dict[int, RunRow], list[RunRow]]:
        """Active runs by pid, and those of another machine, whose pids mean nothing here."""
        ids = run_ids(self._root)
        if ids != self._ids or time.monotonic() - self._read_at >= _REREAD_SECONDS:
            self._ids, self._rows = ids, active_runs(self._root)
            self._read_at = time.monotonic()
        here: dict[int, RunRow] = {}
        elsewhere: list[RunRow] = []
        for row in self._rows:
            if row.process is None or not is_alive(row.process, row.heartbeat):
                continue
            if row.process.machine == self._machine:
                here[row.process.pid] = row
            else:
                elsewhere.append(row)
        return here, elsewhere

    def _holder(
        self, gpu: int | None, pid: int, memory: int | None, here: Mapping[int, RunRow]
    ) -> Holder:
        if gpu is not None and not is_known(pid):
            return Holder(gpu, None, memory)
        owner = nearest(pid, here)
        told = {} if owner is None else self._told(here[owner])
        return Holder(gpu, pid, memory, user=user_of(pid), rss=rss_of(pid), **told)

    def _told(self, row: RunRow) -> dict[str, Any]:
        step = last_step(events.journal_path(self._root, row.id))
        return {"run": row.name, "id": row.id, "stage": row.stage, "step": step}


def last_step(journal: Path) -> int | None:
    """The step of the last metric near the end of a journal; None without one."""
    try:
        records = list(events.read(journal, max(0, journal.stat().st_size - _TAIL)))
    except FileNotFoundError:  # removed while we look
        return None
    steps = [record.fields.get("step") for record in records if record.kind == "metric"]
    return steps[-1] if steps else None
