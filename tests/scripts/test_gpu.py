"""gpu: the table of GPUs and of who holds them, over a fake driver and real processes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.machine.driver import (  # noqa: F401 - fixtures
    GIB,
    ROOT,
    Environment,
    compiled,
    fake_driver,
)

Runner = Callable[..., subprocess.CompletedProcess[str]]
SCRIPT = ROOT / "scripts" / "runs" / "gpu.py"
HOSTILE = "[red]$(touch x)[/] '\"\x1b[31m\nline two " + "long " * 800
# A run whose process holds the GPU through a child: as data loaders and launchers do.
RUN = """
import subprocess, sys, time
from pathlib import Path
from codetune import runlog
log = runlog.open_run(Path.cwd(), stage="train", name=sys.argv[1], config={}, differences={},
                      argv=["train"])
log.define("train_loss", "nats", "lower", 1)
for step in (10, 20):
    log.metric("train_loss", 1.0, step)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(log.id, child.pid, flush=True)
sys.stdin.read()
child.kill()
"""


@pytest.fixture
def run_at_work(tmp_path: Path) -> Iterator[Callable[[str], tuple[str, int, int]]]:
    """Starts a real run in another process; returns its id, its pid, and its child's pid."""
    started = []

    def start(name: str) -> tuple[str, int, int]:
        settings = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        run = subprocess.Popen(
            [sys.executable, "-c", RUN, name],
            cwd=tmp_path,
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(run)
        assert run.stdout is not None
        run_id, child = run.stdout.readline().split()
        return run_id, run.pid, int(child)

    yield start
    for run in started:
        run.communicate("")


def answer(run_script: Runner, **environment: str) -> dict[str, Any]:
    done = run_script("runs/gpu.py", "--json", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_a_gpu_names_the_run_and_the_process_that_hold_it(
    run_script: Runner,
    run_at_work: Callable[[str], tuple[str, int, int]],
    fake_driver: Environment,  # noqa: F811
) -> None:
    run_id, pid, child = run_at_work("full")
    pids = f"{pid}:{4 * GIB},{child}:{GIB},{os.getpid()}:5,999999999:-"
    found = answer(run_script, FAKE_NVML_PIDS=pids, **fake_driver)
    assert [gpu["name"] for gpu in found["gpus"]] == ["NVIDIA GeForce RTX 3090", "NVIDIA T1000"]
    assert found["reason"] is None
    own, loader, other, stranger = found["processes"]
    run = {"run": "full", "id": run_id, "stage": "train", "step": 20}
    assert own["gpu"] == 0 and own["pid"] == pid and own["gpu_memory"] == 4 * GIB
    assert own["rss"] > 2**20 and own["user"]
    assert own | run == own
    assert loader | run == loader and loader["pid"] == child, "a child's GPU is its run's"
    assert (other["pid"], other["run"]) == (os.getpid(), None), "above the run, and no part of it"
    assert other["command"] == psutil.Process().name()
    nothing = dict.fromkeys(stranger)
    assert stranger == nothing | {"gpu": 0}, "a number that is no process here is not guessed at"


def test_a_run_on_the_cpu_is_shown_too(
    run_script: Runner,
    run_at_work: Callable[[str], tuple[str, int, int]],
    fake_driver: Environment,  # noqa: F811
) -> None:
    run_id, pid, _ = run_at_work("sft-1")
    (run,) = answer(run_script, **fake_driver)["processes"]
    assert (run["gpu"], run["pid"], run["id"], run["gpu_memory"]) == (None, pid, run_id, None)
    assert run["rss"] > 2**20


def test_without_a_gpu_there_is_one_line_and_the_rest(
    run_script: Runner, run_at_work: Callable[[str], tuple[str, int, int]]
) -> None:
    run_id, pid, _ = run_at_work("on the cpu")
    done = run_script("runs/gpu.py")
    if "driver" in done.stdout and "CUDA up to" in done.stdout:
        pytest.skip("this machine has an NVIDIA GPU")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == "no GPU: no NVIDIA driver on this machine"
    assert re.match(r"CPU \d+ % of \d+ cores, load [\d.]+; RAM [\d.]+/[\d.]+ GiB", lines[1])
    assert "on the cpu" in lines[-1] and str(pid) in lines[-1] and run_id[-8:] in lines[-1]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"FAKE_NVML_INIT": "18"}, "no GPU: the NVIDIA driver and its library differ in version"),
        ({"FAKE_NVML_GPUS": "0"}, "no GPU: the NVIDIA driver has no GPU here"),
    ],
)
def test_a_driver_in_trouble_is_told_and_no_failure(
    run_script: Runner,
    fake_driver: Environment,  # noqa: F811
    settings: Environment,
    line: str,
) -> None:
    done = run_script("runs/gpu.py", env=fake_driver | settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(line)
    assert "no active run, and no process on a GPU" in done.stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal(
    run_script: Runner,
    run_at_work: Callable[[str], tuple[str, int, int]],
    fake_driver: Environment,  # noqa: F811
    columns: int,
) -> None:
    run_id, pid, _ = run_at_work(HOSTILE)
    settings = fake_driver | {"FAKE_NVML_PIDS": f"{pid}:{GIB}", "COLUMNS": str(columns)}
    shown = run_script("runs/gpu.py", "--once", env=settings).stdout
    assert max(len(line) for line in shown.splitlines()) <= columns
    assert "\x1b" not in shown
    assert "[red]$(touch x)" in shown, "markup is not read"
    row = next(line for line in shown.splitlines() if run_id[-8:] in line)
    assert re.search(rf"train +20 +{pid} ", row), "one row, whatever the name holds"
    gpu = next(line for line in shown.splitlines() if "RTX 3090" in line)
    for figure in ("6.0/24.0", "40 %", "288/350", "71 C"):
        assert figure in gpu


def test_a_foreign_process_shows_its_program(
    run_script: Runner,
    fake_driver: Environment,  # noqa: F811
) -> None:
    settings = fake_driver | {"FAKE_NVML_PIDS": f"{os.getpid()}:{GIB},999999999:{GIB}"}
    shown = run_script("runs/gpu.py", env=settings).stdout.splitlines()
    assert re.match(rf" 0 +\({re.escape(psutil.Process().name())}\) .* {os.getpid()} ", shown[-3])
    assert set(shown[-2].split()) == {"0", "-", "1.0"}, "a number of another namespace"


def watched(settings: Environment, folder: Path, ending: int) -> tuple[int, str]:
    """Runs `gpu` on a terminal of its own, signals it after three pictures; status and screen."""
    leader, follower = pty.openpty()
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT / "src"), "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    watching = subprocess.Popen(
        [sys.executable, SCRIPT, "--interval", "0.1"],
        cwd=folder,
        env=environment | {"COLUMNS": "100", "LINES": "40"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    seen, until, asked = b"", time.monotonic() + 60, False
    while time.monotonic() < until:
        if select.select([leader], [], [], 0.05)[0]:
            try:
                seen += os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
        if not asked and seen.count(b"RTX 3090") >= 3:
            watching.send_signal(ending)
            asked = True
    os.close(leader)
    return watching.wait(10), seen.decode("utf-8", "replace")


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_watches_until_ctrl_c(
    tmp_path: Path,
    fake_driver: Environment,  # noqa: F811
    ending: int,
    status: int,
) -> None:
    ended, screen = watched(fake_driver, tmp_path, ending)
    assert ended == status
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    busy = [int(percent) for percent in re.findall(r"(\d+) %  +288", plain)]
    assert busy[:3] == [40, 50, 60], "each picture asks the driver anew"
    assert "Traceback" not in plain
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l"), "the cursor is back"


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "1e9", "x"])
def test_a_bad_interval_is_one_line(run_script: Runner, interval: str) -> None:
    done = run_script("runs/gpu.py", f"--interval={interval}")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and "--interval" in done.stderr


def test_a_process_number_of_another_namespace_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a container: there a number counts only for a process that has CUDA loaded."""
    from codetune.machine import processes

    source = tmp_path / "cuda.c"
    source.write_text("int cuInit(unsigned flags) { return (int)flags; }\n")
    libraries = compiled(source, tmp_path, "libcuda.so.1")["LD_LIBRARY_PATH"]
    monkeypatch.setattr(processes, "_FIRST_NAMESPACE", -1)
    code = "import ctypes, sys; sys.argv[1:] and ctypes.CDLL(sys.argv[1]); print(); input()"
    for words, expected in (([], False), ([f"{libraries}/libcuda.so.1"], True)):
        with subprocess.Popen(
            [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            assert processes.is_known(other.pid) is expected
            other.communicate(b"\n")
    assert processes.is_known(999999999) is False
