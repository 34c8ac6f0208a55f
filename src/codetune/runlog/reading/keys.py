"""What the words of `--where`, `--sort` and `--columns` stand for, as SQL.

A word is a fact of every run (`status`, `seconds`, `tag`), else a knob, else a metric; `param.x`
and `metric.x` tell apart a knob and a metric of one name. A metric is its best value where one
direction is better, else its last; `.last .first .min .max .best .count` say which.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Select,
    and_,
    case,
    cast,
    collate,
    func,
    or_,
    select,
)

from codetune.errors import UserError
from codetune.runlog.process import now_ms
from codetune.runlog.reading.filters import Condition, moment, number, seconds
from codetune.runlog.reading.rows import crashed_ids
from codetune.runlog.store import schema

WHICH = ("last", "first", "min", "max", "best", "count")
_COMPARE: Mapping[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_run = schema.run.c


@dataclass(frozen=True, eq=False)
class Key:
    """A value that each run has or lacks: what to sort by and to show, and how to compare it."""

    value: ColumnElement[Any]
    order: tuple[ColumnElement[Any], ...]
    test: Callable[[Condition], ColumnElement[bool]]
    is_time: bool = False


class Vocabulary:
    """The words that can be asked with, of the runs behind a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._facts = _facts(crashed_ids(connection), now_ms())

    def key(self, word: str) -> Key:
        """What `word` stands for; UserError with the closest word for one that is unknown."""
        if word in self._facts:
            return self._facts[word]
        kind, _, name = word.partition(".")
        if kind == "param" and self._is_param(name):
            return _param(name)
        if kind == "metric" and (metric := self._metric(name)):
            return metric
        if self._is_param(word):  # what a run was told comes before what it logged of it
            return _param(word)
        if metric := self._metric(word):
            return metric
        raise UserError(f"no run knows {word!r}; {self._hint(word)}")

    def condition(self, wanted: Condition) -> ColumnElement[bool]:
        """The condition in SQL; UserError where its value does not fit its key."""
        return self.key(wanted.key).test(wanted)

    def _is_param(self, name: str) -> bool:
        return self._has(select(schema.param.c.key).where(schema.param.c.key == name))

    def _metric(self, name: str) -> Key | None:
        """The metric called `name`, or the part of one that its last word asks for."""
        stem, _, which = name.rpartition(".")
        keys = schema.metric_key.c.key
        if self._has(select(keys).where(keys == name)):
            return _number(name, _of_metric(name, ""))
        if which in WHICH and self._has(select(keys).where(keys == stem)):
            return _number(name, _of_metric(stem, which))
        return None

    def _has(self, wanted: Select[Any]) -> bool:
        return self._connection.execute(wanted.limit(1)).first() is not None

    def _hint(self, word: str) -> str:
        params = self._connection.execute(select(schema.param.c.key).distinct()).scalars()
        metrics = self._connection.execute(select(schema.metric_key.c.key).distinct()).scalars()
        known = [*self._facts, *params, *metrics]
        bare = word.removeprefix("param.").removeprefix("metric.")
        near = difflib.get_close_matches(word, known, 1) or difflib.get_close_matches(
            bare, known, 1
        )
        facts = ", ".join(self._facts)
        return f"did you mean {near[0]}?" if near else f"there are {facts}, knobs and metrics"


def _facts(crashed: list[str], now: int) -> dict[str, Key]:
    """What is known of every run; `crashed` are those whose process is gone."""
    status = case((_run.id.in_(crashed), "crashed"), else_=_run.status)
    end = case((status == "running", now), else_=func.coalesce(_run.ended_at, _run.heartbeat_at))
    took = cast(end - _run.started_at, Double) / 1000
    return {
        "id": _reference("id", _run.id),
        "name": _text("name", _run.name),
        "stage": _text("stage", _run.stage),
        "status": _text("status", status, among=(*schema.STATUSES, "crashed")),
        "result": _text("result", func.nullif(_run.exit_reason, "")),
        "project": _text("project", _run.project),
        "task": _text("task", _run.task),
        "commit": _text("commit", _run.git_commit),
        "parent": _reference("parent", _run.parent_id),
        "tag": _words("tag", schema.tag.c.text),
        "note": _words("note", schema.note.c.text),
        "seed": _number("seed", _run.seed),
        "seconds": _number("seconds", took, read=seconds),
        "created": _time("created", _run.created_at, now),
        "started": _time("started", _run.started_at, now),
        "ended": _time("ended", _run.ended_at, now),
    }


def _text(word: str, value: ColumnElement[Any], among: Sequence[str] = ()) -> Key:
    """A text; one of a few, where `among` says so."""

    def test(wanted: Condition) -> ColumnElement[bool]:
        if among and wanted.operator in ("=", "!=") and wanted.value not in among:
            near = difflib.get_close_matches(wanted.value, among, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(among)}"
            raise UserError(f"{word}: no run can be {wanted.value!r}; {hint}")
        return _compared_text(word, value, wanted)

    return Key(value, (_by_letters(value),), test)


