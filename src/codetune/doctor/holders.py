"""Who holds the GPUs: processes, and the runs that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codetune.doctor.journals import Unended, unended_runs
from codetune.machine import Gpu, Host, host, probe
from codetune.machine.processes import command_of, is_known, nearest, rss_of, user_of
from codetune.runlog.process import current


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
    command: str | None = None  # the name of the program
    rss: int | None = None  # bytes


@dataclass(frozen=True)
class Look:
    """The machine in one moment."""

    gpus: list[Gpu]
    reason: str | None  # why there are none
    machine: Host
    processes: list[Holder]


class Watch:
    """Looks again and again; a run that has ended is looked at once."""

    def __init__(self, root: Path) -> None:
        self._root, self._machine = root, current().machine
        self._ended: set[str] = set()

    def look(self, *, wait: float | None = None) -> Look:
        """The GPUs and who holds them, then active runs on none. `wait` as in `machine.host`."""
        gpus, problem = probe()
        here, elsewhere = self._runs()
        held = [
            _holder(gpu.index, process.pid, process.memory, here)
            for gpu in gpus
            for process in gpu.processes or ()
        ]
        seen = {holder.id for holder in held}
        rest = [_holder(None, pid, None, here) for pid in here if here[pid].row.id not in seen]
        away = [Holder(None, None, **_told(run)) for run in elsewhere]
        reason = str(problem) if problem else None
        return Look(gpus, reason, host(self._root, wait=wait), [*held, *rest, *away])

    def _runs(self) -> tuple[dict[int, Unended], list[Unended]]:
        """Active runs by pid, and those of another machine, whose pids mean nothing here."""
        here: dict[int, Unended] = {}
        elsewhere: list[Unended] = []
        for run in unended_runs(self._root, self._ended):
            process = run.row.process
            if run.row.status != "running" or process is None:
                continue
            if process.machine == self._machine:
                here[process.pid] = run
            else:
                elsewhere.append(run)
        return here, elsewhere


def _holder(gpu: int | None, pid: int, memory: int | None, here: Mapping[int, Unended]) -> Holder:
    if gpu is not None and not is_known(pid):
        return Holder(gpu, None, memory)
    owner = nearest(pid, here)
    told = {} if owner is None else _told(here[owner])
    user, command, rss = user_of(pid), command_of(pid), rss_of(pid)
    return Holder(gpu, pid, memory, user=user, command=command, rss=rss, **told)


def _told(run: Unended) -> dict[str, Any]:
    row = run.row
    return {"run": row.name, "id": row.id, "stage": row.stage, "step": run.step}
