"""The runs that a person asked for: found, sorted and counted by the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.text import Text
from sqlalchemy import Connection, select

from codetune.runlog.local import RunRow
from codetune.runlog.reading.figures import SHORT, duration, number, seconds_of, when, when_short
from codetune.runlog.reading.filters import Condition, parsed
from codetune.runlog.reading.keys import Key, Vocabulary
from codetune.runlog.reading.layout import Column, drawn, status_style
from codetune.runlog.reading.rows import notes_of, rows_of, tags_of
from codetune.runlog.store import schema

_NAME = 14  # columns for the name of a run, at least
_GAP = "\u2800"  # a blank of the tree while a table is laid out, which takes blanks together
_AT_ONCE = 500  # runs that are asked for together: engines limit how many names one may send


@dataclass(frozen=True)
class Wanted:
    """What `runs list` was asked for; all of `where` must hold."""

    where: tuple[Condition, ...] = ()
    sort: str = ""  # a key; with `-` before it the highest first
    limit: int = 20
    columns: tuple[str, ...] = ()
    tree: bool = False  # each run with the one that started it, and with all that it started


@dataclass(frozen=True)
class Listed:
    """A run in a list; `values` are those of the chosen columns, `depth` is its place in a tree."""

    row: RunRow
    tags: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    times: frozenset[str] = frozenset()  # the chosen columns that hold moments
    depth: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        more = {"seconds": seconds_of(self.row), "tags": list(self.tags), "depth": self.depth}
        return {**asdict(self.row), **more, "columns": dict(self.values)}


def wanted_of(
    *,
    stage: str | None,
    status: str | None,
    where: Sequence[str],
    sort: str,
    reverse: bool,
    **more: Any,
) -> Wanted:
    """What the flags of `runs list` ask for; UserError for what is no condition."""
    conditions = [parsed(text) for text in where]
    for word, value in (("stage", stage), ("status", status)):
        if value is not None:
            conditions.append(Condition(word, "=", value, quoted=True))
    if reverse:  # without a key: the oldest first
        sort = "created" if not sort else sort[1:] if sort.startswith("-") else f"-{sort}"
    return Wanted(tuple(conditions), sort, **more)


def listed(connection: Connection, wanted: Wanted) -> list[Listed]:
    """The runs that fit, newest first or as sorted. UserError for an unknown key."""
    words = Vocabulary(connection)
    run = schema.run.c
    query = select(run.id).where(*(words.condition(part) for part in wanted.where))
    if wanted.sort:
        for part in words.key(wanted.sort.removeprefix("-")).order:
            falling = wanted.sort.startswith("-")
            query = query.order_by((part.desc() if falling else part.asc()).nulls_last())
    query = query.order_by(run.id.desc()).limit(wanted.limit)
    ids = list(connection.execute(query).scalars())
    places = _trees(connection, ids) if wanted.tree else dict.fromkeys(ids, 0)
    columns = {word: words.key(word) for word in wanted.columns}
    shown = list(places)
    parts = (shown[n : n + _AT_ONCE] for n in range(0, len(shown), _AT_ONCE))
    return [run for part in parts for run in _rows(connection, part, places, columns)]


def list_lines(
    runs: Sequence[Listed], chosen: Sequence[str], width: int | None, now: int
) -> list[Text]:
    """One line a run, no wider than `width`; the ids are the ends of the real ones."""
    most = max(_NAME, (width or 0) // 6)  # the rest of the line is for the result
    columns = [Column("id"), Column("name", cut=True, most=most)]
    moment = when if width is None else lambda ms: when_short(ms, now)
    if chosen:
        columns += [Column("status", style=status_style), *(Column(c, cut=True) for c in chosen)]
        rows = [
            [*head, run.row.status, *_shown(run, moment)]
            for head, run in zip(_heads(runs), runs, strict=True)
        ]
        return _with_gaps(drawn(columns, rows, width))
    columns += [
        Column("stage", cut=True),
        Column("status", style=status_style),
        Column("when", right=True),
        Column("took", right=True),
        Column("result", cut=True),
    ]
    rows = [
        [
            *head,
            run.row.stage,
            run.row.status,
            moment(run.row.created),
            duration(run.row),
            run.row.reason,
        ]
        for head, run in zip(_heads(runs), runs, strict=True)
    ]
    return _with_gaps(drawn(columns, rows, width))


def _with_gaps(lines: list[Text]) -> list[Text]:
    for line in lines:
        line.plain = line.plain.replace(_GAP, " ")
    return lines


def _heads(runs: Sequence[Listed]) -> list[list[str]]:
    """The end of each id, and the name with the branches of the tree before it."""
    heads = []
    going_on: set[int] = set()  # depths of which more comes below
    for run in reversed(runs):
        depth = run.depth
        bars = ["│ " if level in going_on else 2 * _GAP for level in range(1, depth)]
        tip = [] if depth == 0 else ["├ "] if depth in going_on else ["└ "]
        heads.append([run.row.id[-SHORT:], "".join([*bars, *tip, run.row.name])])
        going_on = {level for level in going_on if level < depth} | {depth}
    return heads[::-1]


def _shown(run: Listed, moment: Callable[[int], str]) -> Iterator[str]:
    for word, value in run.values.items():
        if value is None:
            yield "-"
        else:
            yield moment(int(value)) if word in run.times else number(value)


def _rows(
    connection: Connection,
    ids: Sequence[str],
    places: Mapping[str, int],
    chosen: Mapping[str, Key],
) -> list[Listed]:
    """The runs `ids` in their order, with tags and the values of the chosen columns."""
    run = schema.run.c
    rows = {row.id: row for row in rows_of(connection, select(schema.run).where(run.id.in_(ids)))}
    tags = tags_of(connection, ids)
    notes = notes_of(connection, ids) if "note" in chosen else {}
    times = frozenset(word for word, key in chosen.items() if key.is_time)
    asked = [key.value.label(f"value_{n}") for n, key in enumerate(chosen.values())]
    values: dict[str, dict[str, Any]] = {}
    for run_id, *found in connection.execute(select(run.id, *asked).where(run.id.in_(ids))):
        values[run_id] = dict(zip(chosen, found, strict=True))
        if "tag" in chosen:  # a run may have several
            values[run_id]["tag"] = " ".join(tags.get(run_id, ())) or None
        if "note" in chosen:
            values[run_id]["note"] = " | ".join(notes.get(run_id, ())) or None
    return [Listed(rows[i], tags.get(i, ()), values[i], times, places[i]) for i in ids]


def _trees(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """The runs above and below `ids` with their depths, each below the one that started it."""
    run = schema.run.c
    parents: dict[str, str | None] = {}
    asked = set(ids)
    while asked:
        found = connection.execute(select(run.id, run.parent_id).where(run.id.in_(asked))).all()
        parents |= {row.id: row.parent_id for row in found}
        asked = {row.parent_id for row in found if row.parent_id} - set(parents)
    places: dict[str, int] = {}
    for run_id in ids:
        _descend(connection, _top(run_id, parents), places)
    return places


def _top(run_id: str, parents: Mapping[str, str | None]) -> str:
    """The run at the top of the tree of `run_id`; a parent that is not here does not count."""
    passed = {run_id}
    while (above := parents.get(run_id)) in parents and above is not None and above not in passed:
        passed.add(above)
        run_id = above
    return run_id


def _descend(connection: Connection, top: str, places: dict[str, int]) -> None:
    """Notes the depths of `top` and of all below it, each run before those that it started."""
    run = schema.run.c
    waiting = [(top, 0)]
    while waiting:
        run_id, depth = waiting.pop()
        if run_id in places:
            continue
        places[run_id] = depth
        below = select(run.id).where(run.parent_id == run_id).order_by(run.id.desc())
        waiting += [(child, depth + 1) for child in connection.execute(below).scalars()]
