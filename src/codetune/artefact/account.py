"""What an artefact was made from, and the account of what came in and what was kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codetune.errors import UserError


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

    @classmethod
    def from_dict(cls, account: Mapping[str, Any]) -> Counts:
        """What `as_dict` gave, as it stands in a manifest."""
        return cls(account["kept"], dict(account["dropped"]))


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


def sha256_file(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def input_file(path: Path) -> Input:
    """`path` as an input: relative to the current directory where it lies below it."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    return Input(_shown_path(path), sha256_file(path))


def _shown_path(path: Path) -> str:
    absolute, here = path.absolute(), Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else str(absolute)


def _by_path(entry: dict[str, str]) -> tuple[str, str]:
    return entry["path"], entry["sha256"]
