"""Prints where a usable uv is: the user's own, or a private one that is fetched once into .tools/.

    python scripts/setup/get_uv.py

Needs only the standard library. Exit 2 with a line saying what to do when there is none.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / ".tools"
OLDEST = (0, 9)  # knows every --torch-backend that setup may ask for


def is_usable(uv: str | Path) -> bool:
    """Whether this command is a uv, and new enough."""
    try:
        told = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    version = re.match(r"uv (\d+)\.(\d+)", told)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST


def find_pip() -> list[str | Path] | None:
    """A pip to fetch uv with: this Python's, or that of a scratch environment."""
    scratch = TOOLS / "pip"
    for python in (sys.executable, scratch / "bin" / "python"):
        if python != sys.executable:
            subprocess.run(
                [sys.executable, "-m", "venv", scratch], capture_output=True, check=False
            )
        command = [python, "-m", "pip"]
        try:
            subprocess.run([*command, "--version"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    return None


def main() -> int:
    """Prints the path."""
    private = TOOLS / "uv" / "bin" / "uv"
    for uv in ("uv", private):
        if is_usable(uv):
            print(uv)
            return 0
    print("setup: fetching uv, which installs the packages, into .tools/", file=sys.stderr)
    pip = find_pip()
    if pip is None:
        print("setup: neither uv nor pip is here: install one of them", file=sys.stderr)
        return 2
    wanted = f"uv>={OLDEST[0]}.{OLDEST[1]}"
    fetch = [*pip, "install", "--quiet", "--upgrade", "--retries", "1", "--target", TOOLS / "uv"]
    fetched = subprocess.run([*fetch, wanted], capture_output=True, text=True, check=False)
    if fetched.returncode != 0 or not is_usable(private):
        print("setup: uv could not be fetched (no network?): connect, try again", file=sys.stderr)
        return 2
    print(private)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
