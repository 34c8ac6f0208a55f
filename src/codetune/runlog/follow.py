"""A text file, followed line by line while others write it, as `tail -F` does.

The file may appear late, grow, be cut short or be replaced by another; lines may be torn, endless,
or no UTF-8. Memory stays the same whatever the size. Nothing here waits, except `pause`.
"""

from __future__ import annotations

import os
import re
import select
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from codetune import console
from codetune.errors import UserError

LONGEST = 64 * 1024  # bytes; a longer line comes in pieces
LEVELS = ("info", "warning", "error")
OUTPUT = "output.log"
_MARK = 64  # bytes before our place that must not change under us
_COMPARED = 1000  # characters of a line
_REMEMBERED = 2000  # lines of the console log that the raw output is compared with, at least
_DATED = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (info   |warning|error  |info|error)(?: (.*))?"
)


@dataclass(frozen=True)
class Line:
    """One line of a run's console log, or of its raw output: that has no time and no level.

    What a dying process writes into the console log has no time either.
    """

    text: str
    time: str = ""
    level: str = ""

    def __str__(self) -> str:
        if self.time:
            return f"{self.time} {self.level:<7} {self.text}".rstrip()
        return self.text if self.level else f"output | {self.text}"


Wanted = Callable[[Line], bool]


def pause(seconds: float, reader: int) -> None:
    """Waits; BrokenPipeError as soon as nobody reads what is written to the descriptor `reader`.

    Without it, a follower of a silent file outlives its reader until the next line.
    """
    hung_up = select.poll()
    hung_up.register(reader, 0)
    if hung_up.poll(seconds * 1000):
        raise BrokenPipeError


def backwards(handle: int, end: int) -> Iterator[bytes]:
    """The lines before byte `end` of an open file, last first, without their newlines.

    The first is what follows the last newline: empty, or a torn line.
    """
    rest = b""
    while end > 0:
        start = max(0, end - LONGEST)
        rest, *lines = (os.pread(handle, end - start, start) + rest).split(b"\n")
        yield from reversed(lines)
        end = start
        while len(rest) > LONGEST:
            yield rest[-LONGEST:]
            rest = rest[:-LONGEST]
    yield rest


class Follower:
    """The place up to which a file has been read. UserError for what cannot be read as a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1
        self._place, self._mark, self._torn = 0, b"", b""

    def last(
        self,
        count: int,
        wanted: Callable[[str], bool] = lambda _: True,
        until: Callable[[str], bool] = lambda _: False,
    ) -> list[str]:
        """Goes to the end of the file; returns its last `count` lines that are wanted, and that
        come after the last one for which `until` holds.
        """
        self.close()
        if not self._open():
            return []
        end = os.fstat(self._handle).st_size
        lines = backwards(self._handle, end)
        self._torn, self._place = next(lines), end
        self._mark = os.pread(self._handle, _MARK, max(0, end - _MARK))
        found: list[str] = []
        while len(found) < count and (line := next(lines, None)) is not None:
            text = _text(line)
            if until(text):
                break
            if wanted(text):
                found.append(text)
        return found[::-1]

    def lines(self) -> Iterator[str]:
        """The whole lines that came since the last call; of a new file all of them."""
        if self._handle < 0 and not self._open():
            return
        yield from self._grown()
        if self._is_replaced():
            yield from self.rest()
            self.close()
            if self._open():
                yield from self._grown()

    def rest(self) -> Iterator[str]:
        """What stands at the end without its newline, once nobody will finish it any more."""
        torn, self._torn = self._torn, b""
        if torn:
            yield _text(torn)

    def close(self) -> None:
        """Lets go of the file."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self._place, self._mark = -1, 0, b""

    def _open(self) -> bool:
        try:
            # a pipe that somebody put here must not hold us up
            self._handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as problem:
            raise UserError(f"{self.path}: cannot be read: {problem.strerror}") from None
        if not stat.S_ISREG(os.fstat(self._handle).st_mode):
            self.close()
            raise UserError(f"{self.path}: is no file that could be followed")
        return True

    def _grown(self) -> Iterator[str]:
        size = os.fstat(self._handle).st_size
        if size < self._place or (size > self._place and not self._is_continued()):
            yield from self.rest()
            self._place, self._mark = 0, b""
        while block := os.pread(self._handle, LONGEST, self._place):
            self._place += len(block)
            self._mark = (self._mark + block)[-_MARK:]
            yield from self._whole(block)

    def _is_continued(self) -> bool:
        """False when the file was cut short and has since grown beyond our place."""
        before = self._place - len(self._mark)
        return os.pread(self._handle, len(self._mark), before) == self._mark

    def _is_replaced(self) -> bool:
        try:
            now, ours = self.path.stat(), os.fstat(self._handle)
        except OSError:  # it is away, and may come back
            return False
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)

    def _whole(self, block: bytes) -> Iterator[str]:
        *whole, self._torn = (self._torn + block).split(b"\n")
        for line in whole:
            for start in range(0, max(1, len(line)), LONGEST):
                yield _text(line[start : start + LONGEST])
        while len(self._torn) > LONGEST:
            yield _text(self._torn[:LONGEST])
            self._torn = self._torn[LONGEST:]


