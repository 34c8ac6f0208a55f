"""Makes `.venv` and installs the pinned packages: what `./scripts.sh setup` runs.

Torch comes first, in the build that torch_build.py decides on; then requirements/*.txt with hashes;
then the project itself, editable. Done again it changes nothing and says so. Exit: 0 done, 2 with a
line saying what to do, 3 while a run is at work, whose packages must not change under it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STAMP = "codetune-setup.txt"  # fingerprint of the requirements, level, torch; scripts.sh reads it
BUILDS = ("auto", "keep", "cpu", "cu118", "cu126", "cu128", "cu130", "default")
NO_NETWORK = re.compile("dns error|client error|timed out|unreachable|error sending request", re.I)
SUPPORTED = "import sys; print('yes' * ((3, 11) <= sys.version_info < (3, 14)))"
TORCH = "from importlib.metadata import version; print(version('torch'))"
ACTIVE = """import sys; sys.path.insert(0, 'src'); from pathlib import Path
from codetune.runlog import active_runs; print(*[run.name for run in active_runs(Path())])"""


class SetupError(Exception):
    """Setup cannot go on: the line that the user sees, and perhaps an exit code other than 2."""


def say(text: str) -> None:
    """Tells the user on standard error."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def output(*command: str | Path) -> str:
    """What a command prints, or "" when it is not there or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def choose_home(torch: str | None) -> Path:
    """`.venv`; but `--torch keep` goes into the active environment when the torch is there."""
    active = os.environ.get("VIRTUAL_ENV")
    if torch == "keep" and active and output(Path(active) / "bin" / "python", "-c", TORCH):
        return Path(active)
    return ROOT / ".venv"


def install(uv: str, home: Path, what: str, *args: str | Path) -> None:
    """Installs what the arguments of `uv pip install` name, once a trial run says that it can."""
    command = [uv, "pip", "install", "--python", home / "bin" / "python", *args]
    once = os.environ | {"UV_HTTP_RETRIES": "1", "UV_HTTP_TIMEOUT": "20"}
    trial = subprocess.run(
        [*command, "--dry-run"], cwd=ROOT, env=once, capture_output=True, text=True, check=False
    )
    if trial.returncode != 0:
        cut_off = "no network, or no way to the package host: connect, try again"
        why = " ".join(trial.stderr.split())[:240]
        raise SetupError(f"{what}: {cut_off if NO_NETWORK.search(trial.stderr) else why}")
    say(f"installing {what}")
    quiet = [] if sys.stderr.isatty() else ["--quiet"]  # a list of 80 packages helps in no log
    if subprocess.run([*command, *quiet], cwd=ROOT, check=False).returncode != 0:
        raise SetupError(f"{what} could not be installed, for the reason above")


def make_environment(uv: str, home: Path, torch: str | None) -> None:
    """Makes the environment where there is none that works."""
    if output(home / "bin" / "python", "-c", SUPPORTED) == "yes":
        return
    say(f"making {home} with Python {sys.version.split()[0]}")
    shared = ["--system-site-packages"] if torch == "keep" else []
    command = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, *shared, home]
    if subprocess.run(command, check=False).returncode != 0:
        raise SetupError(f"{home} could not be made, for the reason above")


def install_torch(uv: str, home: Path, torch: str | None) -> None:
    """Installs torch in the first way that works; unless asked, one that is there stays."""
    there = output(home / "bin" / "python", "-c", TORCH)
    if there and torch in (None, "keep"):
        say(f"torch {there} is there and stays")
        return
    if torch == "keep":
        raise SetupError(f"{home} has no torch to keep: run setup without --torch keep")
    plan = json.loads(output(sys.executable, HERE / "torch_build.py", torch or "auto"))
    say(plan["reason"])
    for attempt in plan["attempts"]:
        try:
            install(uv, home, attempt["label"], "--reinstall-package", "torch", *attempt["args"])
            return
        except SetupError as problem:
            say(f"skipped {problem.args[0]}")
    raise SetupError("no build of torch could be installed, for the reasons above")


def setup(uv: str, fingerprint: str, level: str, torch: str | None) -> None:
    """Everything in order. Nothing is done when the note of the last time says the same."""
    home = choose_home(torch)
    words = (home / STAMP).read_text().split() if (home / STAMP).exists() else []
    noted = words if len(words) == 3 else ["", level, "auto"]
    level = max(level, noted[1])  # `dev` stays: it comes after `base`
    wanted = [fingerprint, level, torch or noted[2]]
    fits = [home / "bin" / "python", "-I", HERE / "fits.py", level]
    if noted == wanted and (home / "bin/python").exists() and not subprocess.call(fits):
        say(f"{home} is up to date")
        return
    if active := output(home / "bin" / "python", "-c", ACTIVE):
        raise SetupError(f"a run is at work ({active}): wait for its end, or stop it first", 3)
    make_environment(uv, home, torch)
    (home / STAMP).unlink(missing_ok=True)
    install_torch(uv, home, torch)
    pinned = ["--require-hashes", "--no-deps", "--requirements", f"requirements/{level}.txt"]
    install(uv, home, "the pinned packages", *pinned)
    install(uv, home, "codetune itself, editable", "--no-deps", "--editable", ".")
    if subprocess.call(fits, stdout=sys.stderr):
        raise SetupError("something is still missing: see the line above")
    (home / STAMP).write_text(" ".join(wanted) + "\n")
    say(f"done: {home}")


def main() -> int:
    """Parses the flags and keeps a second setup waiting until the first is done."""
    parser = argparse.ArgumentParser(prog="./scripts.sh setup", description=__doc__)
    parser.add_argument("--dev", action="store_true", help="the test tools too")
    parser.add_argument("--torch", choices=BUILDS, help="the build of torch; default: decided here")
    parser.add_argument("--fingerprint", default="", help=argparse.SUPPRESS)
    parser.add_argument("--uv", default="uv", help=argparse.SUPPRESS)
    options = parser.parse_args()
    (ROOT / ".tools").mkdir(exist_ok=True)
    with (ROOT / ".tools" / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            level = "dev" if options.dev else "base"
            setup(options.uv, options.fingerprint, level, options.torch)
        except SetupError as problem:
            say(problem.args[0])
            return problem.args[1] if len(problem.args) > 1 else 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
