"""doctor: what it finds on this machine, and on machines with a GPU that torch cannot use."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codetune.doctor import driver, system, trial
from scripts.runs import doctor
from tests.machine.driver import ROOT, Environment, fake_driver  # noqa: F401 - a fixture

Runner = Callable[..., subprocess.CompletedProcess[str]]
DYING = """
import os, signal
from pathlib import Path
from codetune import runlog
runlog.open_run(Path.cwd(), stage="train", name="[bold]full[/] $(touch x)\\x1b[2J", config={},
                differences={}, argv=["train"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def found(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}


@pytest.fixture
def home(tmp_path: Path) -> Environment:
    """A home folder of the test's own, so that no file of yours decides what is found."""
    (tmp_path / "home").mkdir(mode=0o700)
    return {"HOME": str(tmp_path / "home"), "CLAUDE_CONFIG_DIR": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir(mode=0o700)
    return tmp_path / "project"


@pytest.mark.slow
def test_a_machine_is_described_and_nothing_is_written(
    run_script: Runner, project: Path, home: Environment
) -> None:
    done = run_script("runs/doctor.py", "--json", cwd=project, env=home)
    assert done.returncode in (0, 3), done.stderr  # 3 on a machine whose GPU torch cannot use
    expected = {"Python", "free disk", "tmux", "torch", "GPU", "NF4 product", "matrix product"}
    assert set(found(done)) >= expected
    assert list(project.iterdir()) == [], "doctor is read-only and no run"
    assert list(Path(home["HOME"]).iterdir()) == []


def test_the_fast_look_loads_no_torch_and_is_quick(
    run_script: Runner, project: Path, home: Environment, tmp_path: Path
) -> None:
    torch = tmp_path / "path" / "torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").write_text("raise SystemExit('torch was loaded')\n")
    (torch / "version.py").write_text("__version__ = '9.9+cpu'\ncuda: Optional[str] = None\n")
    env = home | {"PYTHONPATH": f"{torch.parent}:{ROOT / 'src'}"}
    began = time.monotonic()
    done = run_script("runs/doctor.py", "--fast", "--json", cwd=project, env=env)
    assert time.monotonic() - began < 10, "seconds; 0.4 of processor time on an idle machine"
    assert done.returncode in (0, 3), done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {"findings", "gpu_unusable", "seconds"}
    assert told["seconds"] < 10
    names = {finding["what"] for finding in told["findings"]}
    assert names >= {
        "Python",
        "machine",
        "free disk",
        "tmux",
        "git",
        "psycopg",
        "tensorboard",
        "SQLite",
        "run database",
        "runs at work",
        "folders",
        "file system",
        "NVIDIA driver",
        "torch",
    }
    assert "NF4 product" not in names
    assert found(done)["torch"]["found"] == "9.9+cpu"
    fields = {"group", "what", "found", "meaning", "todo", "blocked"}
    assert all(set(finding) == fields for finding in told["findings"])


def test_every_trouble_is_named_with_what_to_do(
    run_script: Runner, project: Path, home: Environment
) -> None:
    """A stale run, a readable .env, an open folder, old sessions and a database that is away."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    dead = subprocess.run([sys.executable, "-c", DYING], cwd=project, env=settings)
    assert dead.returncode == -signal.SIGKILL
    (project / ".env").write_text("DATABASE_URL=postgresql://me:hunter2@127.0.0.1:1/runs\n")
    (project / ".env").chmod(0o644)
    (project / "data").mkdir()
    (project / "data").chmod(0o755)
    session = Path(home["HOME"]) / ".claude/projects/-src/a.jsonl"
    session.parent.mkdir(parents=True)
    session.write_text("{}\n")
    month = time.time() - 29 * 86400
    os.utime(session, (month, month))
    env = {name: home[name] for name in home if name != "CLAUDE_CONFIG_DIR"}
    done = run_script("runs/doctor.py", "--fast", "--json", cwd=project, env=env)
    facts = found(done)
    assert {name for name in facts if facts[name]["todo"]} >= {
        "stale run",
        ".env",
        "folders",
        "deleted in a week",
        "run database",
    }
    assert facts[".env"]["todo"] == "chmod 600 .env"
    assert facts["folders"]["todo"] == "chmod 700 data"
    assert "archive-logs" in facts["deleted in a week"]["todo"]
    assert "hunter2" not in done.stdout + done.stderr
    assert not (project / "x").exists()


@pytest.mark.parametrize("columns", [80, 120])
def test_it_is_readable_on_a_terminal_of_that_width(
    run_script: Runner, project: Path, home: Environment, columns: int
) -> None:
    settings = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", DYING], cwd=project, env=settings)
    (project / "data").mkdir()
    (project / "data").chmod(0o755)
    done = run_script("runs/doctor.py", "--fast", cwd=project, env=home | {"COLUMNS": str(columns)})
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    for group in ("machine", "optional extras", "run log", "disk by run", "files", "torch and GPU"):
        assert group in lines
    assert "[bold]full[/] $(touch x)" in done.stdout, "names are no markup and no command"
    assert any(line.strip() == "-> chmod 700 data" for line in lines), "a command to copy"
    marked = sum(line.startswith("!! ") for line in lines)
    said = re.search(r"(\d+) things? to do, marked !! above \([\d.]+ s\)", done.stdout)
    assert said and marked == int(said[1])


def test_the_products_are_tried_for_real() -> None:
    (nf4,) = trial.nf4("cpu")
    error = float(nf4.meaning.split()[2].rstrip(","))
    assert 0.05 < error < 0.15, "the rounding error of NF4 on normally distributed weights"
    assert nf4.todo == ""
    (speed,) = trial.speed("cpu")
    assert re.fullmatch(r"float32 \S+, bfloat16 \S+, float16 \S+ GFLOP/s on cpu", speed.found)
    assert speed.meaning in {f"train computes in {name}" for name in ("float32", "bfloat16")}


def test_a_cpu_build_beside_a_real_driver_is_exit_3_without_loading_it(
    run_script: Runner,
    project: Path,
    home: Environment,
    fake_driver: Environment,  # noqa: F811
) -> None:
    done = run_script("runs/doctor.py", "--fast", "--json", cwd=project, env=home | fake_driver)
    facts = found(done)
    assert facts["NVIDIA driver"]["found"] == "470.256.02"
    assert facts["torch"]["blocked"] is (done.returncode == 3)
    if "CPUs" in facts["torch"]["meaning"]:
        assert done.returncode == 3 and "setup --torch" in facts["torch"]["todo"]


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_gpu_that_torch_cannot_use_is_exit_3(
    flags: list[str],
    project: Path,
    home: Environment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    name = "NVIDIA GeForce RTX 2080 Ti, driver 470.182.03"
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", home["HOME"])
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(driver, "nvidia", lambda: name)
    if torch.version.cuda:
        monkeypatch.setattr(torch, "ones", _no_driver)
    assert doctor.main(flags) == 3
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "NF4 product" in shown.out, "what can be tried is tried all the same"
    if not flags:
        assert "setup --torch" in " ".join(shown.out.split())
        return
    gpu = next(f for f in json.loads(shown.out)["findings"] if f["what"] == "GPU")
    assert gpu["found"] == name
    assert gpu["blocked"] and "setup --torch" in gpu["todo"]


def _no_driver(*size: int, **_: object) -> None:
    raise RuntimeError("Found no NVIDIA driver on your system")


def as_gpu(monkeypatch: pytest.MonkeyPatch, major: int, minor: int, gib: float) -> None:
    """Makes torch believe in a GPU of this kind; products stay on the CPU."""
    import torch

    facts = SimpleNamespace(major=major, minor=minor, total_memory=int(gib * 2**30), name="a GPU")
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, **_: ones(*size))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: facts)


@pytest.mark.parametrize(
    ("major", "minor", "gib", "dtype", "fit"),
    [
        (7, 5, 10.8, "fp16", "0.5B, 1.5B, 3B, 7B"),  # RTX 2080 Ti
        (8, 6, 23.7, "bf16", "0.5B, 1.5B, 3B, 7B, 14B"),  # RTX 3090
        (9, 0, 139.8, "bf16", "0.5B, 1.5B, 3B, 7B, 14B, 32B"),  # H200
    ],
)
def test_a_gpu_is_judged_by_capability_and_memory(
    monkeypatch: pytest.MonkeyPatch, major: int, minor: int, gib: float, dtype: str, fit: str
) -> None:
    as_gpu(monkeypatch, major, minor, gib)
    facts = {finding.what: finding for finding in trial.gpu("a GPU, driver 1")}
    assert facts["GPU"].meaning == f"sm_{major}{minor}, {gib:.1f} GiB"
    assert facts["compute type"].found.startswith(dtype)
    assert facts["presets that fit"].found == fit
    assert not any(finding.blocked for finding in facts.values())


def test_a_build_without_code_for_the_gpu_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def no_kernel(*size: int, **_: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nlong advice")

    as_gpu(monkeypatch, 6, 1, 8.0)
    monkeypatch.setattr(torch, "ones", no_kernel)
    (blocked,) = [finding for finding in trial.gpu("a GPU, driver 1") if finding.blocked]
    assert blocked.meaning == "torch cannot: CUDA error: no kernel image is available"


def test_where_versions_and_the_trial_disagree_the_trial_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with NVIDIA's forward compatibility packages: torch works on a driver that looks old."""
    from codetune import models
    from codetune.doctor.examination import torch_and_gpu

    as_gpu(monkeypatch, 9, 0, 139.8)
    monkeypatch.setattr(models, "pick_device", lambda: "cpu")
    looks_wrong = driver.Finding("torch", "2.9", "built for CUDA 13.0: it needs", "todo", True)
    monkeypatch.setattr(driver, "torch_by_its_files", lambda: iter([looks_wrong]))
    assert not any(finding.blocked for finding in torch_and_gpu(fast=False))
    assert any(finding.blocked for finding in torch_and_gpu(fast=True))


def test_little_disk_and_no_tmux_each_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(system.shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * 2**30))
    monkeypatch.setattr(system.shutil, "which", lambda _: None)
    facts = {f.what: f for f in [*system.surroundings(tmp_path), *system.extras()]}
    assert facts["free disk"].found == "2 GiB" and facts["free disk"].todo
    assert facts["free disk"].meaning.endswith("of none")
    assert facts["tmux"].todo.startswith("install tmux")
    assert facts["git"].todo.startswith("install git")


def test_a_package_that_is_missing_says_how_to_get_it() -> None:
    finding = system._package("no-such-package-here", "nothing")
    assert (finding.found, finding.todo) == ("not found", "./scripts.sh setup")


@pytest.mark.parametrize(
    ("version", "how"),
    [((3, 40, 1), "rollback journal"), ((3, 51, 3), "write-ahead log is used")],
)
def test_sqlite_says_which_journal_it_uses(version: tuple[int, int, int], how: str) -> None:
    assert how in system._sqlite(version).meaning


@pytest.mark.gpu
def test_on_a_real_gpu_everything_is_measured_there(run_script: Runner) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    done = run_script("runs/doctor.py", "--json")
    assert done.returncode == 0
    assert found(done)["matrix product"]["found"].endswith("on cuda")
    assert "on cuda" in found(done)["NF4 product"]["found"]
