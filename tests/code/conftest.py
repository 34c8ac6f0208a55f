import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

WHO = (
    *("-c", "user.name=A Person", "-c", "user.email=person@example.com"),
    *("-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"),
)


def run_git(place: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *WHO, *arguments], cwd=place, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


FUNCTION = '''def area_of_{name}(width, height, *, scale=1.0):
    """Returns the area of a {name}."""
    if width < 0 or height < 0:
        raise ValueError("a {name} has no negative side: " + repr((width, height)))
    scaled = [side * scale for side in (width, height)]
    return round(scaled[0] * scaled[1], ndigits=3)


'''


@pytest.fixture
def git() -> Callable[..., str]:
    """Runs git in a folder; returns what it printed."""
    return run_git


@pytest.fixture
def code() -> Callable[..., bytes]:
    """A module with one plausible function a name."""
    return lambda *names: "".join(FUNCTION.replace("{name}", name) for name in names).encode()


@pytest.fixture
def make_repo(tmp_path: Path) -> Callable[..., Path]:
    """Writes files into a new repository and commits them; returns its path."""

    def make(files: Mapping[str, bytes], name: str = "shapes") -> Path:
        place = tmp_path / name
        place.mkdir(parents=True)
        run_git(place, "init", "-q")
        for path, data in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(data)
        run_git(place, "add", "-A")
        run_git(place, "commit", "-q", "--allow-empty", "-m", "first")
        return place

    return make
