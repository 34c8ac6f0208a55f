"""How the run log names what lies at a path: the hash by which lineage finds it again.

A manifest is the same wherever its artefact lies, so it names inputs by role (`train`, `base`).
The run log is about this machine: it keeps the place beside the hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from codetune import artefact
from codetune.artefact import Input


def content_of(path: Path, fingerprint: str | None = None) -> Input:
    """What lies at `path`: an artefact folder by its manifest, as the run that made it noted it.

    Anything else by `fingerprint` if there is one; or a file by its bytes, a folder by the names
    and bytes of its files. UserError when nothing lies there.
    """
    if path.is_dir():
        manifest = artefact.manifest_path(path)
        made_here = artefact.sha256_file(manifest) if manifest.is_file() else None
        return Input(str(path), made_here or fingerprint or _listing(path))
    return Input(str(path), fingerprint or artefact.input_file(path).sha256)


def _listing(folder: Path) -> str:
    """A hash over the files of a folder; links are named, never followed."""
    whole = hashlib.sha256()
    for place in sorted(folder.rglob("*")):
        if place.is_file() and not place.is_symlink():
            name = place.relative_to(folder).as_posix()
            whole.update(
                f"{artefact.sha256_file(place)} {name}\0".encode("utf-8", "surrogateescape")
            )
    return whole.hexdigest()
