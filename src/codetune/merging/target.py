"""Where a merged model may be written."""

from __future__ import annotations

from pathlib import Path

from codetune import artefact
from codetune.errors import UserError

STAGE = "merge"


def check_target(out: Path, base: Path, adapter: Path) -> None:
    """UserError when `out` would replace the base, the adapter, or anything not made here."""
    place = out.resolve()
    for kind, source in (("base", base.resolve()), ("adapter", adapter.resolve())):
        if place == source or place in source.parents or source in place.parents:
            raise UserError(f"{out}: overlaps the {kind} {source}; pass another --output_dir")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    manifest = artefact.manifest_path(out)
    if not manifest.is_file() or artefact.read_manifest(out).get("stage") != STAGE:
        raise UserError(f"{out}: exists and is no merged model of ours; pass another --output_dir")
