"""`--help` of every stage answers before anyone wonders: under 0.3 s of CPU time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").rglob("*.py") if path.parent.name != "setup")
LIMIT = 0.3  # seconds


def cpu_seconds(script: Path, output: Path) -> float:
    """CPU time of one `--help`, user and system."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with output.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, str(script), "--help"], cwd=output.parent, env=env, stdout=out
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_is_quick_and_says_how_to_run_it(script: Path, tmp_path: Path) -> None:
    # the best of three: a busy machine can slow a process down but not speed it up
    best = min(cpu_seconds(script, tmp_path / "help") for _ in range(3))
    text = (tmp_path / "help").read_text()
    assert best < LIMIT, f"{best:.2f} s: something heavy is imported at the top"
    assert script.name in text
    assert list(tmp_path.iterdir()) == [tmp_path / "help"], "--help writes nothing"