def _by_letters(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """A text to sort by, in an order that does not depend on the locale of a server."""
    return collate(value, "C")


def _compared_text(word: str, value: ColumnElement[Any], wanted: Condition) -> ColumnElement[bool]:
    if wanted.operator == "~":
        return value.icontains(wanted.value, autoescape=True)
    if wanted.operator not in ("=", "!="):
        raise UserError(
            f"--where: {word} is text; compare it with = != or ~, not {wanted.operator}"
        )
    if wanted.is_none:
        return value.is_(None) if wanted.operator == "=" else value.is_not(None)
    return _COMPARE[wanted.operator](value, wanted.value)


def _reference(word: str, value: ColumnElement[Any]) -> Key:
    """The id of a run, which may be written as its beginning, its end, or the run's name."""

    def test(wanted: Condition) -> ColumnElement[bool]:
        if wanted.is_none or wanted.operator not in ("=", "!="):
            return _compared_text(word, value, wanted)
        other, part = schema.run.alias("other").c, wanted.value.upper()
        near = other.id.startswith(part, autoescape=True) | other.id.endswith(part, autoescape=True)
        ids = select(other.id).where(near | (other.name == wanted.value))
        return value.in_(ids) if wanted.operator == "=" else value.not_in(ids)

    return Key(value, (value,), test)


def _words(word: str, column: Column[Any]) -> Key:
    """Several texts of a run: `=` and `~` ask for one that fits, `!=` for none that does."""
    mine = column.table.c.run_id == _run.id
    first = select(func.min(_by_letters(column))).where(mine).scalar_subquery()

    def test(wanted: Condition) -> ColumnElement[bool]:
        if wanted.is_none and wanted.operator in ("=", "!="):
            some = select(column).where(mine).exists()
            return ~some if wanted.operator == "=" else some
        refuses = wanted.operator == "!="
        asked = Condition(word, "=", wanted.value, quoted=True) if refuses else wanted
        fits = select(column).where(mine, _compared_text(word, column, asked)).exists()
        return ~fits if refuses else fits

    return Key(first, (first,), test)


def _number(
    word: str, value: ColumnElement[Any], read: Callable[[str], float | None] = number
) -> Key:
    def test(wanted: Condition) -> ColumnElement[bool]:
        if wanted.is_none and wanted.operator in ("=", "!="):
            return value.is_(None) if wanted.operator == "=" else value.is_not(None)
        given = None if wanted.quoted else read(wanted.value)
        if given is None or wanted.operator == "~":
            raise UserError(
                f"--where: {word} is a number; compare it with = != < <= > >= and a number, "
                f"not {wanted.operator} {wanted.value!r}"
            )
        return _COMPARE[wanted.operator](value, given)

    return Key(value, (value,), test)


def _time(word: str, value: ColumnElement[Any], now: int) -> Key:
    def test(wanted: Condition) -> ColumnElement[bool]:
        if wanted.is_none and wanted.operator in ("=", "!="):
            return value.is_(None) if wanted.operator == "=" else value.is_not(None)
        span = moment(wanted.value, now)
        if span is None or wanted.operator == "~":
            raise UserError(
                f"--where: {word} is a time; compare it with = != < <= > >= and a date such as "
                f"2026-11-01 or an age such as 7d, not {wanted.operator} {wanted.value!r}"
            )
        return {
            "=": and_(value >= span.start, value < span.end),
            "!=": or_(value < span.start, value >= span.end),
            "<": value < span.start,
            "<=": value < span.end,
            ">": value >= span.end,
            ">=": value >= span.start,
        }[wanted.operator]

    return Key(value, (value,), test, is_time=True)


def _param(name: str) -> Key:
    """A knob: a number where it is one, else text; nothing where the stage has no such knob."""
    table = schema.param.c
    mine = and_(table.run_id == _run.id, table.key == name)
    text = select(table.text).where(mine).scalar_subquery()
    amount = select(table.num).where(mine).scalar_subquery()

    def test(wanted: Condition) -> ColumnElement[bool]:
        wanted = wanted.as_recorded
        given = None if wanted.quoted else number(wanted.value)
        if wanted.is_none and wanted.operator in ("=", "!="):
            missing = or_(text.is_(None), text == "null")
            return missing if wanted.operator == "=" else ~missing
        if given is None:
            return _compared_text(f"the knob {name}", text, wanted)
        if wanted.operator in ("=", "!="):
            same = or_(func.coalesce(amount == given, False), text == wanted.value)
            return same if wanted.operator == "=" else ~same
        if wanted.operator == "~":
            return _compared_text(name, text, wanted)
        return _COMPARE[wanted.operator](amount, given)

    return Key(text, (amount, _by_letters(text)), test)


def _of_metric(name: str, which: str) -> ColumnElement[Any]:
    """One figure of a metric, of its newest definition where a run has two."""
    table, key = schema.series.c, schema.metric_key.c
    best = case(
        (key.direction == "lower", table.min),
        (key.direction == "higher", table.max),
        else_=table.last,
    )
    figure = best if which in ("", "best") else table[which]
    wanted = select(figure).join(schema.metric_key, key.id == table.key_id)
    wanted = wanted.where(table.run_id == _run.id, key.key == name)
    return wanted.order_by(key.version.desc()).limit(1).scalar_subquery()
