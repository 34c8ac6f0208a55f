"""What tests share: the repository, the shared data, and a way to run a stage as a user does."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real samples beside the repository; tests that need it skip without."""
    folder = ROOT.parent / "shared"
    if not (folder / "DESIGN.md").exists():
        pytest.skip("no ../shared beside the repository")
    return folder


@pytest.fixture(scope="session")
def qwen_tokenizer(shared: Path) -> Path:
    """The folder of the real Qwen2.5-Coder tokenizer."""
    return shared / "tokenizers" / "qwen2.5-coder"


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `scripts/<path>` in a temporary project folder; returns the completed process."""

    def run(
        path: str, *args: object, cwd: Path = tmp_path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / path), *map(str, args)]
        settings = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120", **(env or {})}
        return subprocess.run(
            command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=600
        )

    return run


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As `run_script`, but in this process: the libraries of a stage load once for many cases."""
    monkeypatch.chdir(tmp_path)

    def run(path: str, *args: object) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        words = [str(arg) for arg in args]
        monkeypatch.setattr(sys, "argv", [path, *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "scripts" / path), run_name="__main__")
        code = ended.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return run
