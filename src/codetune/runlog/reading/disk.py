"""What lies on disk now, against what runs recorded of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from codetune import artefact
from codetune.errors import UserError
from codetune.runlog.content import content_of
from codetune.runlog.local import RunFile

OK, CHANGED, GONE, DAMAGED = "as recorded", "changed since", "gone", "damaged"
# Hashes of these are no hashes of bytes: a commit, or a fingerprint over what was read.
_FINGERPRINTS = frozenset({"commit", "folder", "tokenizer", "corpus"})


def state_of(root: Path, file: RunFile) -> str:
    """OK, CHANGED or GONE; "" where that cannot be told from a file's or a manifest's hash."""
    place = root / file.path
    try:
        if not place.exists():
            return GONE
        if file.kind in _FINGERPRINTS or file.sha256 is None:
            return ""
        if place.is_dir():
            place = artefact.manifest_path(place)
            if not place.is_file():
                return ""  # a model of another maker: its weights are not read for this
        return OK if artefact.sha256_file(place) == file.sha256 else CHANGED
    except OSError:  # no permission to look, or a name that the file system does not take
        return ""


def exists(place: Path) -> bool:
    """Whether anything lies at `place`; no name is too long to ask."""
    try:
        return place.exists()
    except (OSError, ValueError):
        return False


def asked_place(root: Path, what: str) -> Iterator[tuple[str, str, str | None]]:
    """(path, hash, what is wrong or None) of what lies at `what`, and of the artefact around it.

    The path is relative to `root` where it lies inside.
    """
    place = Path(what).absolute()
    if not exists(place):
        return
    top = root.absolute()
    folders = [p for p in place.parents if p != top and p.is_relative_to(top)]
    around = [folder for folder in folders if (folder / "manifest.json").is_file()]
    for one in [place, *around[:1]]:
        shown = one.relative_to(top).as_posix() if one.is_relative_to(top) else str(one)
        sealed = one.is_dir() and artefact.manifest_path(one).is_file()
        if one.is_dir() and not sealed:
            continue  # a folder of anything, perhaps of everything: only its path can be known
        try:
            yield shown, content_of(one).sha256, artefact.verify(one) if sealed else None
        except (UserError, OSError):
            return
