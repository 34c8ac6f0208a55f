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

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "scripts" / "setup"
STAMP = "codetune-setup.txt"  # fingerprint of the requirements, level, torch; scripts.sh reads it
BUILDS = ("auto", "keep", "cpu", "cu118", "cu126", "cu128", "cu130", "default")
NO_NETWORK = re.compile("dns error|client error|timed out|unreachable|error sending request", re.I)
SUPPORTED = "import sys; print('yes' * ((3, 11) <= sys.version_info < (3, 14)))"
TORCH = "from importlib.metadata import version; print(version('torch'))"
ACTIVE = """import sys; sys.path.insert(0, 'src'); from pathlib import Path
from codetune.runlog import active_runs; print(*[run.name for run in active_runs(Path())])"""


class SetupError(Exception):
    """Setup cannot go on; the message is the line that the user sees."""


class RunsActiveError(SetupError):
    """Packages must not change now."""


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
    if trial.returncode != 0 and NO_NETWORK.search(trial.stderr):
        raise SetupError(f"{what}: no network, or no way to the package host: connect, try again")
    if trial.returncode != 0:
        raise SetupError(f"{what}: {' '.join(trial.stderr.split())[:240]}")
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
        raise SetupError("there is no torch to keep: run setup without --torch keep")
    decide = output(sys.executable, HERE / "torch_build.py", torch or "auto")
    plan = json.loads(decide)
    say(plan["reason"])
    for attempt in plan["attempts"]:
        try:
            install(uv, home, attempt["label"], "--reinstall-package", "torch", *attempt["args"])
        except SetupError as problem:
            say(f"skipped {problem}")
        else:
            return
    raise SetupError("no build of torch could be installed, for the reasons above")


def setup(fingerprint: str, level: str, torch: str | None) -> None:
    """Everything in order. Nothing is done when the note of the last time says the same."""
    home = choose_home(torch)
    noted = (home / STAMP).read_text().split() if (home / STAMP).exists() else ["", level, "auto"]
    level = max(level, noted[1])  # `dev` stays: it comes after `base`
    wanted = [fingerprint, level, torch or noted[2]]
    fits = [home / "bin" / "python", "-I", HERE / "fits.py", level]
    if noted == wanted and (home / "bin/python").exists() and not subprocess.call(fits):
        say(f"{home} is up to date")
        return
    if active := output(home / "bin" / "python", "-c", ACTIVE):
        raise RunsActiveError(f"a run is at work ({active}): wait for its end, or stop it first")
    uv = subprocess.run(
        [sys.executable, HERE / "get_uv.py"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout.strip()
    if not uv:
        raise SetupError("nothing was installed, for the reason above")
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
    parser.add_argument(
        "--dev",
        dest="level",
        action="store_const",
        const="dev",
        default="base",
        help="the test tools too",
    )
    parser.add_argument("--torch", choices=BUILDS, help="the build of torch; default: decided here")
    parser.add_argument("--fingerprint", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    (ROOT / ".tools").mkdir(exist_ok=True)
    with (ROOT / ".tools" / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            setup(options.fingerprint, options.level, options.torch)
        except SetupError as problem:
            say(str(problem))
            return 3 if isinstance(problem, RunsActiveError) else 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
