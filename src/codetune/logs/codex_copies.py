"""Which items of a rollout were copied into it: by a fork, a subagent's start, or a resume.

Copies have no ids of their own. Three signs tell them: a fork begins with a burst of lines, or
with lines older than itself; a call's id was seen in another session; or everything from the
first item on equals another session so far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from codetune.logs.memory import Memory

# A copied history is written in one go; an answer of a model takes longer. Seconds.
_PAUSE = 1.0


class Copies:
    """Follows the items of one rollout in order."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._id = ""
        self._started: float | None = None
        self._copying = self._timed = False
        self._last: float | None = None
        self._chain = ""
        self._trail: list[bytes] = []
        self._replay: int | None = None

    def begin(self, session: str, started: str, parent: str) -> None:
        """The file's own meta record was read; with a parent it may begin with a copy."""
        self._id, self._started = session, _seconds(started)
        if parent:
            self._copying = True
            self._memory.kin.join(session, parent)

    def another_meta(self, session: str) -> None:
        """A further meta record: of the history that is copied, or of a resume of this session."""
        if session == self._id:
            self._replay = 0
        elif session:
            self._memory.kin.join(self._id, session)
            self._copying = self._copying or not self._trail

    def watch(self, stamp: str) -> None:
        """A copied history ends where the writer first had to wait for a model."""
        now = _seconds(stamp) if self._copying else None
        self._timed = self._timed or now is not None
        if now is None or (self._started is not None and now < self._started):
            return
        if self._last is not None and now - self._last > _PAUSE:
            self._copying = False
        self._last = now if self._last is None else max(now, self._last)

    def is_replayed(self, item: Mapping[str, Any]) -> bool:
        """A resumed session may write its items once more, in order, after its meta record."""
        data = repr(sorted(item.items(), key=str)).encode("utf-8", "replace")
        mark = hashlib.blake2b(data, digest_size=8).digest()
        replay = self._replay
        if replay is not None and replay < len(self._trail) and self._trail[replay] == mark:
            self._replay = replay + 1
            return True
        self._replay = None
        self._trail.append(mark)
        return False

    def heard(self, *said: str) -> None:
        """Something was said: one link more in the chain from the first item on."""
        joined = "\x00".join((self._chain, *said)).encode("utf-8", "surrogatepass")
        self._chain = hashlib.sha256(joined).hexdigest()[:32]

    def is_copy(self, name: str, text: str, call_id: str = "") -> bool:
        """Whether what the assistant said or called was copied from another session."""
        self.heard(name, text)
        if self._copying and self._timed:
            return True
        keys = [self._chain, *([call_id] if call_id else [])]
        new = [self._memory.is_new(f"codex:{key}", self._id, "") for key in keys]
        return not all(new)


def _seconds(stamp: str) -> float | None:
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
