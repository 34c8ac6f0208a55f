"""What people see: stderr for people, stdout for data.

Log lines and model outputs are untrusted text: control characters, escape sequences and
bidirectional overrides are stripped before anything reaches a terminal, and rich markup in
them is never interpreted.
"""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, Group

# CSI, OSC (ended by BEL or ST) and the two-byte escapes; then what is left of C0, C1 and bidi.
_ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b.?", re.S)
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SECONDS_BETWEEN_LINES = 10.0
_PIPE_COLUMNS = 1000
# Lines said while a bar is drawn go through the bar's own console, which puts them above it.
_drawing: list[Console] = []
# Takes (level, plain text) of everything that is said; see `copied_to`.
_copies: list[Callable[[str, str], None]] = []
_COPY_COLUMNS = 120


@dataclass(frozen=True)
class Table:
    """A table to be drawn: `rows` hold one string per column.

    One that shows texts of samples is `quoted`: it goes to the screen and into no log.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    quoted: bool = False

    def as_dicts(self) -> list[dict[str, str]]:
        """The rows as dictionaries keyed by column, for `--json`."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def clean(text: object) -> str:
    """`text` without escape sequences, control characters (but tab, newline) or bidi overrides."""
    return _CONTROLS.sub("", _ESCAPES.sub("", str(text)))


def stderr() -> Console:
    """A rich console on standard error; colours and widths follow the terminal.

    A terminal or a reader that goes away is no reason to stop: nobody hears the rest.
    """
    from rich.console import Console

    if _drawing:
        return _drawing[-1]
    heard: Any = _Unheard(sys.stderr)
    return Console(file=heard, highlight=False, soft_wrap=True)


class _Unheard:
    """A text stream that goes on into nothing when what it writes to is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes `text`, to whoever listens."""
        try:
            return self._stream.write(text)
        except OSError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        """Flushes what was written, to whoever listens."""
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        """What libraries write from now on goes into nothing too."""
        with suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)


@contextmanager
def copied_to(write: Callable[[str, str], None]) -> Iterator[None]:
    """Whatever is said meanwhile is also given to `write(level, plain text)`: no bars, and no
    texts of samples.
    """
    _copies.append(write)
    try:
        yield
    finally:
        _copies.remove(write)


def say(text: object) -> None:
    """One plain line for a person."""
    _said("info", text)
    _print(text, "")


def warn(text: object) -> None:
    """One line that should not be missed, but does not stop the work."""
    _said("warning", text)
    _print(f"warning: {text}", "yellow")


def fail(text: object) -> None:
    """The one line that says why the program stops."""
    _said("error", text)
    _print(f"error: {text}", "bold red")


def quote(text: object) -> None:
    """A text of a sample, or of a model: for the screen alone, logs do not keep it."""
    _print(text, "")


def bug(trace: str, kept: str) -> None:
    """A traceback for whoever mends the program; logs keep it as in `kept`."""
    _said("error", kept)
    _print(trace, "")


def emit(text: str) -> None:
    """Data for a machine, on standard output, as it is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show(shown: Table) -> None:
    """Draws a table on standard output: the answer to a question, which may go into a pipe.

    There every row stays on one line.
    """
    stdout().print(_drawn(shown), soft_wrap=False)


def line(text: object, style: str = "") -> None:
    """One line of an answer on standard output."""
    from rich.text import Text

    stdout().print(Text(clean(text), style=style))


def stdout() -> Console:
    """A rich console on standard output, with long lines where nobody sees them wrapped.

    Printing raises BrokenPipeError when the reader has gone away.
    """
    from rich.console import Console

    class Answers(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich itself would end the program with exit code 1

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Answers(highlight=False, soft_wrap=True, width=wide)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, quoted: bool = False
) -> Table:
    """A `Table` of cleaned strings."""
    cells = tuple(tuple(clean(cell) for cell in row) for row in rows)
    return Table(clean(title), tuple(columns), cells, quoted)


def draw(shown: Table) -> None:
    """Draws a table on standard error."""
    stderr().print(_drawn(shown), soft_wrap=False)
    if _copies and not shown.quoted:
        _said("info", _as_text(shown))


def _drawn(shown: Table) -> Group:
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD)
    for name, cells in zip(shown.columns, _transposed(shown), strict=True):
        numeric = bool(cells) and all(_is_number(cell) for cell in cells)
        drawn.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in shown.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    # As a title of the table it would be folded to the table's width, which may be small.
    return Group(Text(shown.title), drawn) if shown.title else Group(drawn)


class Progress:
    """Counts finished work; draws nothing itself."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._shown_at = time.monotonic()

    def advance(self, n: int = 1) -> None:
        """Says that `n` more items are done."""
        self.done += n
        now = time.monotonic()
        if now - self._shown_at >= _SECONDS_BETWEEN_LINES:
            self._shown_at = now
            of = f" of {self.total:,}" if self.total else ""
            self._tell(f"{self.what}: {self.done:,}{of}")

    def _tell(self, text: str) -> None:
        say(text)


class _BarProgress(Progress):
    def __init__(self, what: str, total: int | None, bar: Any) -> None:
        super().__init__(what, total)
        self._bar, self._task = bar, bar.add_task(clean(what), total=total)

    def advance(self, n: int = 1) -> None:
        super().advance(n)
        self._bar.advance(self._task, n)

    def _tell(self, text: str) -> None:
        _said("info", text)  # the bar shows it


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Progress]:
    """A progress bar on a terminal; elsewhere one line every ten seconds."""
    if not sys.stderr.isatty():
        yield Progress(what, total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=stderr(), transient=True) as bar:
        _drawing.append(bar.console)
        try:
            yield _BarProgress(what, total, bar)
        finally:
            _drawing.pop()


def _print(text: object, style: str) -> None:
    from rich.text import Text

    stderr().print(Text(clean(text), style=style))


def _said(level: str, text: object) -> None:
    for write in _copies:
        write(level, clean(text))


def _as_text(shown: Table) -> str:
    from rich.console import Console

    plain = Console(file=io.StringIO(), width=_COPY_COLUMNS, color_system=None)
    with plain.capture() as captured:
        plain.print(_drawn(shown))
    return captured.get().strip("\n")


def _transposed(shown: Table) -> list[tuple[str, ...]]:
    return list(zip(*shown.rows, strict=True)) if shown.rows else [() for _ in shown.columns]


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[-+±]?[\d,.]+\s?(%|s|ms|x|[KMG]i?B|tok/s)?|-|", cell))
