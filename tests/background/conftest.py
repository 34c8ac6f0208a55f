"""A checkout of its own, and a tmux server of its own that nobody else talks to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.background.checkout import ROOT, Checkout, is_alive

STAGE = Path(__file__).with_name("slow_stage.py")
# Stands for scripts.sh: `train` is the stage beside this file, the other windows end soon: tmux may
# lose the words of a program that ends in the moment it speaks.
DOOR = """#!/usr/bin/env bash
verb=$1; shift
[[ -z ${DOOR_TENSORBOARD:-} || $verb != tensorboard ]] ||
  exec "$TEST_PYTHON" scripts/runs/tensorboard.py "$@"
[[ $verb == train ]] || { echo "$verb was here"; sleep 0.5; exit 7; }
[[ -z ${DOOR_SECONDS:-} ]] || sleep "$DOOR_SECONDS"
[[ -z ${DOOR_EXIT:-} ]] || { echo "the door is closed"; exit "$DOOR_EXIT"; }
[[ -z ${DOOR_WAITS:-} ]] || { "$TEST_PYTHON" "$TEST_STAGE" "$@"; exit; }
exec "$TEST_PYTHON" "$TEST_STAGE" "$@"
"""


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An environment in which tmux is a server of this test alone, ended afterwards."""
    if shutil.which("tmux") is None:
        pytest.skip("no tmux here")
    # the name of a socket is at most 107 bytes long, and tmp_path may be longer
    sockets = tempfile.mkdtemp(prefix="codetune-tmux-")
    env = {k: v for k, v in os.environ.items() if k not in ("TMUX", "TMUX_PANE", "DATABASE_URL")}
    env |= {"TMUX_TMPDIR": sockets, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    env |= {"TEST_PYTHON": sys.executable, "TEST_STAGE": str(STAGE), "TERM": "xterm"}
    env |= {"COLUMNS": "200", "SHELL": "/bin/sh"}
    # for this process too, which may ask tmux itself
    monkeypatch.setenv("TMUX_TMPDIR", sockets)
    for name in ("TMUX", "TMUX_PANE"):
        monkeypatch.delenv(name, raising=False)
    yield env
    subprocess.run(["tmux", "kill-server"], env=env, capture_output=True)
    shutil.rmtree(sockets)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the real `train` wants to see before a session is opened: a recipe, a base and rows."""
    from tests.evaluation import tiny  # needs seconds

    place = tmp_path_factory.mktemp("inputs")
    for folder in ("configs/train", "data"):
        (place / folder).mkdir(parents=True)
    recipe = "model_name_or_path: base\nmax_length: 96\n"
    (place / "configs" / "train" / "default.yaml").write_text(recipe)
    tiny.make_base(place / "base", steps=0)
    tiny.write_rows(place / "data" / "train.jsonl", tiny.house_rows(4))
    tiny.write_rows(place / "data" / "eval.jsonl", tiny.house_rows(4, first=100))
    return place


@pytest.fixture
def checkout(tmp_path: Path, private: dict[str, str], inputs: Path) -> Iterator[Checkout]:
    """A checkout whose `train` is the slow stage; no process of it is left behind."""
    root = tmp_path / "my code $(touch pwned) #{pid} 'x"
    shutil.copytree(inputs, root)
    (root / "scripts").symlink_to(ROOT / "scripts")
    door = root / "scripts.sh"
    door.write_text(DOOR)
    door.chmod(0o755)
    yield Checkout(root, private)
    for note in root.glob("seen.*.json"):
        pid = json.loads(note.read_text())["pid"]
        if is_alive(pid) and psutil.Process(pid).cwd() == str(root):
            os.kill(pid, signal.SIGKILL)
    assert not list(tmp_path.rglob("pwned"))


@pytest.fixture
def without_tmux(checkout: Checkout, tmp_path: Path) -> Checkout:
    """The same, with a PATH on which there is no tmux."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "git"):
        (tools / name).symlink_to(str(shutil.which(name)))
    return Checkout(checkout.root, checkout.env | {"PATH": str(tools)})
