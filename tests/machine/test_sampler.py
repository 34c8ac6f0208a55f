"""The sampler that the run log's background thread uses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from codetune.machine import Sampler, host
from tests.machine.driver import GIB, Environment, fake_driver, told  # noqa: F401 - a fixture

FIRST, SECOND = "GPU-aaaa1111-0000-0000-0000-000000000001", "GPU-aaaa2222"
BOTH = {"gpu_percent": 40.0, "gpu_memory": 7 * GIB, "gpu_temperature": 71.0, "gpu_power": 287.5}
ONLY_FIRST = BOTH | {"gpu_memory": 6 * GIB}
ONLY_SECOND = dict.fromkeys(BOTH) | {"gpu_memory": GIB}
NONE: dict[str, Any] = dict.fromkeys(BOTH)


def sampled(setting: object, environment: Environment) -> dict[str, Any]:
    """The GPU fields of one sample under that CUDA_VISIBLE_DEVICES."""
    load = told(f"print(json.dumps(asdict(Sampler({setting!r}).sample())))", environment)
    assert load.pop("cpu_percent") >= 0 and load.pop("rss") > 2**20
    return dict(load)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, BOTH),
        ("0,1", BOTH),
        ("1, 0", BOTH),
        (f"{SECOND},0", BOTH),
        ("0", ONLY_FIRST),
        (FIRST, ONLY_FIRST),
        ("GPU-aaaa1", ONLY_FIRST),
        ("1", ONLY_SECOND),
        (SECOND, ONLY_SECOND),
        ("0,7,1", ONLY_FIRST),  # an entry that names no GPU ends the list
        ("0,-1,1", ONLY_FIRST),
        ("", NONE),
        (" ", NONE),
        ("-1", NONE),
        ("NoDevFiles", NONE),
        ("0,0", NONE),  # CUDA refuses a repeated one
        (f"0,{FIRST}", NONE),
        ("GPU-aaaa", NONE),  # fits two
        ("GPU-", NONE),
        ("²", NONE),  # a digit to Python, not to CUDA
        ("9" * 5000, NONE),
        ("MIG-none", NONE),
        ("MIG-bbbb3333-0000-0000-0000-000000000003", ONLY_SECOND | {"gpu_memory": GIB}),
    ],
)
def test_only_what_the_process_sees_is_counted(
    fake_driver: Environment,  # noqa: F811
    setting: str | None,
    expected: dict[str, Any],
) -> None:
    assert sampled(setting, fake_driver) == expected


def test_figures_follow_the_gpu(fake_driver: Environment) -> None:  # noqa: F811
    code = "s = Sampler('0')\nprint(json.dumps([s.sample().gpu_percent for _ in range(4)]))"
    assert told(code, fake_driver) == [40, 50, 60, 70]


def test_the_driver_is_opened_once(fake_driver: Environment) -> None:  # noqa: F811
    code = "loads = [Sampler().sample() for _ in range(3)]; gpus(); print(len(loads))"
    assert told(code, fake_driver) == 3, "a second start would have spoken on stderr"


@pytest.mark.parametrize("broken", [{"FAKE_NVML_LOST": "1"}, {"FAKE_NVML_INIT": "9"}])
def test_a_broken_gpu_costs_its_figures_only(
    fake_driver: Environment,  # noqa: F811
    broken: Environment,
) -> None:
    assert sampled(None, fake_driver | broken) == NONE


def test_a_sample_is_cheap(fake_driver: Environment) -> None:  # noqa: F811
    code = """
import time
sampler = Sampler()
began = time.process_time()
for _ in range(100):
    sampler.sample()
print((time.process_time() - began) / 100)
"""
    assert told(code, fake_driver) < 0.005, "seconds a sample, without the driver's own time"


def test_the_share_of_the_processor_is_of_this_process() -> None:
    sampler = Sampler("")
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    load = sampler.sample()
    assert load.cpu_percent > 10
    assert 0.5 < load.rss / psutil.Process().memory_info().rss < 2


def test_a_process_that_cannot_be_read_keeps_its_last_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = Sampler("")
    before = sampler.sample()

    def refused(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(psutil.Process, "memory_info", refused)
    assert sampler.sample().rss == before.rss


def test_the_machine_is_described() -> None:
    now = host(Path("/"), wait=0.05)
    assert 0 <= now.cpu_percent <= 100 and now.cpus >= 1 and now.load >= 0
    assert 0 < now.memory_used < now.memory_total
    assert 0 <= now.swap_used <= now.swap_total
    assert 0 <= now.disk_free < now.disk_total
