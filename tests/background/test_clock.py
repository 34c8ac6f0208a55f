"""A clock that is set changes the ms UTC of a process's start, and not which process it is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from codetune.background import tensorboard
from codetune.background.detached import Detached
from tests.background.checkout import Checkout, is_alive


def set_forward(patch: pytest.MonkeyPatch) -> None:
    """The kernel now says that the machine was booted an hour later."""
    before, booted = psutil.Process().create_time(), psutil.boot_time()
    patch.setattr("psutil._pslinux.boot_time", lambda: booted + 3600)
    assert psutil.Process().create_time() == before + 3600, "this tests nothing"


def test_a_session_is_still_at_work(
    without_tmux: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert without_tmux.call("train", DOOR_SECONDS="1000").returncode == 0
    [before] = Detached(without_tmux.root).sessions()
    assert before.program is not None
    try:
        set_forward(monkeypatch)
        assert Detached(without_tmux.root).sessions() == [before]
    finally:
        os.killpg(before.program.pid, signal.SIGKILL)


def test_a_tensorboard_is_still_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = tensorboard.free_port(tensorboard.PORT)
    launch = tensorboard.Launch(tmp_path, tmp_path / "runs", port, detach=True)
    try:
        set_forward(monkeypatch)
        assert tensorboard.servers(tmp_path) == [launch.server]
        launch.end()
        assert not is_alive(launch.child.pid)
        assert tensorboard.servers(tmp_path) == []
    finally:
        launch.child.kill()
        launch.child.wait()
