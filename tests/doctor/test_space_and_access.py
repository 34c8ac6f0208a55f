"""Disk by run, permissions and file systems, on real files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from codetune import runlog
from codetune.doctor import space
from codetune.doctor.access import file_system, permissions
from codetune.doctor.examination import Surroundings, examine
from codetune.doctor.finding import Finding
from codetune.doctor.space import disk_by_run
from codetune.runlog.store import database

MIB = 2**20


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def filled(path: Path, mib: float) -> Path:
    """A file that really takes so many MiB on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(int(mib * MIB)))
    return path


def test_the_largest_runs_come_first_with_their_checkpoints(tmp_path: Path) -> None:
    filled(tmp_path / "outputs/full/adapter/a.safetensors", 1)
    filled(tmp_path / "outputs/full/checkpoints/step-10/a", 3)
    filled(tmp_path / "outputs/full/checkpoints/step-20/a", 2)
    filled(tmp_path / "outputs/small/adapter/a", 0.5)
    log = runlog.open_run(
        tmp_path, stage="train", name="my run", config={}, differences={}, argv=["train"]
    )
    log.finish("finished", "")
    assert "logs/runs" not in str(list(disk_by_run(tmp_path))), "a few KiB are not worth a line"
    filled(tmp_path / "logs/runs" / log.id / "uncommitted.patch", 1.5)
    found = list(disk_by_run(tmp_path))
    assert [finding.what for finding in found[:3]] == [
        "runs",
        "outputs/full",
        f"logs/runs/{log.id} (my run)",
    ]
    assert found[0].found == "8.0 MiB in 3 folders"
    assert found[0].meaning.startswith("5.0 MiB of it checkpoints; one more like the largest needs")
    assert found[1].found == "6.0 MiB" and found[1].meaning == "5.0 MiB of it checkpoints"
    assert found[2].found == "1.5 MiB"
    assert not any(finding.todo for finding in found), "a few MiB are no problem"


def test_the_kept_tokens_are_a_cache_and_no_run(tmp_path: Path) -> None:
    filled(tmp_path / "outputs/.tokens/some", 1.5)
    filled(tmp_path / "outputs/.tokens-of-mine/adapter/a", 2)
    names = [finding.what for finding in disk_by_run(tmp_path)]
    assert names == ["runs", "outputs/.tokens-of-mine", "outputs/.tokens (cache)"]


def test_only_ten_are_shown(tmp_path: Path) -> None:
    for number in range(12):
        filled(tmp_path / f"outputs/run{number:02}/a", 1 + 0.1 * number)
    found = list(disk_by_run(tmp_path))
    assert len(found) == 11 and found[0].found.endswith("in 12 folders")
    assert found[1].what == "outputs/run11" and found[10].what == "outputs/run02"


@pytest.mark.parametrize("cause", ["many checkpoints", "little room"])
def test_the_command_that_frees_them_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    filled(tmp_path / "outputs/full/checkpoints/step-10/a", 2)
    if cause == "many checkpoints":
        monkeypatch.setattr(space, "_MANY_GIB", 1 / 1024)
    else:
        monkeypatch.setattr(space.shutil, "disk_usage", lambda _: SimpleNamespace(free=MIB))
    assert "./scripts.sh runs prune" in next(disk_by_run(tmp_path)).todo


def test_a_fresh_checkout_has_nothing_yet(tmp_path: Path) -> None:
    (only,) = disk_by_run(tmp_path)
    assert only.found == "nothing yet"


def test_private_folders_are_no_problem(tmp_path: Path) -> None:
    for name in ("data", "outputs", "logs"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / ".env").write_text("HF_TOKEN=x")
    (tmp_path / ".env").chmod(0o600)
    found = by_name(permissions(tmp_path))
    assert found["folders"] == Finding(
        "folders", "data, outputs, logs", "writable, and private to you"
    )
    assert found[".env"] == Finding(".env", "private to you")


def test_what_others_may_read_is_named_with_the_command(tmp_path: Path) -> None:
    for name, mode in (("data", 0o755), ("outputs", 0o710), ("runs", 0o700), ("logs", 0o701)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / ".env").write_text("HF_TOKEN=x")
    (tmp_path / ".env").chmod(0o644)
    (tmp_path / "logs/runs.db").write_bytes(b"")
    (tmp_path / "logs/runs.db").chmod(0o640)
    found = by_name(permissions(tmp_path))
    assert found["folders"].todo == "chmod 700 data outputs logs"
    assert found[".env"].todo == "chmod 600 .env"
    assert found["logs/runs.db"].todo == "chmod 600 logs/runs.db"
    for finding in found.values():  # what is said to help, helps
        os.system(f"cd '{tmp_path}' && {finding.todo}")
    assert not any(finding.todo for finding in permissions(tmp_path))


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("")
    assert by_name(permissions(tmp_path))["folders"].todo == "move aside: outputs"


def as_another_user(folder: Path, ask: Callable[[], list[str]]) -> list[str]:
    """What `ask` returns when a user who is not root asks it inside `folder`."""
    folder.chmod(0o755)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)  # relative paths then need no right to the folders above
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            os.write(writing, json.dumps(ask()).encode())
        except Exception as problem:  # noqa: BLE001 - told to the parent
            os.write(writing, json.dumps([repr(problem)]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = json.loads(answer.read())
    os.waitpid(child, 0)
    assert isinstance(told, list)
    return told


def test_a_folder_that_is_not_writable_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o555)
    told = as_another_user(tmp_path, lambda: [next(permissions(Path())).todo])
    assert told == ["chmod u+rwx data, or give them back with chown"]


def test_folders_of_another_user_are_findings_and_no_traceback(tmp_path: Path) -> None:
    log = runlog.open_run(
        tmp_path, stage="train", name="x", config={}, differences={}, argv=["train"]
    )
    filled(tmp_path / "outputs/full/a", 1)
    (tmp_path / "home/.claude/projects/-src").mkdir(parents=True)

    def everything() -> list[str]:
        here = Surroundings(Path(), Path("home"))
        groups = examine(here, fast=True)
        return [f"{f.what}: {f.todo}" for group in groups for f in group.findings]

    everything()  # loads what another user may not be able to read
    for folder in ("logs", "outputs", "outputs/full", "home/.claude/projects"):
        (tmp_path / folder).chmod(0)
    told = as_another_user(tmp_path, everything)
    assert "folders: chmod u+rwx outputs logs, or give them back with chown" in told
    assert any(line.startswith("runs at work: read it as the user") for line in told)
    assert any(line.startswith("torch:") for line in told), "it went on to the end"
    for folder in ("logs", "outputs", "outputs/full", "home/.claude/projects"):
        (tmp_path / folder).chmod(0o700)
    log.finish("finished", "")


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "ext4"])
def test_a_network_file_system_under_logs_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/share {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr(database, "_MOUNTS", mounts)
    (finding,) = file_system(tmp_path, None)
    assert bool(finding.todo) is (kind != "ext4")
    if finding.todo:
        assert kind in finding.todo and "DATABASE_URL" in finding.todo
    assert list(file_system(tmp_path, "postgresql://user:pw@host/name")) == []
    assert list(file_system(tmp_path, "gopher://x")) == [], "told by the run database"
