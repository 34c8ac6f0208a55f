"""The readers, and which of them a file is for: told by its content, never by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from codetune.logs import chat_rows, chatgpt, claude_ai, claude_code, codex, gemini
from codetune.logs.discover import LogFile
from codetune.logs.documents import records_of
from codetune.logs.memory import Memory
from codetune.logs.session import Session

_HEAD = 100


@dataclass(frozen=True)
class Source:
    """One kind of log: how to know it, and how to read it.

    Readers of files that hold many conversations give them one after the other.
    """

    name: str
    detect: Callable[[Sequence[Mapping[str, Any]]], float]
    read: Callable[[LogFile, Memory], Iterable[Session]]


_READERS = (claude_code, codex, claude_ai, chatgpt, gemini, chat_rows)
SOURCES = tuple(Source(reader.NAME, reader.detect, reader.read) for reader in _READERS)


def source_of(file: LogFile) -> Source | None:
    """The source whose reader is surest of the first records of `file`; None when none knows it."""
    head = [r.value for r in islice(records_of(file), _HEAD) if r.value is not None]
    score, _, source = max((s.detect(head), s.name, s) for s in SOURCES)
    return source if score > 0 else None
