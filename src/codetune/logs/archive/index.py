"""What an archive holds: a journal of what was kept, and how a file there is called.

    archive.index      one record a change: where files come from, what is kept, what was set aside
    archive.forgotten  hashes of what must never come back
    archive.lock       held while something is written
    <slot>/<folder>/…  the files of one root, as they lie there; <folder> has the name of the root

A file that was set aside lies beside its successor as `<name>.superseded-<hash>`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codetune import artefact

INDEX, LOCK = "archive.index", "archive.lock"
Stamp = tuple[int, int, int]
NO_STAMP: Stamp = (0, 0, 0)
_LONGEST_NAME = 255
_VERSION = re.compile(r"(?P<name>.+)\.superseded-[0-9a-f]{12}", re.S)
_SLUG = re.compile(r"[^A-Za-z0-9_]+")
# A line for each change adds up over years; so many lines that say nothing any more are too many.
_IDLE_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept file: `name` is its place below the archive, `stamp` its source's size and times.

    `session`, `cwd` and `started` are what its first records say.
    """

    name: str
    bytes: int
    sha256: str
    stamp: Stamp = NO_STAMP
    session: str = ""
    cwd: str = ""
    started: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """An earlier content of the file `of`, set aside when its source was written anew."""

    name: str
    of: str
    bytes: int
    sha256: str


class Index:
    """The index of an archive. Every change but `keep` is durable when its method returns.

    What was kept without a durable record is found again by `repair`, after a loss of power.
    `unreadable` counts lines that are damaged: what they told is found out again by `repair`.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.entries: dict[str, Entry] = {}
        self.versions: dict[str, Version] = {}
        self.roots: dict[str, Path] = {}
        self.damaged: set[str] = set()
        self.unreadable = 0
        self._journal: artefact.Journal | None = None
        lines = self._read()
        self._idle = lines - len(self.entries) - len(self.versions) - len(self.roots)

    @property
    def path(self) -> Path:
        """Where the index lies."""
        return self.archive / INDEX

    def keep(self, entry: Entry) -> None:
        """Notes that the archive holds `entry` from now on."""
        self._write("kept", asdict(entry))

    def set_aside(self, version: Version) -> None:
        """Notes that the content of `version.of` is about to be moved to `version.name`."""
        self._write("aside", asdict(version))

    def bring_back(self, version: Version) -> None:
        """Notes that an earlier content is about to be moved back, since no later one came."""
        self._write("back", {"name": version.name})

    def add_root(self, place: str, path: Path) -> None:
        """Notes where the files below `place` come from."""
        if self.roots.get(place) != path:
            self._write("root", {"place": place, "path": str(path)})

    def mark_damaged(self, name: str) -> None:
        """Notes that the bytes of a file are not those that were kept."""
        if name not in self.damaged:
            self._write("damaged", {"name": name})

    def rewrite(self) -> None:
        """Writes the index anew, with what still holds and nothing else."""
        self.close()
        artefact.write_file(self.path, b"".join(map(_line, self._records())))
        self._idle = 0

    def tidy(self) -> None:
        """Rewrites an index in which most lines say nothing any more."""
        if self._idle > _IDLE_LINES:
            self.rewrite()

    def close(self) -> None:
        """Closes the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def origin(self, name: str) -> Path | None:
        """The path of the file that `name` is a copy of; None when its root is not known."""
        slot, folder, rest = name.split("/", 2)
        root = self.roots.get(f"{slot}/{folder}")
        return None if root is None else root / rest

    def _records(self) -> Iterator[dict[str, Any]]:
        for place, path in sorted(self.roots.items()):
            yield {"kind": "root", "place": place, "path": str(path)}
        for _, version in sorted(self.versions.items()):
            yield {"kind": "aside", **asdict(version)}
        for _, entry in sorted(self.entries.items()):
            yield {"kind": "kept", **asdict(entry)}
        for name in sorted(self.damaged):
            yield {"kind": "damaged", "name": name}

    def _write(self, kind: str, fields: Mapping[str, Any]) -> None:
        if self._journal is None:
            self._journal = artefact.Journal(self.path)
        record = {"kind": kind, **fields}
        self._journal.append(record)
        if kind != "kept":
            self._journal.sync()
        self._apply(record)

    def _read(self) -> int:
        lines = 0
        if not self.path.exists():
            return 0
        with self.path.open("rb") as source:
            for line in source:
                lines += 1
                try:
                    self._apply(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError):
                    self.unreadable += 1
        return lines

    def _apply(self, record: dict[str, Any]) -> None:
        kind = record.pop("kind")
        if kind == "root":
            self.roots[_inside(record["place"], 2)] = Path(record["path"])
        elif kind == "kept":
            entry = Entry(**{**record, "stamp": tuple(record["stamp"])})
            self.entries[_inside(entry.name)] = entry
            self.damaged.discard(entry.name)
        elif kind == "aside":
            version = Version(**record)
            self.versions[_inside(version.name)] = version
            self.entries.pop(_inside(version.of), None)
            self.damaged.discard(version.of)
        elif kind == "back":
            back = self.versions.pop(record["name"])
            self.entries[back.of] = Entry(back.of, back.bytes, back.sha256)
        elif kind == "damaged":
            self.damaged.add(record["name"])


def place_of(root: Path) -> str:
    """The folder below an archive for the files of `root`, an absolute path without links.

    It ends in the name of the root, so that a reader of either finds files under equal names.
    """
    parent = _SLUG.sub("-", root.parent.name).strip("-")[:40] or "logs"
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    return f"{parent}-{digest}/{root.name}"


def version_name(name: str, sha256: str) -> str:
    """What a file of the archive is called when it is set aside."""
    folder, slash, last = name.rpartition("/")
    mark = f".superseded-{sha256[:12]}"
    # In bytes, as the file system counts; a name cut within a character stays a valid file name.
    short = os.fsdecode(os.fsencode(last)[: _LONGEST_NAME - len(mark)])
    return f"{folder}{slash}{short}{mark}"


def superseded(name: str) -> str | None:
    """The name of the file that the one called `name` is an earlier version of; None for others."""
    found = _VERSION.fullmatch(name)
    return found["name"] if found else None


def is_archive(folder: Path) -> bool:
    """True for a folder that `archive-logs` made."""
    return (folder / INDEX).is_file()


def _inside(name: str, least: int = 3) -> str:
    """`name` of at least slot, folder and file, or ValueError when it would lead elsewhere."""
    parts = name.split("/")
    if len(parts) < least or {"", ".", ".."} & set(parts):
        raise ValueError("not a place below the archive")
    return name


def _line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass") + b"\n"
