"""Single files: the bytes first, the manifest last."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from codetune.artefact.account import Counts, Origin
from codetune.artefact.disk import encoded, private_dir, user_errors, write_all, write_atomically
from codetune.artefact.manifest import SCHEMA, manifest_path

_ZSTD_LEVEL = 3


def write_rows(
    path: Path,
    lines: Iterable[bytes],
    origin: Origin,
    counts: Mapping[str, Counts] | None = None,
) -> int:
    """Writes one object a line (zstd when `path` ends in .zst); returns the number of rows.

    `counts` is read after `lines` is exhausted, so that a generator may fill it.
    """
    rows = 0

    def fill(out: BinaryIO) -> None:
        nonlocal rows
        for line in lines:
            out.write(line)
            out.write(b"\n")
            rows += 1

    digest = write_atomically(path, _compressed(path, fill))
    write_manifest(path, origin, counts, {"sha256": digest, "rows": rows})
    return rows


def write_bytes(
    path: Path, data: bytes, origin: Origin, counts: Mapping[str, Counts] | None = None
) -> Path:
    """Writes a whole file; returns `path`."""
    digest = write_atomically(path, lambda out: write_all(out, data))
    write_manifest(path, origin, counts, {"sha256": digest})
    return path


def write_text(
    path: Path, text: str, origin: Origin, counts: Mapping[str, Counts] | None = None
) -> Path:
    """Writes a whole text file as UTF-8; returns `path`."""
    return write_bytes(path, text.encode("utf-8"), origin, counts)


def save_figure(path: Path, figure: Any, origin: Origin) -> Path:
    """Writes a matplotlib figure as PNG; returns `path`. Without dates, so bytes stay equal."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150, metadata={"Software": None})
    return write_bytes(path, image.getvalue(), origin)


@contextmanager
def scratch_file(folder: Path) -> Iterator[BinaryIO]:
    """A nameless file in `folder` to write and read back; it is gone when closed or killed."""
    private_dir(folder)
    with user_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
        yield file


def write_plain(path: Path, text: str) -> Path:
    """Writes a text file inside a staged folder, whose manifest will cover it."""
    path.write_text(text, encoding="utf-8")
    return path


def write_file(path: Path, data: bytes) -> Path:
    """Writes a whole file, private to its owner, that is no artefact and so has no manifest: what
    a program notes for itself, or a picture that can be drawn again. Returns `path`.
    """
    write_atomically(path, lambda out: write_all(out, data))
    return path


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> Path:
    """Writes a large file inside a staged folder piece by piece; its manifest will cover it."""
    with path.open("wb") as out:
        for chunk in chunks:
            out.write(chunk)
    return path


def write_manifest(
    path: Path, origin: Origin, counts: Mapping[str, Counts] | None, facts: dict[str, Any]
) -> None:
    """Seals a file that is already in place: from here on it counts as made."""
    account = {unit: count.as_dict() for unit, count in (counts or {}).items()}
    manifest = {"schema": SCHEMA, **facts, **origin.as_dict(), "counts": account}
    write_atomically(manifest_path(path), lambda out: write_all(out, encoded(manifest)))


def _compressed(path: Path, fill: Callable[[BinaryIO], None]) -> Callable[[BinaryIO], None]:
    if path.suffix != ".zst":
        return fill
    import zstandard

    def packed(out: BinaryIO) -> None:
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        with compressor.stream_writer(out, closefd=False) as stream:
            fill(stream)

    return packed
