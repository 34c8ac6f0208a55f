"""Says whether the environment that runs this file fits: exit 0, or 1 and one line saying why not.

    .venv/bin/python -I scripts/setup/fits.py base|dev

However it was made (setup, `uv sync`, by hand), an environment fits when its Python is supported,
the packages that pyproject.toml names are there in the versions it allows (`dev`: the test tools
too), and `codetune` is this checkout. Needs only the standard library, so that it can also judge
an empty environment.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def misfits(requirements: list[str]) -> list[str]:
    """The requirements that are not met, each as `name (what is there)`."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return [f"{len(requirements)} packages (none of them looks installed)"]
    found = []
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found.append(requirement.name)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement} ({version} is there)")
    return found


def is_this_checkout() -> bool:
    """Whether `import codetune` would load the package beside this file, and no other copy."""
    spec = importlib.util.find_spec("codetune")
    if spec is None or spec.origin is None:
        return False
    return Path(spec.origin).resolve() == ROOT / "src" / "codetune" / "__init__.py"


def main(level: str) -> int:
    """Prints what is wrong, if anything."""
    if not (3, 11) <= sys.version_info < (3, 14):
        print(f"Python {sys.version_info.major}.{sys.version_info.minor} is not supported")
        return 1
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = list(project["project"]["dependencies"])
    if level == "dev":
        requirements += project["dependency-groups"]["dev"]
    wrong = misfits(requirements)
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        print(f"missing in {sys.prefix}: {', '.join(wrong[:4])}{more}")
        return 1
    if not is_this_checkout():
        print(f"missing in {sys.prefix}: codetune itself, installed from {ROOT}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
