"""The two ends of a run's journal: as cheap for a long run as for a short one.

What others wrote behind a run (tags, notes), and damaged lines, hide neither how it began nor how
it ended: the run's own records are all others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from codetune.runlog import events
from codetune.runlog.events import Record, parsed

_BLOCK = 64 * 1024  # bytes
_BEFORE_THE_START = ("created", "finished")  # one that never starts is ended all the same


def is_own(record: Record) -> bool:
    """Whether the run wrote it: its last one tells how the run ended, or when it was alive."""
    return bool(record.kind) and record.kind not in events.AMENDMENTS


def own(journal: Path) -> Iterator[Record]:
    """The run's own records, first ones first."""
    return filter(is_own, events.read(journal))


def beginning(journal: Path) -> Iterator[Record]:
    """The run's own records up to the one that says how it was started."""
    for record in own(journal):
        yield record
        if record.kind not in _BEFORE_THE_START:
            return


def last_ones(journal: Path, *, after: int = 0, within: int | None = None) -> Iterator[Record]:
    """The run's own records behind byte `after`, last ones first; `within` so many bytes of the
    end of the last one.
    """
    stop = after
    for record in filter(is_own, backwards(journal)):
        if within is not None:
            stop, within = max(after, record.end - within), None
        if record.start < stop:
            return
        yield record


def both(journal: Path) -> list[Record]:
    """The beginning, and the last of the run's own records: all that its status depends on."""
    first = list(beginning(journal))
    last = next(last_ones(journal, after=first[-1].end if first else 0), None)
    return first if last is None else [*first, last]


def backwards(journal: Path) -> Iterator[Record]:
    """All whole records of a journal, last ones first, otherwise as `events.read` gives them."""
    with journal.open("rb") as source:
        end, length = source.seek(0, os.SEEK_END), _BLOCK
        while end > 0:
            start = max(0, end - length)
            block = os.pread(source.fileno(), end - start, start)
            # What comes before the first newline may be the rest of a line, and what follows the
            # last one is torn, or empty.
            whole = block.find(b"\n") + 1 if start else 0
            *lines, torn = block[whole:].split(b"\n")
            if start and not lines:
                length *= 2  # a line longer than that
                continue
            end, length = start + len(block) - len(torn), _BLOCK
            for line in reversed(lines):
                before = end - len(line) - 1
                yield Record(before, end, parsed(line))
                end = before