class RunOutput:
    """What a run says: its console log, and what only the raw output beside it has.

    A detached run has both: there, its output holds the same lines once more, and besides them
    what its process wrote without asking us, such as the end of a native library.
    """

    def __init__(self, console_log: Path) -> None:
        self._console = Follower(console_log)
        self._output = Follower(console_log.with_name(OUTPUT))
        self._told: OrderedDict[str, None] = OrderedDict()
        self._held: list[str] = []

    def last(self, count: int, wanted: Wanted) -> list[Line]:
        """Goes to the end; returns the last `count` wanted lines of each file.

        Of the raw output only those beside lines that we remember: older ones would all look new.
        """
        for text in self._console.last(_REMEMBERED):
            self._remember(dated(text))
        said = self._console.last(count, lambda text: wanted(dated(text)))
        raw = self._output.last(
            count, lambda text: self._is_news(text) and wanted(Line(text)), self._beyond()
        )
        return [*map(dated, said), *map(Line, raw)]

    def lines(self, wanted: Wanted) -> Iterator[Line]:
        """The wanted lines that came since the last call.

        Raw lines are held back for one call: by then the console log has them, if it ever will.
        """
        held, self._held = self._held, list(self._output.lines())
        new = 0
        for line in map(dated, self._console.lines()):
            self._remember(line)
            new += 1
            if wanted(line):
                yield line
        yield from (Line(t) for t in held if self._is_news(t) and wanted(Line(t)))
        self._forget(max(_REMEMBERED, new))  # lines that we hold back may be among the newest

    def rest(self, wanted: Wanted) -> Iterator[Line]:
        """What is left when the run has ended: lines held back, and torn ones."""
        yield from self.lines(wanted)
        yield from filter(wanted, map(dated, self._console.rest()))
        held, self._held = [*self._held, *self._output.rest()], []
        yield from (Line(t) for t in held if self._is_news(t) and wanted(Line(t)))

    def close(self) -> None:
        """Lets go of the files."""
        self._console.close()
        self._output.close()

    def _remember(self, line: Line) -> None:
        words = _bare(line.text)
        self._told[words] = None
        self._told.move_to_end(words)

    def _forget(self, keep: int) -> None:
        while len(self._told) > keep:
            self._told.popitem(last=False)

    def _beyond(self) -> Callable[[str], bool]:
        """What tells, of raw lines from the last one back, whether they are older than what is
        remembered. Half of that may be missing there, such as tables drawn at another width.
        """
        known = 0

        def beyond(raw: str) -> bool:
            nonlocal known
            known += _bare(raw) in self._told
            return known > _REMEMBERED // 2

        return beyond

    def _is_news(self, raw: str) -> bool:
        words = _bare(raw)
        return bool(words) and words not in self._told


def dated(text: str) -> Line:
    """A line of a console log in its parts. One without date is the last word of a dying process,
    written past us: an error.
    """
    found = _DATED.fullmatch(text)
    if found is None:
        return Line(text, "", "error")
    return Line(found[3] or "", found[1], found[2].rstrip())


def _bare(text: str) -> str:
    """The words of a line that both files share: colours, level, frames and widths differ."""
    said = text.removeprefix("warning: ").removeprefix("error: ")
    return " ".join(re.sub("[\u2500-\u257f]+", " ", said[:_COMPARED]).split())


def _text(line: bytes) -> str:
    """What a terminal would show of a line: after the last carriage return, without escapes."""
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return console.clean(shown.decode("utf-8", "replace"))
