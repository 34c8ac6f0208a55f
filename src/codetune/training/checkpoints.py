"""Checkpoints that are complete or absent, and the choice of the one to go on from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from codetune import artefact, console
from codetune.artefact import Origin
from codetune.errors import UserError

STATE_FILE = "trainer.safetensors"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_dir(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies; the name is the one Transformers uses."""
    return folder / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """How many steps were done when a checkpoint was saved, by its name."""
    return int(checkpoint.name.rpartition("-")[2])


def all_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, oldest first; nothing is verified."""
    found = {int(m[1]): p for p in folder.glob("checkpoint-*") if (m := _NAME.fullmatch(p.name))}
    return [found[step] for step in sorted(found)]


def newest_valid(folder: Path, origin: Origin, adapter: Path | None = None) -> Path | None:
    """The newest checkpoint that verifies, or None; damaged ones are named and set aside.

    UserError when the checkpoints come from other data, another base, or another recipe, unless
    that run was finished: `adapter` is what it made. Then they are removed, as nothing is lost.
    """
    if not folder.exists():
        return None
    artefact.sweep(folder)
    for candidate in reversed(all_checkpoints(folder)):
        problem = artefact.verify(candidate)
        if problem is not None:
            console.warn(f"{problem}; an older checkpoint is used")
            # Out of the way, or the next save at this step would find it standing there.
            shutil.rmtree(candidate)
            continue
        if _origin_of(candidate) == origin.as_dict():
            return candidate
        if adapter is None or not _finished(candidate, adapter):
            raise _other_origin(candidate, origin)
        console.say(f"{folder}: checkpoints of an earlier, finished run are removed")
        shutil.rmtree(folder)
        break
    return None


def refuse_other(folder: Path, origin: Origin, adapter: Path) -> None:
    """UserError where `newest_valid` would raise it; changes nothing."""
    sound = (c for c in reversed(all_checkpoints(folder)) if artefact.verify(c) is None)
    newest = next(sound, None)
    if newest is None or _origin_of(newest) == origin.as_dict() or _finished(newest, adapter):
        return
    raise _other_origin(newest, origin)


def compute_dtype(checkpoint: Path) -> str | None:
    """The compute type that a checkpoint was trained in, by name; None where it is not noted."""
    return artefact.read_manifest(checkpoint).get("dtype")


def prune(folder: Path, keep_last: int, best: Path | None) -> None:
    """Removes all but the newest `keep_last` checkpoints and `best`."""
    for old in all_checkpoints(folder)[:-keep_last]:
        if best is None or old.resolve() != best.resolve():
            shutil.rmtree(old)


def _finished(checkpoint: Path, adapter: Path) -> bool:
    """Whether `adapter` is complete and came from the same rows, base and recipe."""
    return artefact.verify(adapter) is None and _origin_of(adapter) == _origin_of(checkpoint)


def _origin_of(folder: Path) -> dict[str, Any]:
    """What a folder was made from, as `Origin.as_dict` gives it."""
    manifest = artefact.read_manifest(folder)
    return {key: manifest.get(key) for key in ("stage", "version", "config_sha256", "inputs")}


def _other_origin(checkpoint: Path, origin: Origin) -> UserError:
    manifest, wanted = _origin_of(checkpoint), origin.as_dict()
    theirs = {entry["path"]: entry["sha256"] for entry in manifest["inputs"]}
    ours = {entry["path"]: entry["sha256"] for entry in wanted["inputs"]}
    changed = sorted(k for k in theirs | ours if theirs.get(k) != ours.get(k))
    if manifest["config_sha256"] != wanted["config_sha256"]:
        changed.insert(0, "the recipe")
    what = ", ".join(changed) or "the program's version"
    return UserError(
        f"{checkpoint.parent}: holds checkpoints of another run ({what} changed); "
        "choose another --run_name, or pass --resume never to start over"
    )
