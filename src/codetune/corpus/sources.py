"""Which of the files a user names are rows to read, and which are this stage's own products."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codetune import artefact
from codetune.errors import UserError

STAGE = "data"
SUFFIXES = (".jsonl", ".jsonl.zst", ".jsonl.gz")


@dataclass(frozen=True)
class Chosen:
    """The row files to read, sorted, and what was left out: (path, why)."""

    files: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...]


def choose(named: Iterable[Path], outputs: Sequence[Path]) -> Chosen:
    """Sorts the named files into rows to read and files to leave out.

    A file is left out when its manifest says that this stage made it, when this run is about to
    write it, when it is a manifest, or when it was named twice: never because of its name, since
    `train.clean.jsonl` may well come from another stage. Raises UserError for anything that is
    no row file, or when nothing is left.
    """
    targets = {path.resolve() for path in outputs}
    files: dict[Path, Path] = {}
    left_out: list[tuple[Path, str]] = []
    for path in named:
        why = _why_left_out(path, targets, files)
        if why:
            left_out.append((path, why))
        else:
            files[path.resolve()] = _row_file(path)
    if not files:
        raise UserError(_nothing_left(left_out))
    return Chosen(tuple(sorted(files.values())), tuple(left_out))


def find(folder: Path) -> list[Path]:
    """The row files of a folder, sorted: what is read when the user names none."""
    return sorted(p for suffix in SUFFIXES for p in folder.glob(f"*{suffix}") if p.is_file())


def is_own_output(path: Path) -> bool:
    """True when the manifest beside `path` says that this stage made it."""
    if not artefact.manifest_path(path).is_file():
        return False
    return artefact.read_manifest(path).get("stage") == STAGE


def _why_left_out(path: Path, targets: set[Path], files: dict[Path, Path]) -> str | None:
    if path.name.endswith(".manifest.json"):
        return "a manifest, no rows"
    if path.is_file() and is_own_output(path):
        return "made by this stage"
    if path.resolve() in targets:
        return "about to be written"
    return "named twice" if path.resolve() in files else None


def _row_file(path: Path) -> Path:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name its row files, as in {path}/*.jsonl")
    if not path.exists():
        hint = "no file matches" if any(c in path.name for c in "*?[") else "no such file"
        raise UserError(f"{path}: {hint}; run the stages that make rows first, or check the path")
    if not path.is_file():
        raise UserError(f"{path}: is no regular file; name the row files themselves")
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: is no row file; wanted {', '.join(SUFFIXES)}")
    return path


def _nothing_left(left_out: list[tuple[Path, str]]) -> str:
    if not left_out:
        return "no row files; name some, as in data/*.jsonl, or run the stages that make them"
    first, why = left_out[0]
    return f"no row files left: {len(left_out)} left out, such as {first} ({why}); name other files"
