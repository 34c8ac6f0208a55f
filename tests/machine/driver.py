"""A fake NVIDIA driver library, compiled here, so that the real pynvml runs over real ctypes.

It is found by LD_LIBRARY_PATH, which a process reads when it starts: hence the subprocesses.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 2**30
Environment = dict[str, str]


def compiled(source: Path, folder: Path, name: str, *flags: str) -> Environment:
    """The setting under which a new process finds `source` as the shared library `name`."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build the fake driver library with")
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{name}"]
    subprocess.run([*command, *flags, "-o", folder / name, source], check=True)
    return {"LD_LIBRARY_PATH": str(folder)}


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A machine with a driver and two GPUs; see fake_nvml.c for how to change it."""
    return compiled(SOURCE, tmp_path_factory.mktemp("driver"), "libnvidia-ml.so.1")


@pytest.fixture(scope="session")
def old_driver(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The same with a driver of 2021, which lacks the newer functions."""
    folder = tmp_path_factory.mktemp("old_driver")
    return compiled(SOURCE, folder, "libnvidia-ml.so.1", "-DOLD_DRIVER")


def told(code: str, environment: Environment) -> Any:
    """What a new Python process prints as JSON after running `code`."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    prelude = "import json\nfrom dataclasses import asdict\nfrom codetune.machine import *\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], env=settings, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)
