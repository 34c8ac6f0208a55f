"""Writes both sides of a split under every name, and the certificate of each name last."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codetune import artefact
from codetune.artefact import Origin
from codetune.corpus import certificate, sources
from codetune.corpus.intake import Intake, Records
from codetune.corpus.split import Split
from codetune.errors import UserError


def outputs(folder: Path, name: str | None) -> tuple[Path, ...]:
    """Every file that a run writes: the plain names that training reads, and those of `name`."""
    files = []
    for spelled in _names(name):
        files += [certificate.row_file(folder, side, spelled) for side in certificate.SIDES]
        files.append(certificate.path_of(folder, spelled))
    return tuple(files)


def write(
    folder: Path,
    name: str | None,
    intake: Intake,
    split: Split,
    parameters: Mapping[str, Any],
    origin: Origin,
) -> tuple[Path, ...]:
    """Writes rows, manifests and certificates; returns their paths."""
    counts = {"rows": intake.counts}
    for spelled in _names(name):
        sides = {}
        for side in certificate.SIDES:
            file = certificate.row_file(folder, side, spelled)
            records = _side(split, side)
            artefact.write_rows(file, intake.texts(records), origin, counts)
            digest = artefact.read_manifest(file)["sha256"]
            sides[side] = certificate.Side(file, digest, records)
        made = certificate.make(sides, intake.kinds, parameters, split.fraction)
        path = certificate.path_of(folder, spelled)
        artefact.write_bytes(path, certificate.encode(made), origin, counts)
    return outputs(folder, name)


def refuse_foreign(folder: Path, name: str | None, intake: Intake, split: Split) -> None:
    """UserError when a row file stands in the way that this stage did not make.

    A file without manifest that holds just what would be written is ours: an earlier run was
    killed between the file and its manifest.
    """
    for spelled in _names(name):
        for side in certificate.SIDES:
            file = certificate.row_file(folder, side, spelled)
            if not file.exists() or sources.is_own_output(file):
                continue
            if artefact.sha256_file(file) != _digest(intake, _side(split, side)):
                raise UserError(
                    f"{file}: was not made by this stage; rename it (it can then be an input), "
                    "or pass --force to replace it"
                )


def _names(name: str | None) -> Sequence[str | None]:
    return [name, None] if name else [None]


def _side(split: Split, side: str) -> Records:
    return split.train if side == "train" else split.eval


def _digest(intake: Intake, records: Records) -> str:
    whole = hashlib.sha256()
    for text in intake.texts(records):
        whole.update(text + b"\n")
    return whole.hexdigest()
