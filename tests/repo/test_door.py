"""scripts.sh: what it hands on, where it can be called from, what it says when it cannot go on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOOR = ROOT / "scripts.sh"
VERBS = re.findall(
    r"\S+",
    "setup doctor demo pipeline test check archive-logs sft fim data peek check-lengths "
    "train train-log tmux-train tmux-attach tmux-status tmux-kill baseline test-baseline "
    "compare merge model-test runs logs gpu tensorboard help examples",
)
# Stands for the environment's Python: shows what it was given, one argument a line.
FAKE_PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "cwd=$PWD" "$@"
exit "${FAKE_EXIT:-0}"
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout in a folder with a hostile name, and an environment that only echoes."""
    home = tmp_path / "my code $(touch pwned) 'x"
    home.mkdir()
    shutil.copy(DOOR, home)
    shutil.copy(ROOT / "pyproject.toml", home)
    shutil.copytree(ROOT / "requirements", home / "requirements")
    shutil.copytree(ROOT / "scripts" / "setup", home / "scripts" / "setup")
    python = home / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    stamp(home, "base")
    return home


def stamp(home: Path, level: str) -> None:
    """Notes that setup is done, as setup does."""
    made_from = "cat requirements/*.txt pyproject.toml | cksum | tr ' ' '-'"
    mark = subprocess.check_output(["bash", "-c", made_from], cwd=home, text=True).strip()
    (home / ".venv" / "codetune-setup.txt").write_text(f"{mark} {level} auto\n")


