"""What one pass over many log files shares: who owns a record, which sessions belong together."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from codetune.artefact import Counts

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass
class Kin:
    """Sets of sessions that share records and so must never be split."""

    _parent: dict[str, str] = field(default_factory=dict)

    def root(self, session: str) -> str:
        """The smallest id among those that `session` belongs with."""
        while (above := self._parent.get(session, session)) != session:
            session = above
        return session

    def join(self, one: str, other: str) -> None:
        """Says that two sessions belong together."""
        low, high = sorted((self.root(one), self.root(other)))
        if low != high:
            self._parent[high] = low


@dataclass
class Memory:
    """The account and the memory of one pass.

    `records` counts every line, `blocks` the parts of messages that were left out, `places` holds
    the working directories seen in any record, `faults` (file, line, reason) of damaged lines.
    """

    records: Counts = field(default_factory=Counts)
    blocks: Counter[str] = field(default_factory=Counter)
    kin: Kin = field(default_factory=Kin)
    places: set[str] = field(default_factory=set)
    faults: list[tuple[str, int, str]] = field(default_factory=list)
    _owners: dict[str, str] = field(default_factory=dict)

    def fault(self, file: str, line: int, reason: str) -> None:
        """Counts what could not be read; all but blank lines are remembered with their place."""
        self.records.drop(reason)
        if reason != "blank":
            self.faults.append((file, line, reason))

    def is_new(self, uuid: str, session: str, project: str) -> bool:
        """True when this record was not seen before in the pass; the first session keeps it.

        A real UUID is unique everywhere (copies of a session may lie in another folder); any
        other id is unique within its project.
        """
        key = uuid if _UUID.fullmatch(uuid) else f"{project}\n{uuid}"
        owner = self._owners.get(key)
        if owner is None:
            self._owners[key] = session
            return True
        self.kin.join(owner, session)
        return False
