"""Manifests: which bytes an artefact has, and whether it is what is wanted now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from codetune.artefact.account import Origin, sha256_file
from codetune.errors import UserError

SCHEMA = 1
FOLDER_MANIFEST = "manifest.json"


def manifest_path(path: Path) -> Path:
    """Where the manifest of a file or folder artefact lies."""
    if path.is_dir():
        return path / FOLDER_MANIFEST
    return path.with_name(path.name + ".manifest.json")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of `path`; UserError when it is missing or not JSON."""
    place = manifest_path(path)
    try:
        found = json.loads(place.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: has no manifest; run the stage that makes it again") from None
    except ValueError:
        raise UserError(f"{place}: is damaged; run the stage that makes it again") from None
    return found if isinstance(found, dict) else {}


def verify(path: Path) -> str | None:
    """None when `path` matches its manifest, else one line saying what is wrong."""
    if not path.exists():
        return f"{path}: missing"
    try:
        manifest = read_manifest(path)
    except UserError as problem:
        return str(problem)
    if path.is_dir():
        return _verify_folder(path, manifest)
    same = manifest.get("sha256") == sha256_file(path)
    return None if same else f"{path}: content differs from its manifest"


def is_current(path: Path, origin: Origin) -> bool:
    """True when `path` verifies and was made by the same stage, config and inputs."""
    if verify(path) is not None:
        return False
    manifest = read_manifest(path)
    wanted = origin.as_dict()
    return {key: manifest.get(key) for key in wanted} == wanted


def _verify_folder(folder: Path, manifest: dict[str, Any]) -> str | None:
    files = manifest.get("files", {})
    present = {p.relative_to(folder).as_posix() for p in files_below(folder)}
    for name, facts in files.items():
        if name not in present:
            return f"{folder}: {name} is missing"
        target = folder / name
        if target.stat().st_size != facts["bytes"] or sha256_file(target) != facts["sha256"]:
            return f"{folder}: {name} differs from the manifest"
    extra = sorted(present - set(files) - {FOLDER_MANIFEST})
    return f"{folder}: {extra[0]} is not in the manifest" if extra else None


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and its folders, sorted."""
    return sorted(p for p in folder.rglob("*") if p.is_file())
