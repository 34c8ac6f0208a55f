"""What writers leave beside a target while they work, and how a later one clears it up.

Names say the target, the kind and the process: `.model.staging-123-x`. Only what belongs to a
process that is gone is touched, so writers of one folder leave each other alone.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from pathlib import Path

_NAME = re.compile(r"\.(?P<target>.+)\.(?P<kind>staging|tmp|old)-(?P<pid>\d+)-[^.]*")


def prefix(target: Path, kind: str) -> str:
    """How the name of a leftover of this process begins; `kind` is staging, tmp or old."""
    return f".{target.name}.{kind}-{os.getpid()}-"


def sweep(folder: Path, target: str | None = None) -> list[Path]:
    """Removes what dead writers left in `folder`, of one target or of all.

    A folder moved aside by a writer that died before its rename is put back. Returns what was
    removed or put back.
    """
    pattern = f".{glob.escape(target)}.*" if target else ".*"
    touched = []
    # Sorted, so that `old` comes first: it may have to be put back.
    for path in sorted(folder.glob(pattern)):
        found = _NAME.fullmatch(path.name)
        if found is None or _alive(int(found["pid"])):
            continue
        final = folder / found["target"]
        if found["kind"] == "old" and not final.exists():
            path.rename(final)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        touched.append(path)
    return touched


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
