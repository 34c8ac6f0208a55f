"""What files and folders take on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR

_BLOCK = 512  # bytes: the unit of st_blocks, whatever the file system (stat(2))


def size_on_disk(place: Path) -> int:
    """Bytes that a file, or all files below a folder, take; a file with several names counts once.

    Links are not followed. What is not there, or is removed while we look, takes nothing: runs at
    work let old checkpoints go.
    """
    sizes = {(f.st_dev, f.st_ino): f.st_blocks * _BLOCK for f in _files(place)}
    return sum(sizes.values())


def _files(place: Path) -> Iterator[os.stat_result]:
    """The facts of all that is no folder."""
    waiting = [str(place)]
    while waiting:
        path = waiting.pop()
        try:
            facts = os.lstat(path)
            if S_ISDIR(facts.st_mode):
                waiting += [os.path.join(path, name) for name in os.listdir(path)]  # noqa: PTH118, PTH208
            else:
                yield facts
        except OSError:  # not ours to read, or removed while we look
            continue
