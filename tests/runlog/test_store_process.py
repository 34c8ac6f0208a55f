"""Which process a run belongs to: also when clocks are set, pids used again, names hostile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from codetune.runlog import process

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


def test_this_process_is_alive_and_found() -> None:
    own = process.current()
    assert own.pid == os.getpid()
    assert process.find(own.pid) == own
    assert process.is_alive(own, heartbeat=0)


def test_a_child_until_it_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    found = process.find(sleeper.pid)
    assert found is not None
    assert process.is_alive(found, heartbeat=0)
    sleeper.kill()
    until = time.monotonic() + 5
    while process.is_alive(found, process.now_ms()):  # not waited for: it is a zombie
        assert time.monotonic() < until
    assert process.find(sleeper.pid) is None
    sleeper.wait()
    assert process.find(sleeper.pid) is None


def test_a_pid_that_was_given_away(sleeper: subprocess.Popen[bytes]) -> None:
    found = process.find(sleeper.pid)
    assert found is not None
    for earlier in (3_000, 10**7, -3_000):
        assert not process.is_alive(replace(found, started=found.started - earlier), 0)


@pytest.mark.parametrize(("ago", "alive"), [(0, True), (59_000, True), (61_000, False),
                                            (-59_000, True), (-86_400_000, False)])  # fmt: skip
def test_on_another_machine_the_last_word_decides(ago: int, alive: bool) -> None:
    now = process.now_ms()
    elsewhere = process.Process("another", os.getpid(), 1)
    assert process.is_alive(elsewhere, now - ago, now) is alive


@linux
def test_a_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    own = process.current()
    hour = psutil.Process().create_time() + 3600
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: hour)
    assert process.is_alive(own, heartbeat=0)
    assert process.current() == own


def test_journals_of_earlier_versions_count_from_the_epoch(
    sleeper: subprocess.Popen[bytes],
) -> None:
    started = int(psutil.Process(sleeper.pid).create_time() * 1000)
    older = process.Process(process.current().machine, sleeper.pid, started)
    assert process.is_alive(older, heartbeat=0)
    assert not process.is_alive(replace(older, started=started - 10_000), heartbeat=0)


@linux
@pytest.mark.parametrize("name", ["a) Z (b", ") Z 1 2 3", "two words", "\n) X"])
def test_a_program_whose_name_looks_like_a_state(tmp_path: Path, name: str) -> None:
    program = shutil.copy(shutil.which("sleep") or "", tmp_path / name)
    child = subprocess.Popen([program, "60"])
    try:
        found = process.find(child.pid)
        assert found is not None
        assert process.is_alive(found, heartbeat=0)
        assert abs(found.started / 1000 - (time.clock_gettime(time.CLOCK_BOOTTIME))) < 30
    finally:
        child.kill()
        child.wait()


def test_without_a_proc_file_system(
    monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(process, "_SELF", Path("/nowhere/stat"))
    own, other = process.current(), process.find(sleeper.pid)
    assert own.started > 10**12
    assert other is not None
    assert process.is_alive(own, 0)
    assert process.is_alive(other, 0)
    assert not process.is_alive(replace(other, started=other.started - 5_000), 0)
    assert process.find(max(psutil.pids()) + 100_000) is None


def test_a_process_table_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> str:
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(process, "_SELF", Path("/nowhere/stat"))
    monkeypatch.setattr(psutil.Process, "status", refuse)
    assert process.find(1) is None


def test_it_needs_no_library_on_linux(root: Path) -> None:
    program = (
        "import sys\nfrom codetune.runlog import process\nown = process.current()\n"
        "assert process.is_alive(own, 0)\nprint('psutil' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    words = [sys.executable, "-c", program]
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(not Path("/proc/self/stat").exists())
