"""Tables of untrusted text that fit their terminal, and are whole where nobody sees them cut.

`console.show` folds what is too long; here a row can stay on one line, as a list of runs must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from codetune.console import clean

_GAP = "  "
_PADDED = 60  # where nothing is cut, shorter cells are filled up to so many columns at most
_SEPARATORS = (" /,", "_-.:=")  # where to part a word that is longer than its column: best first
_MOST_LINES = 10  # of one cell; a name may have thousands of characters
_NARROWEST = 8  # a column that may be cut or folded keeps so much
STATUS_STYLES = {
    "running": "cyan",
    "finished": "green",
    "up to date": "green",
    "created": "dim",
    "interrupted": "yellow",
    "refused": "yellow",
    "failed": "red",
    "crashed": "bold red",
}
Style = Callable[[str], str]


@dataclass(frozen=True)
class Column:
    """How a column is drawn: what is too wide is cut, or folded, or (neither) never shortened."""

    name: str
    right: bool = False
    cut: bool = False
    fold: bool = False
    most: int = 10_000  # so wide at most on a terminal, if it may be shortened
    spare: int = 0  # left out of a terminal that is too narrow for all, the highest first
    style: Style | None = None  # of a cell, by its text


def status_style(status: str) -> str:
    """The colour of a status; none for other words."""
    return STATUS_STYLES.get(status.partition(":")[0], "")


def one_line(text: object) -> str:
    """`text` without control characters, and with every stretch of space as one blank."""
    return " ".join(clean(text).split())


def cut(cell: str, size: int) -> str:
    """`cell`, no wider than `size` columns; an ellipsis stands for the rest."""
    return cell if cell_len(cell) <= size else set_cell_size(cell, size - 1) + "…"


def drawn(
    columns: Sequence[Column], rows: Sequence[Sequence[object]], width: int | None
) -> list[Text]:
    """The lines of a table for a terminal of `width` columns, or whole lines where it is None."""
    if width is None:
        columns = [replace(column, cut=False, fold=False) for column in columns]
    cells = [[one_line(cell) for cell in row] for row in rows]
    if width is not None:
        columns, cells = _affordable(columns, cells, width)
    widths = _widths(columns, cells, width)
    soft = [column.cut or column.fold for column in columns]
    names = [cut(c.name, w) if s else c.name for c, w, s in zip(columns, widths, soft, strict=True)]
    header = [Text(name, style="bold") for name in names]
    lines = [_joined(columns, widths, header)] if any(c.name for c in columns) else []
    for row in cells:
        lines += _folded(columns, widths, row)
    return lines


def title(text: object, width: int | None) -> list[Text]:
    """The name of what a page is about."""
    return drawn([Column("", fold=True, style=_bold)], [[text]], width)


def facts(pairs: Sequence[tuple[str, object]], width: int | None, *, indent: int = 0) -> list[Text]:
    """Names and values, one pair a line; a value that is too long goes on below itself."""
    columns = [Column("", style=_dim), Column("", fold=True, style=status_style)]
    inner = None if width is None else width - indent
    lines = drawn(columns, [(name, value) for name, value in pairs], inner)
    return [Text(" " * indent).append_text(line) for line in lines]


def _bold(_: str) -> str:
    return "bold"


def _dim(_: str) -> str:
    return "dim"


def _affordable(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int
) -> tuple[Sequence[Column], list[list[str]]]:
    """The columns, and the cells of the rows, without spare ones where not all fit whole."""
    places = range(len(columns))
    sizes = [max([cell_len(columns[n].name), *(cell_len(row[n]) for row in rows)]) for n in places]
    kept = list(places)
    while sum(sizes[n] for n in kept) + len(_GAP) * (len(kept) - 1) > width:
        least = max(columns[n].spare for n in kept)
        if least == 0:
            break
        kept = [n for n in kept if columns[n].spare != least]
    return [columns[n] for n in kept], [[row[n] for n in kept] for row in rows]


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> list[int]:
    """What each column needs; on a terminal the widest soft ones give way until all fit."""
    sizes = [[cell_len(column.name)] for column in columns]
    for row in rows:
        for size, cell in zip(sizes, row, strict=True):
            size.append(cell_len(cell))
    if width is None:  # one very long cell shall not pad the column of all others
        return [max(size for size in column if size <= _PADDED) for column in sizes]
    soft = [n for n, column in enumerate(columns) if column.cut or column.fold]
    natural = [
        min(max(size), column.most if n in soft else max(size))
        for n, (column, size) in enumerate(zip(columns, sizes, strict=True))
    ]
    hard = sum(size for n, size in enumerate(natural) if n not in soft)
    room = width - hard - len(_GAP) * (len(columns) - 1)
    return _shared(natural, soft, max(room, _NARROWEST * len(soft)))


def _shared(natural: list[int], soft: list[int], room: int) -> list[int]:
    """`natural` with the `soft` ones no wider together than `room`: the narrow ones stay whole."""
    widths = list(natural)
    waiting = sorted(soft, key=lambda n: natural[n])
    while waiting:
        n = waiting.pop(0)
        widths[n] = min(natural[n], room // (len(waiting) + 1))
        room -= widths[n]
    return widths


def _folded(columns: Sequence[Column], widths: Sequence[int], row: Sequence[str]) -> Iterator[Text]:
    """The lines of one row: one, unless a cell is folded."""
    parts = [
        _chopped(cell, size) if column.fold else [cut(cell, size) if column.cut else cell]
        for column, cell, size in zip(columns, row, widths, strict=True)
    ]
    styles = [c.style(cell) if c.style else "" for c, cell in zip(columns, row, strict=True)]
    for number in range(max(len(part) for part in parts)):
        texts = [part[number] if number < len(part) else "" for part in parts]
        yield _joined(columns, widths, [Text(t, s) for t, s in zip(texts, styles, strict=True)])


def _chopped(cell: str, size: int) -> list[str]:
    """`cell` in pieces of at most `size`, parted inside a word only if it is longer than that."""
    pieces, rest = [], cell
    while cell_len(rest) > size:
        head = _head(rest, size)
        blank = head.rfind(" ") + 1
        if rest[len(head)] != " ":
            word = rest[blank:].partition(" ")[0]
            ends = [max(head.rfind(mark) for mark in marks) + 1 for marks in _SEPARATORS]
            if blank and cell_len(word) <= size:
                head = head[:blank]
            else:
                head = head[: next((end for end in ends if end > size // 2), None)]
        pieces.append(head.rstrip())
        rest = rest[len(head) :].lstrip()
    whole = [*pieces, rest]
    return whole if len(whole) <= _MOST_LINES else [*whole[: _MOST_LINES - 1], "… (--json: all)"]


def _head(text: str, size: int) -> str:
    """As much of the beginning of `text` as fits, but at least one character."""
    used, end = 0, 0
    while end < len(text) and (used := used + cell_len(text[end])) <= size:
        end += 1
    return text[: max(1, end)]


def _joined(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[Text]) -> Text:
    parts = []
    for column, size, cell in zip(columns, widths, cells, strict=True):
        blank = Text(" " * (size - cell_len(cell.plain)))
        parts.append(blank + cell if column.right else cell + blank)
    line = Text(_GAP).join(parts)
    line.rstrip()
    return line
