"""Whole folders: filled aside, sealed with a manifest, and shown by one rename."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codetune.artefact.account import Origin, sha256_file
from codetune.artefact.disk import (
    encoded,
    fsync,
    private_dir,
    user_errors,
    write_all,
    write_atomically,
)
from codetune.artefact.leftovers import prefix, sweep
from codetune.artefact.manifest import FOLDER_MANIFEST, SCHEMA, files_below


@contextmanager
def staged_directory(final: Path, origin: Origin, **facts: Any) -> Iterator[Path]:
    """A folder to fill; on success it is hashed, fsynced and renamed onto `final`.

    On any exception nothing is published and what stood at `final` stays. `facts` join the
    manifest. An older `final` is moved aside first and removed after the rename.
    """
    private_dir(final.parent)
    with user_errors(final):
        sweep(final.parent, final.name)
        staging = Path(tempfile.mkdtemp(prefix=prefix(final, "staging"), dir=final.parent))
    try:
        with user_errors(final):
            yield staging
            publish_directory(staging, final, origin, **facts)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish_directory(staging: Path, final: Path, origin: Origin, **facts: Any) -> None:
    """Seals `staging` with a manifest and renames it onto `final`."""
    files = {}
    for file in files_below(staging):
        file.chmod(0o600)
        fsync(file)
        name = file.relative_to(staging).as_posix()
        files[name] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    manifest = {"schema": SCHEMA, **origin.as_dict(), **facts, "files": files}
    write_atomically(staging / FOLDER_MANIFEST, lambda out: write_all(out, encoded(manifest)))
    for folder in [p for p in staging.rglob("*") if p.is_dir()]:
        fsync(folder)
    old = final.with_name(prefix(final, "old"))
    if final.exists():
        final.rename(old)
    staging.rename(final)
    fsync(final.parent)
    shutil.rmtree(old, ignore_errors=True)
