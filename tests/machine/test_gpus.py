"""GPUs as the driver tells of them, with the real pynvml over a fake driver library."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.machine.driver import (  # noqa: F401 - fixtures
    GIB,
    Environment,
    fake_driver,
    old_driver,
    told,
)

LIST = "print(json.dumps([asdict(gpu) for gpu in gpus()]))"
REASON = """
try:
    print(json.dumps({"gpus": len(gpus())}))
except GpuUnavailable as problem:
    print(json.dumps({"reason": str(problem), "has_driver": problem.has_driver}))
"""


def test_a_gpu_that_tells_everything(fake_driver: Environment) -> None:  # noqa: F811
    pids = {"FAKE_NVML_PIDS": f"41:{GIB},{os.getpid()}:{4 * GIB},42:-"}
    first, _ = told(LIST, fake_driver | pids)
    assert first == {
        "index": 0,
        "uuid": "GPU-aaaa1111-0000-0000-0000-000000000001",
        "name": "NVIDIA GeForce RTX 3090",
        "memory_used": 6 * GIB,
        "memory_total": 24 * GIB,
        "utilisation": 40,
        "power": 287.5,
        "power_limit": 350.0,
        "temperature": 71,
        "capability": [8, 6],
        "driver": "470.256.02",
        "cuda": "12.4",
        "processes": [
            {"pid": os.getpid(), "memory": 4 * GIB},
            {"pid": 41, "memory": GIB},
            {"pid": 42, "memory": None},
        ],
    }, "the process that computes and draws stands there once; the largest comes first"


def test_what_a_gpu_does_not_support_is_none(fake_driver: Environment) -> None:  # noqa: F811
    _, second = told(LIST, fake_driver | {"FAKE_NVML_PIDS": "41:5"})
    known = {name: value for name, value in second.items() if value is not None}
    assert known == {
        "index": 1,
        "uuid": "GPU-aaaa2222-0000-0000-0000-000000000002",
        "name": "NVIDIA T1000",
        "memory_used": GIB,
        "memory_total": 4 * GIB,
        "driver": "470.256.02",
        "cuda": "12.4",
    }


def test_an_idle_gpu_has_no_processes_which_is_not_unknown(
    fake_driver: Environment,  # noqa: F811
) -> None:
    first, second = told(LIST, fake_driver)
    assert (first["processes"], second["processes"]) == ([], None)


def test_an_old_driver_is_asked_the_old_way(old_driver: Environment) -> None:  # noqa: F811
    first, second = told(LIST, old_driver | {"FAKE_NVML_PIDS": "41:5"})
    assert first["cuda"] == "11.4"
    assert first["processes"] == [{"pid": 41, "memory": 5}]
    assert first["memory_used"] == 6 * GIB + 300 * 2**20, "it cannot tell the driver's own share"
    assert second["memory_total"] == 4 * GIB


def test_a_gpu_that_fell_off_the_bus_tells_nothing(fake_driver: Environment) -> None:  # noqa: F811
    first, _ = told(LIST, fake_driver | {"FAKE_NVML_LOST": "1"})
    assert first["name"] and first["memory_used"] is None and first["processes"] is None


def test_a_gpu_without_a_handle_is_left_out(fake_driver: Environment) -> None:  # noqa: F811
    assert len(told(LIST, fake_driver | {"FAKE_NVML_GPUS": "3"})) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("4", "no permission to use the NVIDIA driver"),
        ("9", "the NVIDIA driver is not loaded"),
        ("18", "the NVIDIA driver and its library differ in version"),
        ("999", "the NVIDIA driver does not answer: Unknown Error"),
        ("777", "the NVIDIA driver does not answer: "),
    ],
)
def test_a_driver_that_refuses_gives_one_clear_reason(
    fake_driver: Environment,  # noqa: F811
    code: str,
    reason: str,
) -> None:
    answer = told(REASON, fake_driver | {"FAKE_NVML_INIT": code})
    assert answer["reason"].startswith(reason) and "\n" not in answer["reason"]
    assert answer["has_driver"] is True


def test_no_driver_is_no_problem_of_a_driver(tmp_path: Path) -> None:
    found = told(REASON, {"LD_LIBRARY_PATH": str(tmp_path)})
    if "gpus" in found:
        pytest.skip("this machine has an NVIDIA driver")
    assert found == {"reason": "no NVIDIA driver on this machine", "has_driver": False}


def test_without_a_driver_pynvml_is_not_even_loaded(tmp_path: Path) -> None:
    code = f"import sys\nSampler()\n{REASON}\nprint(',', json.dumps('pynvml' in sys.modules), ']')"
    found = told("print('[')\n" + code, {"LD_LIBRARY_PATH": str(tmp_path)})
    if "gpus" in found[0]:
        pytest.skip("this machine has an NVIDIA driver")
    assert found[1] is False


def test_a_broken_library_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"not a library")
    found = told(REASON, {"LD_LIBRARY_PATH": str(tmp_path)})
    assert found.get("has_driver") is False or "gpus" in found


def test_a_machine_without_gpus_has_an_empty_list(fake_driver: Environment) -> None:  # noqa: F811
    assert told(LIST, fake_driver | {"FAKE_NVML_GPUS": "0"}) == []
