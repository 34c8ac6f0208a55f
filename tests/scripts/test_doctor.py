"""doctor: what it finds on this machine, and on machines with a GPU that torch cannot use."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.runs import doctor

Runner = Callable[..., subprocess.CompletedProcess[str]]


def found(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}


@pytest.mark.slow
def test_a_machine_is_described_and_nothing_is_written(run_script: Runner, tmp_path: Path) -> None:
    done = run_script("runs/doctor.py", "--json", env={"OMP_NUM_THREADS": "1"})
    assert done.returncode in (0, 3), done.stderr  # 3 on a machine whose GPU torch cannot use
    expected = {"Python", "free disk", "tmux", "torch", "GPU", "NF4 product", "matrix product"}
    assert set(found(done)) >= expected
    assert list(tmp_path.iterdir()) == [], "doctor is read-only and no run"


def test_the_products_are_tried_for_real() -> None:
    (nf4,) = doctor.nf4("cpu")
    error = float(nf4.meaning.split()[2].rstrip(","))
    assert 0.05 < error < 0.15, "the rounding error of NF4 on normally distributed weights"
    assert nf4.todo == ""
    (speed,) = doctor.speed("cpu")
    assert re.fullmatch(r"float32 \S+, bfloat16 \S+, float16 \S+ GFLOP/s on cpu", speed.found)
    assert speed.meaning in {f"train computes in {name}" for name in ("float32", "bfloat16")}


def test_the_driver_is_asked_by_its_own_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 2080 Ti, 470.182.03'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.driver() == "NVIDIA GeForce RTX 2080 Ti, driver 470.182.03"
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert "2080" not in doctor.driver()


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_gpu_that_torch_cannot_use_is_exit_3(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "driver", lambda: "NVIDIA GeForce RTX 2080 Ti, driver 470.182.03")
    monkeypatch.setattr("sys.argv", ["doctor.py", *flags])
    if torch.version.cuda:
        monkeypatch.setattr(torch, "ones", _no_driver)
    assert doctor.main() == 3
    shown = capsys.readouterr()
    assert "NF4 product" in shown.out + shown.err, "what can be tried is tried all the same"
    if not flags:
        assert shown.out == "" and "setup --torch" in " ".join(shown.err.split())
        return
    gpu = next(f for f in json.loads(shown.out)["findings"] if f["what"] == "GPU")
    assert gpu["found"] == "NVIDIA GeForce RTX 2080 Ti, driver 470.182.03"
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
    facts = {finding.what: finding for finding in doctor.gpu("a GPU, driver 1")}
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
    (blocked,) = [finding for finding in doctor.gpu("a GPU, driver 1") if finding.blocked]
    assert blocked.meaning == "torch cannot: CUDA error: no kernel image is available"


def test_little_disk_and_no_tmux_each_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * 2**30))
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    facts = {finding.what: finding for finding in doctor.surroundings()}
    assert facts["free disk"].found == "2 GiB" and facts["free disk"].todo
    assert facts["tmux"].todo.startswith("install tmux")


@pytest.mark.gpu
def test_on_a_real_gpu_everything_is_measured_there(run_script: Runner) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    done = run_script("runs/doctor.py", "--json")
    assert done.returncode == 0
    assert found(done)["matrix product"]["found"].endswith("on cuda")
    assert "on cuda" in found(done)["NF4 product"]["found"]
