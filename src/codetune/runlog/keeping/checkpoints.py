"""Which checkpoints of finished training runs may go, and letting them go.

Of a run directory whose newest run finished, and whose adapter verifies, the best checkpoint and
the newest ones stay. Of any other nothing goes: it may have to be resumed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from codetune import artefact
from codetune.artefact import leftovers
from codetune.errors import UserError
from codetune.machine.storage import size_on_disk
from codetune.runlog import events
from codetune.runlog.local import active_runs, read_run, run_ids
from codetune.training.checkpoints import all_checkpoints, checkpoint_dir, step_of

POLICY = """\
Of each finished training run whose adapter verifies, these checkpoints stay: the best one, as its
trainer recorded it, and the newest {keep_last}. All others are freed. Nothing is freed of a run
that is running, or that failed, crashed, was interrupted or refused (it resumes from them), where
the best one is not known, where what would stay is damaged, or outside of outputs/."""
_OUTPUTS, _FOLDER, _ADAPTER = Path("outputs"), "checkpoints", "adapter"
_DONE = frozenset({"finished", "up to date"})
_HEAD = 3  # records in which a run says how it was started


@dataclass(frozen=True)
class Choice:
    """One checkpoint: the newest run of its directory, its size in bytes, and what is decided."""

    run: str
    path: Path
    size: int
    keep: bool
    why: str


def plan(root: Path, keep_last: int) -> list[Choice]:
    """What stays and what may go, of every run directory with checkpoints; nothing is changed."""
    newest = _run_dirs(root)
    unknown = [p.parent.resolve() for p in (root / _OUTPUTS).glob(f"*/{_FOLDER}") if p.is_dir()]
    choices: list[Choice] = []
    for place in sorted({*newest, *unknown}):
        run_id = newest.get(place)
        checkpoints = all_checkpoints(place / _FOLDER)
        if checkpoints:
            choices += _choices(root, place, run_id, checkpoints, keep_last)
    return choices


def free(root: Path, choices: Sequence[Choice]) -> int:
    """Removes the checkpoints that are not to be kept; returns how many bytes became free.

    Each is taken out of sight by one rename first, so that none is ever seen half removed. A run
    that has begun since then keeps all it has.
    """
    freed = 0
    for folder, some in groupby(choices, lambda choice: choice.path.parent):
        going = [choice for choice in some if not choice.keep]
        if not going or folder.parent in _busy(root):
            continue
        artefact.sweep(folder)
        for choice in going:
            aside = folder / leftovers.prefix(choice.path, "tmp")
            choice.path.rename(aside)
            shutil.rmtree(aside)
            freed += choice.size
    return freed


def _choices(
    root: Path, place: Path, run_id: str | None, checkpoints: Sequence[Path], keep_last: int
) -> Iterator[Choice]:
    run = read_run(events.journal_path(root, run_id)) if run_id else None
    name = f"{run.name} ({run.id[-8:]})" if run else "-"
    why_all = f"run is {run.status}" if run and run.status not in _DONE else None
    if run is None:
        why_all = "no run is recorded for it"
    elif place in _busy(root):
        why_all = "a run is at work in it"
    best = best_step(checkpoints[-1])
    newest = checkpoints[-keep_last:] if keep_last else []
    stay = dict.fromkeys(newest, "one of the newest")
    if best is not None:
        stay[checkpoint_dir(place / _FOLDER, best)] = "best"
    why_all = why_all or _doubt(root, place, best, checkpoints, list(stay))
    for path in checkpoints:
        why = why_all or stay.get(path)
        kept = why is not None
        yield Choice(name, path, size_on_disk(path), kept, why or "neither best nor among the newest")


def best_step(checkpoint: Path) -> int | None:
    """The step of the best checkpoint so far, as the trainer wrote it down; None if it did not."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (OSError, ValueError):
        return None
    step = state.get("best_global_step") if isinstance(state, dict) else None
    return step if isinstance(step, int) else None


def _doubt(
    root: Path, place: Path, best: int | None, checkpoints: Sequence[Path], stay: Sequence[Path]
) -> str | None:
    """Why all checkpoints of a finished run have to stay; None when some may go."""
    if not all(_inside(root, path) for path in checkpoints):
        return "outside of outputs/, or a link"
    if wrong := artefact.verify(place / _ADAPTER):
        return f"the adapter does not verify: {_below(place, wrong)}"
    if best is None or best not in map(step_of, checkpoints):
        return "the best one is not known"
    if len(stay) < len(checkpoints):
        for path in stay:
            if wrong := artefact.verify(path):
                return f"what would stay is damaged: {_below(place, wrong)}"
    if any(_made_from(path) != _made_from(place / _ADAPTER) for path in checkpoints):
        return "some belong to another recipe, base or rows than the adapter"
    return None


def _below(place: Path, text: str) -> str:
    return text.replace(f"{place}/", "")


def _made_from(folder: Path) -> object:
    try:
        manifest = artefact.read_manifest(folder)
    except UserError:
        return folder  # equal to nothing else
    return [manifest.get(key) for key in ("stage", "version", "config_sha256", "inputs")]


def _inside(root: Path, path: Path) -> bool:
    """Whether a checkpoint lies in outputs/ for real. `outputs` itself may be a link to a disk."""
    return not path.is_symlink() and path.resolve().is_relative_to((root / _OUTPUTS).resolve())


def _busy(root: Path) -> set[Path]:
    """The run directories of training runs that are at work now."""
    return {place for run in active_runs(root) if (place := _run_dir(root, run.id)) is not None}


def _run_dirs(root: Path) -> dict[Path, str]:
    """The run directories of all training runs of this checkout, with the newest run of each."""
    found: dict[Path, str] = {}
    for run_id in run_ids(root):  # newest first
        place = _run_dir(root, run_id)
        if place is not None:
            found.setdefault(place, run_id)
    return found


def _run_dir(root: Path, run_id: str) -> Path | None:
    """Where a training run keeps its checkpoints, by the knobs it was started with.

    Resolved, so that two ways to write one place are one place.
    """
    records = list(islice(events.read(events.journal_path(root, run_id)), _HEAD))
    if not records or records[0].fields.get("stage") != "train":
        return None
    params = next((r.fields.get("params") for r in records if r.kind == "started"), None)
    if not isinstance(params, dict):
        return None
    texts = {key: params.get(key, {}).get("text") for key in ("output_dir", "run_name")}
    if texts["output_dir"] not in (None, "null"):
        return (root / str(texts["output_dir"])).resolve()
    return (root / _OUTPUTS / str(texts["run_name"])).resolve() if texts["run_name"] else None
