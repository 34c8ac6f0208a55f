"""What runs take on the disk: the largest folders, and the command that frees some of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codetune.doctor.finding import Finding
from codetune.machine.storage import size_on_disk
from codetune.runlog import events
from codetune.runlog.local import row_of

GIB = 2**30
PRUNE = "./scripts.sh runs prune"
_LARGEST = 10
_SMALL = 2**20  # bytes; what is below is not worth a line
_CHECKPOINTS = "checkpoints"
_TOKENS = Path("outputs/.tokens")  # belongs to no run
_MANY_GIB = 5  # of checkpoints, that are worth a word


@dataclass(frozen=True)
class Used:
    """A folder of a run and the bytes that it takes on the disk; `checkpoints` are part of them."""

    path: Path  # relative to the project
    size: int
    checkpoints: int = 0


def disk_by_run(root: Path) -> Iterator[Finding]:
    """The sum and the largest folders of runs, and whether there is room for one more of them."""
    used = sorted(folders_of_runs(root), key=lambda folder: (-folder.size, str(folder.path)))
    if not used:
        yield Finding("runs", "nothing yet", "outputs/ and logs/runs/ are empty")
        return
    whole = sum(folder.size for folder in used)
    checkpoints = sum(folder.checkpoints for folder in used)
    free = shutil.disk_usage(root).free
    meaning = f"{_size(checkpoints)} of it checkpoints; one more like the largest needs " + _size(
        used[0].size
    )
    todo = f"{PRUNE} (a dry run first) frees checkpoints that are not the best"
    wanted = checkpoints > _MANY_GIB * GIB or free < used[0].size
    found = f"{_size(whole)} in {len(used)} folders"
    yield Finding("runs", found, meaning, todo if wanted else "")
    for folder in (folder for folder in used[:_LARGEST] if folder.size >= _SMALL):
        part = f"{_size(folder.checkpoints)} of it checkpoints" if folder.checkpoints else ""
        yield Finding(_named(root, folder.path), _size(folder.size), part)


def folders_of_runs(root: Path) -> Iterator[Used]:
    """outputs/<name> and logs/runs/<id>, whatever their size. Links inside are not followed."""
    for parent in (Path("outputs"), events.RUNS):
        try:
            children = sorted(child for child in (root / parent).iterdir() if child.is_dir())
        except OSError:
            continue
        for child in children:
            part = size_on_disk(child / _CHECKPOINTS)
            yield Used(parent / child.name, size_on_disk(child), part)


def _named(root: Path, path: Path) -> str:
    """The folder, with the run's name where the folder is called by an id."""
    if path == _TOKENS:
        return f"{path} (cache)"
    if path.parent != events.RUNS:
        return str(path)
    journal = events.journal_path(root, path.name)
    first = next(events.read(journal), None) if journal.is_file() else None
    row = row_of([first]) if first else None
    return f"{path} ({row.name})" if row else str(path)


def _size(size: int) -> str:
    if size >= GIB:
        return f"{size / GIB:.1f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 1024:.0f} KiB"
