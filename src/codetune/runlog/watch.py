"""Runs as they go on, read from the ends of their journals: no database, and as cheap for a long
run as for a short one. Nothing here waits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codetune.errors import UserError
from codetune.runlog import ends, events, process
from codetune.runlog.events import Record
from codetune.runlog.process import Process

# What a reader of `runs watch` can meet; the last two stand in no journal.
KINDS = (
    *("created", "started", "define", "metric", "input", "output", "tag", "untag", "note"),
    *("system", "event", "finished", "crashed", "removed"),
)
ENDS = ("finished", "crashed", "removed")
_CRASHED, _REMOVED = "the process ended without a word", "its journal was removed"


@dataclass(frozen=True)
class Head:
    """What the first record of a run's journal says."""

    id: str
    name: str
    stage: str
    parent: str | None
    journal: Path

    def __str__(self) -> str:
        return f"{self.stage} {' '.join(self.name.split())[:80]} ({self.id})"


class Watched:
    """A run whose journal is followed: from its end on, or from behind byte `after` (0: all of it).

    `status` is right once `records` was read to its end. `ending` is the record that ended the
    run, once it was read. UserError when no record ends at `after`.
    """

    def __init__(self, head: Head, after: int | None = None) -> None:
        self.head, self.status, self.reason = head, "created", ""
        self.ending: Record | None = None
        self.offset = after or 0  # bytes of the journal that were read
        self._process: Process | None = None
        self._heartbeat = 0
        try:
            self._catch_up(after)
        except FileNotFoundError:
            self._close("removed", _REMOVED)

    def records(self) -> Iterator[Record]:
        """The records since the last call. When the process has gone, or the journal, a record
        `crashed` or `removed` comes after the last one.
        """
        if self.ending is not None:
            return
        gone = self._is_gone()  # asked before the last look, so that no last word is missed
        try:
            for record in events.read(self.head.journal, self.offset):
                self.offset = record.end
                self._learn(record)
                yield record
        except FileNotFoundError:
            yield self._close("removed", _REMOVED)
            return
        if gone and self.ending is None:
            yield self._close("crashed", _CRASHED)

    def look(self) -> bool:
        """Brings `status` up to now; True when the run has ended."""
        for _ in self.records():
            pass
        return self.ending is not None

    def _catch_up(self, after: int | None) -> None:
        if after is None:
            self._learn_beginning()
            self._learn_end()
            if self._is_gone():
                self._close("crashed", _CRASHED)
        elif after:
            self._learn_beginning()
            self._check_offset()

    def _learn(self, record: Record) -> None:
        fields = record.fields
        if record.kind == "started":
            self.status, self._process = "running", _process(fields.get("process"))
        elif record.kind == "finished":
            self.status, self.reason = str(fields.get("status")), str(fields.get("reason", ""))
            self.ending = record
        if ends.is_own(record):
            self._heartbeat = _number(fields.get("ts"))

    def _learn_beginning(self) -> None:
        for record in ends.beginning(self.head.journal):
            self._learn(record)

    def _check_offset(self) -> None:
        with self.head.journal.open("rb") as journal:
            journal.seek(max(0, self.offset - 1))
            if self.offset < 0 or journal.read(1) != b"\n":
                raise UserError(f"{self.offset}: no record of {self.head} ends at this offset")

    def _learn_end(self) -> None:
        """Goes to the end, and from there back to the last record that is the run's own."""
        for record in ends.backwards(self.head.journal):
            self.offset = max(self.offset, record.end)  # a torn line is read again when whole
            if ends.is_own(record):
                self._learn(record)
                return

    def _is_gone(self) -> bool:
        if self.status != "running" or self._process is None:
            return False
        return not process.is_alive(self._process, self._heartbeat)

    def _close(self, kind: str, reason: str) -> Record:
        self.status, self.reason = kind, reason
        fields = {"ts": process.now_ms(), "kind": kind, "reason": reason}
        self.ending = Record(self.offset, self.offset, fields)
        return self.ending


