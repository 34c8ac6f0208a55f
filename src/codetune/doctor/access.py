"""Who may read and write what runs keep, and on which kind of file system it lies."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from codetune.doctor.finding import Finding
from codetune.errors import UserError

FOLDERS = ("data", "outputs", "runs", "logs")
_FILES = (Path(".env"), Path("logs/runs.db"))
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def permissions(root: Path) -> Iterator[Finding]:
    """The folders that hold texts of yours, and the files that may hold secrets."""
    there = [root / name for name in FOLDERS if (root / name).exists()]
    wrong = [path.name for path in there if not path.is_dir()]
    if wrong:
        todo = f"move aside: {_words(wrong)}"
        yield Finding("folders", f"{', '.join(wrong)}: not a folder", "", todo)
    folders = [path for path in there if path.is_dir()]
    shut = [path.name for path in folders if not os.access(path, os.R_OK | os.W_OK | os.X_OK)]
    if shut:
        todo = f"chmod u+rwx {_words(shut)}, or give them back with chown"
        yield Finding("folders", f"{', '.join(shut)}: not writable", "", todo)
    open_ = [path.name for path in folders if _open_to_others(path)]
    if open_:
        todo = f"chmod 700 {_words(open_)}"
        meaning = "others on this machine may read what is in them"
        yield Finding("folders", f"{', '.join(open_)}: not private", meaning, todo)
    if not wrong and not shut and not open_:
        names = ", ".join(path.name for path in folders) or "none yet"
        yield Finding("folders", names, "writable, and private to you" if folders else "")
    yield from _private_files(root)


def file_system(root: Path, database_url: str | None) -> Iterator[Finding]:
    """Whether the SQLite file of the run log lies on a network file system, whose locks cannot be
    trusted; nothing where the run log is in PostgreSQL, or nowhere that we understand.
    """
    from codetune.runlog.store import database

    try:
        file = database.locate(root, database_url).file
    except UserError:
        return
    if file is None:
        return
    try:
        database.check_filesystem(file)
    except UserError as problem:
        yield Finding("file system", "the run log lies on a network file system", "", str(problem))
    else:
        yield Finding("file system", "the run log lies on a local disk", "safe for SQLite")


def _private_files(root: Path) -> Iterator[Finding]:
    for file in _FILES:
        try:
            shared = _open_to_others(root / file)
        except OSError:  # not there, or in a folder that is closed to us, too
            continue
        if shared:
            todo = f"chmod 600 {_words([str(file)])}"
            meaning = "others on this machine may read it"
            yield Finding(str(file), "not private", meaning, todo)
        else:
            yield Finding(str(file), "private to you")


def _open_to_others(path: Path) -> bool:
    return bool(path.stat().st_mode & _OTHERS)


def _words(names: list[str]) -> str:
    return shlex.join(names)
