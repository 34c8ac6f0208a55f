"""What is said of the driver, over a fake driver library, and whether torch's build fits it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codetune.doctor import driver
from codetune.doctor.driver import misfit, torch_build
from codetune.machine import Gpu
from tests.machine.driver import (  # noqa: F401 - fixtures
    GIB,
    ROOT,
    Environment,
    fake_driver,
    old_driver,
)

CODE = """
import json
from dataclasses import asdict
from codetune.doctor.driver import driver_findings, nvidia, torch_by_its_files
found = [*driver_findings(), *torch_by_its_files()]
print(json.dumps([nvidia(), {finding.what: asdict(finding) for finding in found}]))
"""
RTX_2080_TI = Gpu(
    index=0,
    uuid=None,
    name="NVIDIA GeForce RTX 2080 Ti",
    memory_used=None,
    memory_total=None,
    utilisation=None,
    power=None,
    power_limit=None,
    temperature=None,
    capability=(7, 5),
    driver="470.182.03",
    cuda="11.4",
    processes=None,
)


def looked(environment: Environment) -> tuple[str, dict[str, dict[str, Any]]]:
    settings = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=settings, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    name, findings = json.loads(done.stdout)
    return name, findings


def test_the_driver_is_asked_by_nvml(fake_driver: Environment) -> None:  # noqa: F811
    name, found = looked(fake_driver)
    assert name == "NVIDIA GeForce RTX 3090, driver 470.256.02"
    assert found["NVIDIA driver"]["found"] == "470.256.02"
    assert found["NVIDIA driver"]["meaning"] == "runs programs up to CUDA 12.4"
    assert found["memory of GPU 0"]["found"] == "18.0 of 24.0 GiB free"
    assert found["memory of GPU 0"]["meaning"] == "./scripts.sh gpu shows who holds the rest"
    assert found["memory of GPU 1"]["found"] == "3.0 of 4.0 GiB free"


def test_a_cpu_build_beside_a_gpu_is_blocked(fake_driver: Environment) -> None:  # noqa: F811
    _, found = looked(fake_driver)
    version, cuda = torch_build()
    if not cuda:
        assert found["torch"]["meaning"] == "built for CPUs: it cannot use the GPU"
        assert found["torch"]["blocked"] and "setup --torch auto" in found["torch"]["todo"]
    assert found["torch"]["found"] == version


@pytest.mark.parametrize(("code", "todo"), [("4", "no permission"), ("18", "differ in version")])
def test_a_driver_in_trouble_says_what_to_do(
    fake_driver: Environment,  # noqa: F811
    code: str,
    todo: str,
) -> None:
    _, found = looked(fake_driver | {"FAKE_NVML_INIT": code})
    assert todo in found["NVIDIA driver"]["todo"]


def test_a_machine_without_a_driver_has_no_problem(tmp_path: Path) -> None:
    name, found = looked({"LD_LIBRARY_PATH": str(tmp_path)})
    if name:
        pytest.skip("this machine has an NVIDIA driver")
    assert (found["NVIDIA driver"]["found"], found["NVIDIA driver"]["todo"]) == ("none", "")
    assert not found["torch"]["blocked"]


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.182.03  Fri Feb 24 2023\nGCC",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build\nGCC",
    ],
)
def test_the_kernel_tells_of_a_driver_whose_library_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    (tmp_path / "version").write_text(line)
    monkeypatch.setattr(driver, "_KERNEL_MODULE", tmp_path / "version")
    known = driver.kernel_driver()
    assert known in ("470.182.03", "570.124.06") and known in line
    if "cuda" not in str(driver.probe()[1] or "cuda"):  # no driver library here either
        (finding,) = driver.driver_findings()
        assert finding.found == known and "docker run --gpus all" in finding.todo
        assert driver.nvidia() == f"NVIDIA GPU, driver {known}"
    (tmp_path / "version").unlink()
    assert driver.kernel_driver() == ""


def test_the_build_of_torch_is_read_without_loading_it() -> None:
    code = (
        "import sys\nfrom codetune.doctor.driver import torch_build\n"
        "print(torch_build(), 'torch' in sys.modules)"
    )
    settings = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True
    )
    import torch

    assert done.stdout.strip() == f"{(torch.__version__, torch.version.cuda or '')!r} False"


@pytest.mark.parametrize(
    ("cuda", "gpu", "problem"),
    [
        ("", RTX_2080_TI, "it cannot use the GPU"),
        ("11.8", RTX_2080_TI, ""),
        ("12.1", RTX_2080_TI, "it needs driver 525.60 or later, this is 470.182.03"),
        ("12.8", replace(RTX_2080_TI, driver="525.147.05"), ""),  # any 12.x runs on it
        ("12.8", replace(RTX_2080_TI, driver="525.53"), "it needs driver 525.60"),
        ("13.0", replace(RTX_2080_TI, driver="570.124.06"), "it needs driver 580 or later"),
        ("13.0", replace(RTX_2080_TI, driver="580.65.06"), ""),
        ("13.0", replace(RTX_2080_TI, driver="580.65.06", capability=(6, 1)), "no code for sm_61"),
        ("12.6", replace(RTX_2080_TI, driver="580.65.06", capability=(6, 1)), ""),
        ("12.8", replace(RTX_2080_TI, driver=None, capability=None), ""),  # nothing is known
        ("99.0", RTX_2080_TI, ""),
    ],
)
def test_a_build_is_judged_by_the_driver_and_the_generation(
    cuda: str, gpu: Gpu, problem: str
) -> None:
    found = misfit(cuda, gpu)
    assert (problem in found) if problem else found == ""
