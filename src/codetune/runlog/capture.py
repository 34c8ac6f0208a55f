"""What a run ran on: the version of the code, and the environment; no host or user names."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import codetune
from codetune import artefact

# The packages that can move a number. Versions come from their metadata, so none is imported; a
# local part such as `+cpu` or `+cu126` tells which build of torch it is.
_PACKAGES = (
    "accelerate",
    "bitsandbytes",
    "codetune",
    "datasets",
    "google-re2",
    "numpy",
    "orjson",
    "peft",
    "pydantic",
    "rapidfuzz",
    "safetensors",
    "sqlalchemy",
    "tokenizers",
    "torch",
    "transformers",
    "tree-sitter",
    "tree-sitter-python",
    "triton",
    "trl",
    "zstandard",
)
# The only environment variables that are ever kept: they change results or speed, and hold no
# secret.
KEPT_VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "HF_HUB_OFFLINE",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "PYTHONHASHSEED",
    "PYTORCH_CUDA_ALLOC_CONF",
)
PATCHES = Path("logs/diffs")
_LARGEST_PATCH = 10 * 2**20  # bytes
_LARGEST_NEW_FILE = 2**20
_GIT_SECONDS = 10
_CODE = ("*.py", "*.sh", "*.yaml", "*.toml")  # new files of other kinds are data
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # what git calls a tree without files
# No hook and no file-system monitor of the repository's own configuration is started.
_SAFE = ("--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


@dataclass(frozen=True)
class CodeVersion:
    """The code that runs: its commit, and the patch from there to what lies here (b"": nothing)."""

    commit: str | None
    patch: bytes = b""

    @property
    def diff_sha256(self) -> str | None:
        """The hash of the patch; None where the code is exactly the commit."""
        return hashlib.sha256(self.patch).hexdigest() if self.patch else None


def code_version(source: Path | None = None) -> CodeVersion:
    """The version of the checkout that holds `source` (this package by default).

    Both are empty when the code does not lie in a git repository, is not tracked by it, or
    there is no git.
    """
    place = Path(codetune.__file__).parent if source is None else source
    top = _git(place, "rev-parse", "--show-toplevel")
    if top is None or _git(place, "ls-files", "--error-unmatch", ".") is None:
        return CodeVersion(None)
    checkout = Path(top.decode(errors="surrogateescape").strip())
    commit = _git(checkout, "rev-parse", "--verify", "--quiet", "HEAD")
    base = commit.decode().strip() if commit else None
    return CodeVersion(base, _patch(checkout, base))


def patch_path(root: Path, sha256: str) -> Path:
    """Where the patch with this hash is kept; runs with the same changes share one file."""
    return root / PATCHES / f"{sha256}.patch"


def keep_patch(root: Path, code: CodeVersion) -> None:
    """Keeps what was not committed when a run began, unless it is too large to be code.

    Secrets in it are replaced, as everywhere.
    """
    if code.diff_sha256 is None or len(code.patch) > _LARGEST_PATCH:
        return
    place = patch_path(root, code.diff_sha256)
    if not place.exists():
        artefact.write_file(place, _without_secrets(code.patch))


def environment(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Python, platform, processor, GPU and package versions, as JSON values.

    Of `variables` only those in `KEPT_VARIABLES` are kept. Equal machines give equal facts.
    """
    import psutil

    kept = {name: variables[name] for name in KEPT_VARIABLES if variables and name in variables}
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cpu_count": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpu_models(),
        "nvidia_driver": _first_line(Path("/proc/driver/nvidia/version")),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: v for name in _PACKAGES if (v := _version(name)) is not None},
        "variables": kept,
    }


def environment_hash(facts: Mapping[str, Any]) -> str:
    """The id of an environment: equal facts, equal id."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _patch(checkout: Path, commit: str | None) -> bytes:
    """What `git apply` would make of the commit what lies here: changes, and new code files."""
    options = ("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
    changed = _git(checkout, "diff", *options, commit or _EMPTY_TREE, "--")
    listed = _git(checkout, "ls-files", "--others", "--exclude-standard", "-z", "--", *_CODE)
    names = [os.fsdecode(name) for name in (listed or b"").split(b"\0") if name]
    room = _LARGEST_PATCH  # for new files: what is beyond is told by name and size, and not read
    new = []
    for name in names:
        size = _size(checkout / name)
        fits = size <= min(room, _LARGEST_NEW_FILE)
        new.append(_new_file(checkout, name) if fits else _told(name, size))
        room -= size if fits else 0
    return b"".join([changed or b"", *new])


def _size(file: Path) -> int:
    """The bytes of a plain file; 0 for links and for what is gone."""
    try:
        found = file.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _told(name: str, size: int) -> bytes:
    """A line between patches, which git passes over."""
    return f"# new, too large to keep: {_quoted(name)('')}, {size} bytes\n".encode()


def _without_secrets(patch: bytes) -> bytes:
    from codetune.redaction import find_secrets

    text = patch.decode("utf-8", "replace")
    found = find_secrets(text)
    if not found:
        return patch
    ends = [0, *(hit.end for hit in found)]
    starts = [*(hit.start for hit in found), len(text)]
    kept = "<SECRET>".join(text[a:b] for a, b in zip(ends, starts, strict=True))
    return f"# secrets are replaced here, so it does not apply as it is\n{kept}".encode()


def _new_file(checkout: Path, name: str) -> bytes:
    """A file that git does not know yet, as a patch that makes it."""
    file = checkout / name
    plain = file.is_file() and not file.is_symlink()
    content = file.read_bytes() if plain else b""
    lines = [line + b"\n" for line in content.split(b"\n")]
    if lines.pop() != b"\n":  # the last line has no end
        lines.append(content.rpartition(b"\n")[2] + b"\n\\ No newline at end of file\n")
    shown = _quoted(name)
    head = f"diff --git {shown('a/')} {shown('b/')}\nnew file mode 100644\n"
    body = f"--- /dev/null\n+++ {shown('b/')}\n@@ -0,0 +1,{len(lines)} @@\n" if lines else ""
    return (head + body).encode() + b"".join(b"+" + line for line in lines)


def _quoted(name: str) -> Callable[[str], str]:
    """A path as git writes it into a patch: in quotes where it has unusual characters."""
    raw = os.fsencode(name)
    plain = all(32 < byte < 127 and byte not in b'"\\' for byte in raw)
    octal = "".join(chr(b) if 31 < b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in raw)
    return lambda side: f"{side}{name}" if plain else f'"{side}{octal}"'


def _git(place: Path, *words: str) -> bytes | None:
    """What git says, or None when it fails or is not there."""
    command = ["git", *_SAFE, "-C", str(place), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(errors="replace").splitlines() if facts.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _gpu_models() -> list[str]:
    """Names of NVIDIA GPUs, from the driver's own files, so that no CUDA context is made."""
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for file in found for line in file.read_text(errors="replace").splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def _first_line(file: Path) -> str | None:
    return file.read_text(errors="replace").partition("\n")[0] if file.exists() else None
