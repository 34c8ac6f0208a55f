"""The one writer of files: atomic, fsynced, and described by a manifest that is written last.

A file `X` counts as made only when `X.manifest.json` verifies against it. A folder carries its
`manifest.json` inside and appears by a single rename. Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from codetune.errors import UserError

SCHEMA = 1
FOLDER_MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class Input:
    """What an artefact was made from: a path (or a name such as `repo:x`) and its content hash."""

    path: str
    sha256: str


@dataclass
class Counts:
    """The account of one unit (files, records, rows): what came in is kept or dropped."""

    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def in_(self) -> int:
        """How many came in."""
        return self.kept + sum(self.dropped.values())

    def keep(self, n: int = 1) -> None:
        """Counts `n` kept."""
        self.kept += n

    def drop(self, reason: str, n: int = 1) -> None:
        """Counts `n` dropped for `reason`, a short slug."""
        self.dropped[reason] = self.dropped.get(reason, 0) + n

    def as_dict(self) -> dict[str, Any]:
        """`{in, kept, dropped: {reason: n}}` with reasons sorted."""
        return {"in": self.in_, "kept": self.kept, "dropped": dict(sorted(self.dropped.items()))}


@dataclass(frozen=True)
class Origin:
    """Everything that decides an artefact's bytes."""

    stage: str
    version: int
    config_sha256: str
    inputs: tuple[Input, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As it stands in a manifest; inputs sorted, since their order never matters."""
        inputs = sorted(({"path": i.path, "sha256": i.sha256} for i in self.inputs), key=_by_path)
        return {
            "stage": self.stage,
            "version": self.version,
            "config_sha256": self.config_sha256,
            "inputs": inputs,
        }


# ---------------------------------------------------------------------------- reading


def sha256_file(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def input_file(path: Path) -> Input:
    """`path` as an input: relative to the current directory where it lies below it."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    return Input(_shown_path(path), sha256_file(path))


def read_rows(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line without its newline) of a .jsonl, .jsonl.zst or .jsonl.gz file.

    Lines end at `\\n` alone: U+2028 and the like are legal inside a JSON string. Raises UserError
    when the file is missing, or an archive that is damaged or cut off.
    """
    with _open_for_reading(path) as source:
        try:
            for number, line in enumerate(source, 1):
                yield number, line.rstrip(b"\r\n")
        except (EOFError, zlib.error, gzip.BadGzipFile, _BadZstd) as problem:
            raise UserError(f"{path}: cannot be unpacked ({problem}); make it again") from None


def manifest_path(path: Path) -> Path:
    """Where the manifest of a file or folder artefact lies."""
    if path.is_dir():
        return path / FOLDER_MANIFEST
    return path.with_name(path.name + ".manifest.json")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of `path`; UserError when it is missing or not JSON."""
    place = manifest_path(path)
    try:
        found = json.loads(place.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: has no manifest; run the stage that makes it again") from None
    except ValueError:
        raise UserError(f"{place}: is damaged; run the stage that makes it again") from None
    return found if isinstance(found, dict) else {}


def verify(path: Path) -> str | None:
    """None when `path` matches its manifest, else one line saying what is wrong."""
    if not path.exists():
        return f"{path}: missing"
    try:
        manifest = read_manifest(path)
    except UserError as problem:
        return str(problem)
    if path.is_dir():
        return _verify_folder(path, manifest)
    same = manifest.get("sha256") == sha256_file(path)
    return None if same else f"{path}: content differs from its manifest"


def is_current(path: Path, origin: Origin) -> bool:
    """True when `path` verifies and was made by the same stage, config and inputs."""
    if verify(path) is not None:
        return False
    manifest = read_manifest(path)
    wanted = origin.as_dict()
    return {key: manifest.get(key) for key in wanted} == wanted


def _verify_folder(folder: Path, manifest: dict[str, Any]) -> str | None:
    files = manifest.get("files", {})
    present = {p.relative_to(folder).as_posix() for p in _files_below(folder)}
    for name, facts in files.items():
        if name not in present:
            return f"{folder}: {name} is missing"
        target = folder / name
        if target.stat().st_size != facts["bytes"] or sha256_file(target) != facts["sha256"]:
            return f"{folder}: {name} differs from the manifest"
    extra = sorted(present - set(files) - {FOLDER_MANIFEST})
    return f"{folder}: {extra[0]} is not in the manifest" if extra else None


@contextmanager
def _open_for_reading(path: Path) -> Iterator[Iterable[bytes]]:
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (IsADirectoryError, PermissionError) as problem:
        raise UserError(f"{path}: cannot be read ({problem.strerror}); check the path") from None
    with raw:
        if path.suffix == ".gz":
            with gzip.open(raw) as stream:
                yield stream
        elif path.suffix == ".zst":
            yield io.BufferedReader(_Zstd(raw), _CHUNK)
        else:
            yield raw


class _BadZstd(Exception):
    """A .zst file that is damaged or ends within a frame."""


class _Zstd(io.RawIOBase):
    """Unpacks a .zst stream; the library's own reader takes one that is cut off for whole."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed, self._frame = packed, None
        self._input, self._ready = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._input = self._input or self._packed.read(_CHUNK // 16)
            if not self._input:
                if self._frame is not None:
                    raise _BadZstd("it is cut off")
                return 0
            self._unpack()
        taken = min(len(buffer), len(self._ready))
        buffer[:taken] = self._ready[:taken]
        self._ready = self._ready[taken:]
        return taken

    def _unpack(self) -> None:
        import zstandard

        frame: Any = self._frame or zstandard.ZstdDecompressor().decompressobj()
        try:
            self._ready = memoryview(frame.decompress(self._input))
        except zstandard.ZstdError as problem:
            raise _BadZstd(str(problem)) from None
        self._frame = None if frame.eof else frame
        self._input = frame.unused_data if frame.eof else b""


# ---------------------------------------------------------------------------- writing


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

    digest = _write_atomically(path, _compressed(path, fill))
    _write_manifest(path, origin, counts, {"sha256": digest, "rows": rows})
    return rows


def write_bytes(
    path: Path, data: bytes, origin: Origin, counts: Mapping[str, Counts] | None = None
) -> Path:
    """Writes a whole file; returns `path`."""
    digest = _write_atomically(path, lambda out: _write_all(out, data))
    _write_manifest(path, origin, counts, {"sha256": digest})
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
    with _user_errors(folder), tempfile.TemporaryFile(dir=folder) as file:
        yield file


@contextmanager
def staged_directory(final: Path, origin: Origin, **facts: Any) -> Iterator[Path]:
    """A folder to fill; on success it is hashed, fsynced and renamed onto `final`.

    On any exception nothing is published and what stood at `final` stays. `facts` join the
    manifest. An older `final` is moved aside first and removed after the rename.
    """
    private_dir(final.parent)
    with _user_errors(final):
        staging = Path(tempfile.mkdtemp(prefix=f".{final.name}.staging-", dir=final.parent))
    try:
        with _user_errors(final):
            yield staging
            publish_directory(staging, final, origin, **facts)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_plain(path: Path, text: str) -> Path:
    """Writes a text file inside a staged folder, whose manifest will cover it."""
    path.write_text(text, encoding="utf-8")
    return path


def write_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> Path:
    """Writes a large file inside a staged folder piece by piece; its manifest will cover it."""
    with path.open("wb") as out:
        for chunk in chunks:
            out.write(chunk)
    return path


def publish_directory(staging: Path, final: Path, origin: Origin, **facts: Any) -> None:
    """Seals `staging` with a manifest and renames it onto `final`."""
    files = {}
    for file in _files_below(staging):
        file.chmod(0o600)
        _fsync(file)
        name = file.relative_to(staging).as_posix()
        files[name] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    manifest = {"schema": SCHEMA, **origin.as_dict(), **facts, "files": files}
    _write_atomically(staging / FOLDER_MANIFEST, lambda out: _write_all(out, _encoded(manifest)))
    for folder in [p for p in staging.rglob("*") if p.is_dir()]:
        _fsync(folder)
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    if final.exists():
        final.rename(old)
    staging.rename(final)
    _fsync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> list[Path]:
    """Removes what interrupted writers left in `folder` (staging folders, temporary files).

    A folder moved aside by a writer that died before its rename is put back. Returns what was
    removed or put back.
    """
    touched = []
    for path in sorted(folder.glob(".*.old-*")):
        final = folder / path.name[1:].rsplit(".old-", 1)[0]
        shutil.rmtree(path) if final.exists() else path.rename(final)
        touched.append(path)
    for path in sorted([*folder.glob(".*.staging-*"), *folder.glob(".*.tmp-*")]):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        touched.append(path)
    return touched


def private_dir(path: Path) -> Path:
    """Makes `path` and its parents, readable by the owner alone; returns it."""
    missing = []
    place = path
    while not place.exists():
        missing.append(place)
        place = place.parent
    with _user_errors(path):
        for place in reversed(missing):
            place.mkdir(mode=0o700, exist_ok=True)
    return path


def _write_manifest(
    path: Path, origin: Origin, counts: Mapping[str, Counts] | None, facts: dict[str, Any]
) -> None:
    account = {unit: count.as_dict() for unit, count in (counts or {}).items()}
    manifest = {"schema": SCHEMA, **facts, **origin.as_dict(), "counts": account}
    _write_atomically(manifest_path(path), lambda out: _write_all(out, _encoded(manifest)))


def _write_atomically(path: Path, fill: Callable[[BinaryIO], None]) -> str:
    """Fills a temporary file beside `path` and renames it; returns the SHA-256 of its bytes."""
    private_dir(path.parent)
    with _user_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.tmp-", dir=path.parent)
        temporary = Path(name)
        try:
            with _HashingWriter(os.fdopen(handle, "wb")) as out:
                fill(out)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _fsync(path.parent)
    return out.hexdigest


class _HashingWriter(io.RawIOBase, BinaryIO):
    """Writes through to a file and hashes what it writes; fsyncs when closed without error."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, hashlib.sha256()
        self.hexdigest = ""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        self.hexdigest = self._hash.hexdigest()


def _compressed(path: Path, fill: Callable[[BinaryIO], None]) -> Callable[[BinaryIO], None]:
    if path.suffix != ".zst":
        return fill
    import zstandard

    def packed(out: BinaryIO) -> None:
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        with compressor.stream_writer(out, closefd=False) as stream:
            fill(stream)

    return packed


# ---------------------------------------------------------------------------- what grows


class Journal:
    """An append-only JSONL file: one `write` a record, and a torn tail is cut off at opening.

    `fsync=True` makes each record durable before `append` returns.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path, self._fsync = path, fsync
        private_dir(path.parent)
        _cut_torn_tail(path)
        with _user_errors(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends one record."""
        with _user_errors(self.path):
            os.write(self._handle, _encoded(record, compact=True))
            if self._fsync:
                os.fsync(self._handle)

    def close(self) -> None:
        """Makes everything durable and closes the file."""
        if self._handle >= 0:
            os.fsync(self._handle)
            os.close(self._handle)
            self._handle = -1

    def seal(self, origin: Origin) -> Path:
        """Closes the journal and turns it into the next numbered, verified shard; returns it."""
        self.close()
        stem, number = self.path.name.removesuffix(".jsonl"), 1
        while (shard := self.path.with_name(f"{stem}.{number:05d}.jsonl")).exists():
            number += 1
        self.path.rename(shard)
        rows = sum(1 for _ in read_rows(shard))
        _write_manifest(shard, origin, None, {"sha256": sha256_file(shard), "rows": rows})
        return shard


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal; a torn last line is left out."""
    with path.open("rb") as source:
        for line in source:
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)


def _cut_torn_tail(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _CHUNK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)


# ---------------------------------------------------------------------------- small parts


@contextmanager
def _user_errors(path: Path) -> Iterator[None]:
    """Turns the disk's own refusals into one line for the user."""
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"{path}: the disk is full; free some space and run again") from None
        if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{path}: not writable; check the folder's permissions") from None
        if problem.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
            raise UserError(f"{path}: something is in the way; choose another path") from None
        raise


def _encoded(record: Mapping[str, Any], *, compact: bool = False) -> bytes:
    separators = (",", ":") if compact else None
    indent = None if compact else 1
    text = json.dumps(record, ensure_ascii=False, separators=separators, indent=indent)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _write_all(out: BinaryIO, data: bytes) -> None:
    out.write(data)


def _files_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _shown_path(path: Path) -> str:
    absolute, here = path.absolute(), Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else str(absolute)


def _by_path(entry: dict[str, str]) -> tuple[str, str]:
    return entry["path"], entry["sha256"]


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
