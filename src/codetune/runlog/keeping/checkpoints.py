"""Which checkpoints of finished training runs may go, and letting them go.

Of a run directory whose newest run finished, and whose adapter verifies, the best checkpoint and
the newest ones stay. Of any other nothing goes: it may have to be resumed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from codetune import artefact
from codetune.artefact import leftovers
from codetune.errors import UserError
from codetune.machine.storage import size_on_disk
from codetune.runlog import events
from codetune.runlog.ends import beginning
from codetune.runlog.local import read_ends, run_ids
from codetune.training.checkpoints import all_checkpoints, checkpoint_dir, step_of

POLICY = """\
Of each finished training run whose adapter verifies, these checkpoints stay: the best one, as its
trainer recorded it, and the newest {keep_last}. All others are freed. Nothing is freed of a run
that is running, or that failed, crashed, was interrupted or refused (it resumes from them), where
the best one is not known, where what would stay is damaged, or outside of outputs/."""
_OUTPUTS, _FOLDER, _ADAPTER = Path("outputs"), "checkpoints", "adapter"
_DONE = frozenset({"finished", "up to date"})


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
    runs = _Runs(root)
    unknown = [p.parent.resolve() for p in (root / _OUTPUTS).glob(f"*/{_FOLDER}") if p.is_dir()]
    choices: list[Choice] = []
    for place in sorted({*runs.newest, *unknown}):
        checkpoints = all_checkpoints(place / _FOLDER)
        if checkpoints:
            choices += _choices(root, place, runs, checkpoints, keep_last)
    return choices


def free(root: Path, choices: Sequence[Choice]) -> int:
    """Removes the checkpoints that are not to be kept; returns how many bytes became free.

    Each is taken out of sight by one rename first, so that none is ever seen half removed. A run
    that has begun since then keeps all it has.
    """
    freed, runs = 0, _Runs(root)
    for folder, some in groupby(choices, lambda choice: choice.path.parent):
        going = [choice for choice in some if not choice.keep]
        runs.look()
        if not going or runs.at_work(folder):
            continue
        artefact.sweep(folder)
        for choice in going:
            aside = folder / leftovers.prefix(choice.path, "tmp")
            choice.path.rename(aside)
            shutil.rmtree(aside)
            freed += choice.size
    return freed


def _choices(
    root: Path, place: Path, runs: _Runs, checkpoints: Sequence[Path], keep_last: int
) -> Iterator[Choice]:
    run_id = runs.newest.get(place)
    run = read_ends(events.journal_path(root, run_id)) if run_id else None
    name = f"{run.name} ({run.id[-8:]})" if run else "-"
    why_all = f"run is {run.status}" if run and run.status not in _DONE else None
    if run is None:
        why_all = "no run is recorded for it"
    elif runs.at_work(place / _FOLDER):
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
        yield Choice(
            name, path, size_on_disk(path), kept, why or "neither best nor among the newest"
        )


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
    """Whether a checkpoint of a resolved run directory lies there, and in outputs/, for real.

    A link to the checkpoints of another run would free what that run resumes from. `outputs` itself
    may be a link to a disk.
    """
    return path == path.resolve() and path.is_relative_to((root / _OUTPUTS).resolve())


class _Runs:
    """The training runs of this checkout by where they keep checkpoints; each is asked once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._asked: set[str] = set()
        self._by_folder: dict[Path, list[str]] = {}  # by what it is behind all links
        self.newest: dict[Path, str] = {}  # of each run directory
        self.look()

    def look(self) -> None:
        """Asks the runs that are new, and those that had not been started when last asked."""
        for run_id in run_ids(self._root):
            if run_id not in self._asked:
                with suppress(FileNotFoundError):  # somebody is removing this run
                    self._ask(run_id)

    def at_work(self, folder: Path) -> bool:
        """Whether a run keeps its checkpoints in `folder` now, if only by a link."""
        here = self._by_folder.get(folder.resolve(), ())
        return any(_is_at_work(events.journal_path(self._root, run_id)) for run_id in here)

    def _ask(self, run_id: str) -> None:
        said = {r.kind: r.fields for r in beginning(events.journal_path(self._root, run_id))}
        is_training = said.get("created", {}).get("stage") == "train"
        if is_training and "started" not in said:
            return
        self._asked.add(run_id)
        place = _run_dir(self._root, said["started"].get("params")) if is_training else None
        if place is not None:
            self.newest[place] = max(run_id, self.newest.get(place, ""))
            self._by_folder.setdefault((place / _FOLDER).resolve(), []).append(run_id)


def _is_at_work(journal: Path) -> bool:
    try:
        run = read_ends(journal)
    except FileNotFoundError:
        return False
    return run is not None and run.status == "running"


def _run_dir(root: Path, params: object) -> Path | None:
    """Where a training run keeps its checkpoints, by the knobs it was started with.

    Resolved, so that two ways to write one place are one place.
    """
    if not isinstance(params, dict):
        return None
    texts = {key: params.get(key, {}).get("text") for key in ("output_dir", "run_name")}
    if texts["output_dir"] not in (None, "null"):
        return (root / str(texts["output_dir"])).resolve()
    return (root / _OUTPUTS / str(texts["run_name"])).resolve() if texts["run_name"] else None
