"""The one writer of files: atomic, fsynced, and described by a manifest that is written last.

A file `X` counts as made only when `X.manifest.json` verifies against it. A folder carries its
`manifest.json` inside and appears by a single rename. Nothing here knows what the bytes mean.
"""

from codetune.artefact.account import Counts, Input, Origin, input_file, sha256_file
from codetune.artefact.disk import private_dir
from codetune.artefact.files import (
    save_figure,
    scratch_file,
    write_bytes,
    write_chunks,
    write_file,
    write_plain,
    write_rows,
    write_text,
)
from codetune.artefact.folders import publish_directory, staged_directory
from codetune.artefact.growing import append_chunks, locked, move, replace_chunks
from codetune.artefact.journal import Journal, TextLog, append_record, read_journal
from codetune.artefact.leftovers import sweep
from codetune.artefact.lines import read_rows
from codetune.artefact.manifest import is_current, manifest_path, read_manifest, verify

__all__ = [
    "Counts",
    "Input",
    "Journal",
    "Origin",
    "TextLog",
    "append_chunks",
    "append_record",
    "input_file",
    "is_current",
    "locked",
    "manifest_path",
    "move",
    "private_dir",
    "publish_directory",
    "read_journal",
    "read_manifest",
    "read_rows",
    "replace_chunks",
    "save_figure",
    "scratch_file",
    "sha256_file",
    "staged_directory",
    "sweep",
    "verify",
    "write_bytes",
    "write_chunks",
    "write_file",
    "write_plain",
    "write_rows",
    "write_text",
]
