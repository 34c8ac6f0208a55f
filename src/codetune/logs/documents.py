"""The records of a log file, whatever holds them: lines, one array, one object, a zip archive.

An export is one array of conversations, often hundreds of megabytes on a single line: its elements
are read one after the other, so that memory follows the largest conversation and not the file.
Members of an archive are read in place; nothing is ever extracted.
"""

from __future__ import annotations

import codecs
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from codetune.logs.discover import LogFile
from codetune.logs.jsonl import LONGEST_LINE, Record, line_records, parse_line, strict_decoder, tidy
from codetune.logs.memory import Memory

# What a file begins with tells lines from a document: JSON lines never break inside an object.
_HEAD_BYTES = 1 << 16
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{")
_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{[ \t]*\r?\n\s*[\"}]")
_CHUNK = 1 << 20
# Longer than any escape, literal or number; strings are told apart by their message.
_LONGEST_TOKEN = 400
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


def values_of(file: LogFile, memory: Memory) -> Iterator[dict[str, Any]]:
    """The objects of a file; each fault is counted in `memory`."""
    for record in records_of(file):
        if record.value is None:
            memory.fault(file.name, record.line, record.fault)
        else:
            yield record.value


def records_of(file: LogFile, longest: int = LONGEST_LINE) -> Iterator[Record]:
    """The objects of a file and its faults, in order; `longest` bounds each line and element.

    Faults are those of `read_records`, and damaged_archive for a zip member that breaks off.
    """
    number = 0
    try:
        with _opened(file) as source:
            head = source.read(_HEAD_BYTES)
            for record in _records(_Replayed(head, source), head, longest):
                number = record.line
                yield record
    except _DAMAGED:
        yield Record(number + 1, None, "damaged_archive")


@contextmanager
def _opened(file: LogFile) -> Iterator[BinaryIO]:
    if not file.member:
        with file.path.open("rb") as source:
            yield source
        return
    with zipfile.ZipFile(file.path) as archive, archive.open(file.member) as member:
        yield cast(BinaryIO, member)


def _records(source: _Replayed, head: bytes, longest: int) -> Iterator[Record]:
    if _ARRAY.match(head):
        yield from _Elements(source, longest).records()
    elif _OBJECT.match(head):
        document = source.read(longest + 1)
        if len(document) > longest:
            yield Record(1, None, "document_too_long")
        else:
            # As an unfinished line: what breaks off at its end is incomplete, not invalid.
            yield from parse_line(document.rstrip(b"\n"))
    else:
        yield from line_records(source, longest)


class _Replayed:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, source: BinaryIO) -> None:
        self._head, self._source = head, source

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        taken, self._head = self._head[:size], self._head[size:]
        return taken + self._source.read(size - len(taken)) if len(taken) < size else taken

    def readline(self, size: int) -> bytes:
        """Up to `size` bytes, ending after the first newline."""
        if not self._head:
            return self._source.readline(size)
        stop = self._head.find(b"\n", 0, size) + 1
        taken, self._head = self._split(stop or size)
        if stop or len(taken) == size:
            return taken
        return taken + self._source.readline(size - len(taken))

    def _split(self, place: int) -> tuple[bytes, bytes]:
        return self._head[:place], self._head[place:]


class _Elements:
    """The elements of one array, decoded from a buffer that holds little more than one of them."""

    def __init__(self, source: _Replayed, longest: int) -> None:
        self._source, self._longest = source, longest
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._decoder = strict_decoder()
        self._text = ""
        self._place = 0
        self._ended = False

    def records(self) -> Iterator[Record]:
        """One record an element; a fault ends the array, since nothing after it can be trusted."""
        number = 0
        try:
            self._skip("[")
            while not self._skip("]"):
                number += 1
                value = self._element()
                if isinstance(value, dict):
                    yield Record(number, tidy(value))
                else:
                    yield Record(number, None, "not_an_object")
                if not self._skip(",") and self._next() != "]":
                    raise _FaultError("invalid_json" if self._next() else "incomplete")
            if self._next():
                yield Record(number + 1, None, "after_the_array")
        except UnicodeDecodeError:
            yield Record(number + 1, None, "bad_utf8")
        except _FaultError as fault:
            yield Record(max(number, 1), None, str(fault))

    def _element(self) -> Any:
        """The value at the place. A value is whole when something follows it in the buffer."""
        self._next()
        while True:
            try:
                value, stop = self._decoder.raw_decode(self._text, self._place)
                if stop < len(self._text) or self._ended:
                    self._place = stop
                    return value
            except RecursionError:
                raise _FaultError("too_deep") from None
            except json.JSONDecodeError as problem:
                if self._ended:
                    raise _FaultError("incomplete") from None
                if not self._may_go_on(problem):
                    raise _FaultError("invalid_json") from None
            except ValueError:
                raise _FaultError("invalid_json") from None
            if len(self._text) - self._place > self._longest:
                raise _FaultError("document_too_long")
            self._more(max(_CHUNK, len(self._text) - self._place))

    def _may_go_on(self, problem: json.JSONDecodeError) -> bool:
        """False when the fault lies so far before the end of the buffer that more mends nothing."""
        cut_off = problem.pos + _LONGEST_TOKEN > len(self._text)
        return cut_off or problem.msg.startswith("Unterminated string")

    def _skip(self, mark: str) -> bool:
        if self._next() != mark:
            return False
        self._place += 1
        return True

    def _next(self) -> str:
        """The next character that is no blank, "" at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in " \t\r\n":
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if self._ended:
                return ""
            self._more(_CHUNK)

    def _more(self, size: int) -> None:
        data = self._source.read(size)
        self._ended = not data
        self._text = self._text[self._place :] + self._utf8.decode(data, final=self._ended)
        self._place = 0


class _FaultError(Exception):
    """Why an array cannot be read on."""
