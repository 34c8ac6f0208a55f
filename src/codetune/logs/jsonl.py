"""Reading JSON lines that other programs wrote, or were killed while writing.

Nothing here raises for what a file holds: each value and each fault is one record of the
account, and the reader goes on with the next.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

# Longer lines are counted and left out: one record must not fill the memory.
LONGEST_LINE = 64 << 20
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n\x00"


@dataclass(frozen=True, slots=True)
class Record:
    """One value of a line, or the reason why there is none."""

    line: int
    value: dict[str, Any] | None
    fault: str = ""


def read_records(path: Path, longest_line: int = LONGEST_LINE) -> Iterator[Record]:
    """The objects of a JSONL file and its faults, in order.

    Faults: blank, invalid_json, bad_utf8, too_deep, not_an_object, line_too_long, and incomplete
    for a last line that a writer did not finish. Two objects on one line are two records.
    """
    with path.open("rb") as source:
        yield from line_records(source, longest_line)


class Lines(Protocol):
    """What lines are read from."""

    def readline(self, size: int, /) -> bytes:
        """Up to `size` bytes, ending after the first newline."""


def line_records(source: Lines, longest_line: int = LONGEST_LINE) -> Iterator[Record]:
    """As `read_records`, of an open stream."""
    for number, line in enumerate(_lines(source, longest_line), 1):
        if line is None:
            yield Record(number, None, "line_too_long")
        else:
            yield from parse_line(line, number)


def parse_line(line: bytes, number: int = 1) -> Iterator[Record]:
    """The records of one line, which still carries its newline when it was finished."""
    body = line.strip(_BLANKS).removeprefix(_BOM)
    if not body:
        yield Record(number, None, "blank")
        return
    try:
        yield _as_record(number, orjson.loads(body))
    except orjson.JSONDecodeError:
        finished = line.endswith(b"\n")
        for record in _slowly(body, number):
            cut_off = record.fault == "invalid_json" and not finished
            yield Record(number, None, "incomplete") if cut_off else record


def _slowly(body: bytes, number: int) -> Iterator[Record]:
    """What the fast parser refused: several values in a row, lone surrogates, real faults."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        yield Record(number, None, "bad_utf8")
        return
    decoder = strict_decoder()
    place = 0
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
            record = _as_record(number, tidy(value))
        except RecursionError:
            yield Record(number, None, "too_deep")
            return
        except ValueError:
            yield Record(number, None, "invalid_json")
            return
        yield record
        while place < len(text) and text[place] in " \t\r\n\x00":
            place += 1


def strict_decoder() -> json.JSONDecoder:
    """A decoder that takes what JSON allows and no more: no NaN, no number without end.

    As in the fast parser, integers of more than 64 bits become floats, which can be written.
    """
    return json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_integer)


def _as_record(number: int, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(number, value)
    return Record(number, None, "not_an_object")


def _lines(source: Lines, longest: int) -> Iterator[bytes | None]:
    """Lines with their newline; None stands for one that is longer than `longest`."""
    while line := source.readline(longest):
        if line.endswith(b"\n") or len(line) < longest:
            yield line
            continue
        rest = source.readline(longest)
        while rest and not rest.endswith(b"\n"):
            rest = source.readline(longest)
        yield None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _integer(digits: str) -> int | float:
    value = int(digits)
    return value if -(1 << 63) <= value < 1 << 64 else _finite(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large")
    return value


def tidy(value: Any) -> Any:
    """`value` without lone surrogates, which can be read but not written as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [tidy(item) for item in value]
    if isinstance(value, dict):
        return {tidy(key): tidy(item) for key, item in value.items()}
    return value