class Succession:
    """The runs to look at, one after the other: of the pipeline that `first` belongs to each one,
    in the order they were made; `alone` only `first`.

    `current` gives way once it is known to have ended, so that nobody misses its last words: it is
    the caller's to look at it.
    """

    def __init__(self, root: Path, first: Watched, *, alone: bool) -> None:
        self.current, self._root, self._alone = first, root, alone
        self.top = first if alone else _top(root, first)
        self._younger: dict[str, Head] = {}  # runs made after `top`; each is opened once

    def is_over(self) -> bool:
        """True when the pipeline has ended and there is no next run."""
        return self.current.ending is not None and self.top.look() and self._next() is None

    def advance(self) -> bool:
        """Makes the next run `current` when it is its turn; False when it is not."""
        following = None if self._alone else self._next()
        if following is None:
            return False
        head, parents = following
        if self.current.ending is None and self.current.head.id not in parents:
            return False
        self.current = Watched(head)
        return True

    def _next(self) -> tuple[Head, list[str]] | None:
        """The oldest run of the pipeline that is younger than `current`, and its ancestors."""
        if self._alone:
            return None
        top, current = self.top.head.id, self.current.head.id
        new = heads(self._root, after=top, known=self._younger)
        self._younger |= {head.id: head for head in list(new)}
        for run_id in sorted(run_id for run_id in self._younger if run_id > current):
            parents = _ancestors(self._younger, run_id)
            if top in parents:
                return self._younger[run_id], parents
        return None


def heads(root: Path, after: str = "", known: Collection[str] = ()) -> Iterator[Head]:
    """The runs of this checkout, newest first: those with an id above `after` and not in `known`,
    at the cost of these alone.
    """
    folder = root / events.RUNS
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - asked many times
    for run_id in sorted((n for n in names if n > after and n not in known), reverse=True):
        journal = events.journal_path(root, run_id)
        try:
            first = next(events.read(journal), None)
        except (FileNotFoundError, NotADirectoryError):
            continue  # not there yet, or removed meanwhile
        if first is not None and first.kind == "created":
            told = first.fields
            name, stage = str(told.get("name")), str(told.get("stage"))
            yield Head(run_id, name, stage, told.get("parent"), journal)


def find(root: Path, name: str) -> Watched:
    """The run with this id or name, or the only one whose id begins or ends so. Of several with
    one name, one at work, else the newest that did something. UserError without one.
    """
    known = list(heads(root))
    part = name.upper()
    named = [Watched(head) for head in known if head.id == part or head.name == name]
    if named:
        active = [run for run in named if run.status == "running"]
        return next(iter([*active, *(r for r in named if r.status != "up to date")]), named[0])
    near = [head for head in known if head.id.startswith(part) or head.id.endswith(part)]
    if len(near) == 1:
        return Watched(near[0])
    if not near:
        raise UserError(f"no run is called {name!r}; `runs list` shows them")
    raise UserError(f"{len(near)} runs have ids like {name!r}; write more of it")


def newest(root: Path) -> Watched:
    """The newest run that is at work, else the newest of all. UserError when there is none."""
    first: Watched | None = None
    for head in heads(root):
        run = Watched(head)
        if run.status == "running":
            return run
        first = first or run
    if first is None:
        raise UserError("no runs here yet; each stage is one, `./scripts.sh help` lists them")
    return first


def as_json(head: Head, record: Record) -> str:
    """A record as one line of JSON that says whose it is, and where the journal goes on."""
    fields = dict(record.fields)
    if "name" in fields and record.kind == "event":
        fields["event"] = fields.pop("name")
    whose = {"run": head.id, "name": head.name, "stage": head.stage, "offset": record.end}
    return json.dumps({**whose, **{k: v for k, v in fields.items() if k not in whose}})


def _top(root: Path, run: Watched) -> Watched:
    """The pipeline that started `run`, or the one that started that, as far as they are at work."""
    parents = {head.id: head for head in heads(root)} if run.head.parent else {}
    # each is taken once: parents that somebody closed into a circle must not hold us up
    while (head := parents.pop(run.head.parent or "", None)) is not None:
        above = Watched(head)
        if above.status != "running":
            break
        run = above
    return run


def _ancestors(known: dict[str, Head], run_id: str) -> list[str]:
    found: list[str] = []
    parent = known[run_id].parent
    while parent is not None and parent not in found:
        found.append(parent)
        parent = known[parent].parent if parent in known else None
    return found


def _process(fields: Any) -> Process | None:
    """The process of a record; None where it tells of none."""
    if not isinstance(fields, dict) or not _number(fields.get("pid")) > 0:
        return None
    machine, pid, started = str(fields.get("machine")), fields["pid"], fields.get("started")
    return Process(machine, pid, _number(started))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