def call(
    home: Path, *args: str, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    settings = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"} | env
    return subprocess.run(
        [str(home / "scripts.sh"), *args],
        cwd=cwd or home,
        env=settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_lists_every_verb_in_data_order_without_python(clone: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    tools = clone / "tools"
    tools.mkdir()
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(str(shutil.which(name)))
    shown = call(clone, "help", PATH=str(tools))
    assert shown.returncode == 0, shown.stderr
    assert re.findall(r"^  (\S+) {2,}\S", shown.stdout, re.M) == VERBS
    assert call(clone).stdout == shown.stdout == call(clone, "--help").stdout


def test_examples_use_verbs_that_exist(clone: Path) -> None:
    used = re.findall(r"\./scripts\.sh (\S+)", call(clone, "examples").stdout)
    assert len(used) > 8
    assert set(used) <= set(VERBS)


@pytest.mark.parametrize(
    ("typed", "meant"), [("trian", "train"), ("comapre", "compare"), ("sfd", "sft")]
)
def test_an_unknown_verb_is_one_line_with_the_closest(clone: Path, typed: str, meant: str) -> None:
    shown = call(clone, typed)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.count("\n") == 1
    assert f"'{typed}'" in shown.stderr and f"'{meant}'" in shown.stderr


def test_a_verb_like_nothing_else_still_says_where_to_look(clone: Path) -> None:
    shown = call(clone, "$(touch pwned)")
    assert shown.returncode == 2
    assert "help" in shown.stderr and "did you mean" not in shown.stderr


def test_arguments_arrive_untouched(clone: Path) -> None:
    odd = ["--out", "a  b.jsonl", "$(touch pwned)", "`id`", "*", "", "--x=\"y\" 'z'", "--help"]
    shown = call(clone, "fim", *odd)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.split("\n")
    assert lines[1:-1] == ["scripts/data_prep/actual_code/repo2fim.py", *odd]
    assert not list(clone.rglob("pwned"))


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 130])
def test_the_exit_status_is_the_stages_own(clone: Path, code: int) -> None:
    assert call(clone, "compare", FAKE_EXIT=str(code)).returncode == code


def test_it_works_in_the_repository_wherever_it_is_called_from(clone: Path, tmp_path: Path) -> None:
    away = call(clone, "peek", cwd=tmp_path, CDPATH=str(tmp_path.parent))
    assert away.stdout.split("\n")[0] == f"cwd={clone}"
    assert f"relative paths are read from {clone}" in away.stderr
    assert call(clone, "peek").stderr == ""


def test_every_verb_of_a_stage_reaches_its_script(clone: Path) -> None:
    stages = re.findall(r"^  ([a-z-]+)\) stage (\S+) ", DOOR.read_text(), re.M)
    assert len(stages) == 22
    for verb, script in stages:
        assert call(clone, verb).stdout.split("\n")[1] == script


@pytest.mark.parametrize(
    ("typed", "reached"),
    [
        (["list", "--json"], ["scripts/runs/runs.py", "list", "--json"]),
        ([], ["scripts/runs/runs.py"]),
        (["prune", "--yes"], ["scripts/runs/keep.py", "prune", "--yes"]),
        (["watch", "my run"], ["scripts/runs/watch.py", "my run"]),
    ],
)
def test_the_verbs_of_runs_reach_their_page(
    clone: Path, typed: list[str], reached: list[str]
) -> None:
    assert call(clone, "runs", *typed).stdout.split("\n")[1:-1] == reached


def test_what_each_verb_of_sessions_is_told(clone: Path) -> None:
    for verb, what in (("tmux-train", "train"), ("tmux-kill", "kill")):
        said = call(clone, verb, "x y").stdout.split("\n")[1:-1]
        assert said == ["scripts/runs/background.py", what, "x y"]


def test_verb_help_is_another_spelling_of_verb_dash_dash_help(clone: Path) -> None:
    assert call(clone, "compare-help").stdout == call(clone, "compare", "--help").stdout
    assert call(clone, "trian-help").returncode == 2


@pytest.mark.parametrize("verb", ["sft", "train", "doctor", "runs"])
def test_without_an_environment_a_stage_only_says_what_to_run(clone: Path, verb: str) -> None:
    shutil.rmtree(clone / ".venv")
    shown = call(clone, verb)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "no environment yet: run ./scripts.sh setup\n"
    assert not (clone / ".venv").exists()


def test_setup_closes_the_folders_of_the_users_data_to_others(clone: Path) -> None:
    for name in ("data", "logs"):
        (clone / name).mkdir(mode=0o755)
    (clone / "scripts" / "setup" / "get_uv.py").write_text("raise SystemExit(1)")
    assert call(clone, "setup").returncode == 2
    modes = {name: (clone / name).stat().st_mode & 0o777 for name in ("data", "logs", "scripts")}
    assert modes == {"data": 0o700, "logs": 0o700, "scripts": 0o755}


def test_check_asks_for_the_test_tools(clone: Path) -> None:
    (clone / ".venv" / "bin" / "python").write_text("#!/bin/sh\necho nothing there; exit 1\n")
    shown = call(clone, "check")
    assert (shown.returncode, shown.stderr) == (2, "nothing there: run ./scripts.sh setup --dev\n")


def test_changed_requirements_make_the_versions_be_compared(clone: Path) -> None:
    """A stale note is no proof; the fake Python fails the comparison, so the verb is refused."""
    assert call(clone, "peek").returncode == 0
    with (clone / "requirements" / "base.txt").open("a") as file:
        file.write("# changed\n")
    assert call(clone, "peek", FAKE_EXIT="1").returncode == 2


def test_an_active_environment_that_fits_comes_first(clone: Path, tmp_path: Path) -> None:
    shutil.copytree(clone / ".venv", tmp_path / "mine")
    shutil.rmtree(clone / ".venv")
    assert call(clone, "peek", VIRTUAL_ENV=str(tmp_path / "mine")).returncode == 0


def test_an_active_environment_that_does_not_fit_is_passed_over(
    clone: Path, tmp_path: Path
) -> None:
    unfit = tmp_path / "unfit" / "bin" / "python"
    unfit.parent.mkdir(parents=True)
    unfit.write_text("#!/bin/sh\necho wrong environment; exit 1\n")
    unfit.chmod(0o755)
    shown = call(clone, "peek", VIRTUAL_ENV=str(tmp_path / "unfit"))
    assert (shown.returncode, shown.stderr) == (0, "")
    shutil.rmtree(clone / ".venv")
    shown = call(clone, "peek", VIRTUAL_ENV=str(tmp_path / "unfit"))
    assert shown.stderr == "wrong environment: run ./scripts.sh setup\n"


def test_test_hands_its_arguments_to_pytest(clone: Path) -> None:
    stamp(clone, "dev")
    fast = call(clone, "test", "-k", "a b", "tests/x").stdout.split("\n")[1:-1]
    assert fast[:2] == ["-m", "pytest"]
    assert fast[-3:] == ["-k", "a b", "tests/x"]
    assert fast[fast.index("not slow") - 1] == "-m"
    slow = call(clone, "test", "--slow", "tests/x").stdout.split("\n")[1:-1]
    assert "not slow" not in slow and "--slow" not in slow and slow[-1] == "tests/x"


def test_test_keeps_pytests_exit_status(clone: Path) -> None:
    stamp(clone, "dev")
    assert call(clone, "test", FAKE_EXIT="5").returncode == 5


def test_an_old_python_is_refused_in_one_line(clone: Path) -> None:
    shutil.rmtree(clone / ".venv")
    tools = clone / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "cat", "cksum", "tr"):
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3").chmod(0o755)
    for verb in ("setup", "demo", "test"):
        shown = call(clone, verb, PATH=str(tools))
        assert shown.returncode == 2
        assert shown.stderr == "Python 3.11, 3.12 or 3.13 is needed and none was found on PATH\n"


def test_shell_files_pass_shellcheck() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    if not shellcheck.exists():
        pytest.skip("no shellcheck in this environment")
    files = [DOOR, ROOT / ".ci" / "run", ROOT / "requirements" / "compile.sh"]
    done = subprocess.run([shellcheck, *files], capture_output=True, text=True)
    assert done.stdout == ""
    for file in files:
        assert "set -euo pipefail" in file.read_text()
        assert os.access(file, os.X_OK), f"{file.name} is not executable"
