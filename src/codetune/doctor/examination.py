"""Everything that doctor looks at, in groups; the slow one, which loads torch, comes last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from codetune.doctor.finding import Finding, Group


@dataclass(frozen=True)
class Surroundings:
    """What the package may not look up for itself."""

    root: Path  # the project
    home: Path
    claude_config_dir: str | None = None
    database_url: str | None = None


def examine(here: Surroundings, *, fast: bool = False) -> Iterator[Group]:
    """The groups, each found while it is read. `fast` leaves out what loads torch."""
    from codetune.doctor.access import file_system, permissions
    from codetune.doctor.runs import run_database, stale_runs
    from codetune.doctor.sessions import claude_sessions
    from codetune.doctor.space import disk_by_run
    from codetune.doctor.system import extras, surroundings

    def run_log() -> Iterator[Finding]:
        yield from run_database(here.root, here.database_url)
        yield from stale_runs(here.root)

    def files() -> Iterator[Finding]:
        yield from permissions(here.root)
        yield from file_system(here.root, here.database_url)

    yield Group("machine", surroundings(here.root))
    yield Group("optional extras", extras())
    yield Group("run log", run_log())
    yield Group("disk by run", disk_by_run(here.root))
    yield Group("files", files())
    yield Group("assistant logs", claude_sessions(here.home, here.claude_config_dir))
    yield Group("torch and GPU", torch_and_gpu(fast=fast))


def torch_and_gpu(*, fast: bool) -> Iterator[Finding]:
    """The driver, whether torch's build fits it and, unless `fast`, what torch can really do."""
    from codetune.doctor.driver import driver_findings, nvidia, torch_by_its_files

    yield from driver_findings()
    if fast:
        yield from torch_by_its_files()
        return
    from codetune import models
    from codetune.doctor import trial

    tried = list(trial.gpu(nvidia()))
    blocked = any(finding.blocked for finding in tried)
    for (
        finding
    ) in torch_by_its_files():  # where versions and the trial disagree, the trial is right
        yield finding if blocked else replace(finding, todo="", blocked=False)
    yield from tried
    device = "cpu" if blocked else models.pick_device()
    yield from trial.nf4(device)
    yield from trial.speed(device)
