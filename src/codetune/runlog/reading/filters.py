"""The small language of `runs list --where`, one condition a text: KEY OPERATOR VALUE.

    condition = key operator value
    operator  = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~"     (~ contains, in any case)
    key       = quoted | characters other than operators
    value     = quoted | all the rest
    quoted    = "…" or '…', where a backslash keeps the next character as it is

What a value means depends on its key; a quoted one is always text. This module knows neither keys
nor SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from codetune.errors import UserError

_QUOTED = r"""(?P<{0}_quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_CONDITION = re.compile(
    rf"\s*(?:{_QUOTED.format('key')}|(?P<key>[^=!<>~\"'\s][^=!<>~]*?))\s*"
    r"(?P<operator>==|!=|<=|>=|=|<|>|~)\s*"
    rf"(?:{_QUOTED.format('value')}|(?P<value>[^\"'\s].*?))\s*",
    re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_AGE = re.compile(r"(\d+(?:\.\d*)?)\s?([smhdw])", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DATE_FORMATS = {
    "%Y-%m-%d": timedelta(days=1),
    "%Y-%m-%d %H:%M": timedelta(minutes=1),
    "%Y-%m-%dT%H:%M": timedelta(minutes=1),
    "%Y-%m-%d %H:%M:%S": timedelta(seconds=1),
    "%Y-%m-%dT%H:%M:%S": timedelta(seconds=1),
}


@dataclass(frozen=True)
class Condition:
    """One comparison; `quoted` says that the value is text, whatever it looks like."""

    key: str
    operator: str
    value: str
    quoted: bool = False

    @property
    def is_none(self) -> bool:
        """Whether it asks for what is missing."""
        return self.value.lower() == "none" and not self.quoted

    @property
    def as_recorded(self) -> Condition:
        """The same, with a truth value as knobs spell it: people write `False`, too."""
        truth = self.value.lower() in ("true", "false") and not self.quoted
        return replace(self, value=self.value.lower()) if truth else self


@dataclass(frozen=True)
class Span:
    """A stretch of time, ms UTC: from `start` up to, but not including, `end`."""

    start: int
    end: int


def parsed(text: str) -> Condition:
    """The condition that `text` spells; UserError when it is none."""
    # Bytes of a command line that are no UTF-8 fit no recorded text, and no database takes them.
    text = text.encode("utf-8", "replace").decode("utf-8")
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise UserError(
            f"--where: {text!r} is no condition; write KEY OPERATOR VALUE, such as "
            "'eval_loss<1.2', with one of = != < <= > >= ~"
        )
    key, value = found["key_quoted"], found["value_quoted"]
    return Condition(
        key=_unquoted(key) if key else found["key"],
        operator="=" if found["operator"] == "==" else found["operator"],
        value=_unquoted(value) if value else found["value"],
        quoted=value is not None,
    )


def number(text: str) -> float | None:
    """The number that `text` spells; None when it is none, or none that is finite."""
    value = float(text) if _NUMBER.fullmatch(text) else None
    return None if value in (float("inf"), float("-inf")) else value


def seconds(text: str) -> float | None:
    """A length of time in seconds: a number of them, or `90s`, `5m`, `2h`, `7d`, `2w`."""
    age = _AGE.fullmatch(text)
    return float(age[1]) * _UNIT_SECONDS[age[2]] if age else number(text)


def moment(text: str, now: int) -> Span | None:
    """When `text` was: a date or time in the reader's own time zone, or an age before `now`.

    A date is its whole day, an age the millisecond so long ago (ms UTC). None when it is neither.
    """
    if _AGE.fullmatch(text):
        start = int(max(0.0, now - (seconds(text) or 0.0) * 1000))
        return Span(start, start + 1)
    for layout, length in _DATE_FORMATS.items():
        try:
            start_of = datetime.strptime(text, layout)
            return Span(_ms(start_of), _ms(start_of + length))
        except (ValueError, OverflowError):
            continue
    return None


def _ms(local: datetime) -> int:
    return int(local.timestamp() * 1000)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
