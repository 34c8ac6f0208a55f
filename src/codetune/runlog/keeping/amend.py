"""Words and notes on a run, whether it is at work in another process or ended long ago."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from codetune import artefact, console
from codetune.errors import UserError
from codetune.runlog import events
from codetune.runlog.process import now_ms

LONGEST_NOTE = 4096  # bytes
_LONGEST_TAG = 100  # characters


def tag(root: Path, run_id: str, words: Iterable[str], *, remove: bool = False) -> list[str]:
    """Adds words to a run, or takes them away; returns them as they are kept.

    UserError when a word is empty or too long, or the run has no journal here.
    """
    kept = list(dict.fromkeys(_tag(word) for word in words))
    for word in kept:
        _append(root, run_id, "untag" if remove else "tag", word)
    return kept


def note(root: Path, run_id: str, text: str) -> str:
    """Adds a note to a run; returns it as it is kept. UserError when it is empty or too long."""
    kept = console.clean(text).strip()
    size = len(kept.encode("utf-8", "replace"))
    if not kept:
        raise UserError("the note is empty; write some text, or - to read it from standard input")
    if size > LONGEST_NOTE:
        raise UserError(
            f"the note has {size:,} bytes and may have {LONGEST_NOTE:,}; keep the long form in a "
            "file and note its name"
        )
    _append(root, run_id, "note", kept)
    return kept


def read_note(read: Callable[[int], str]) -> str:
    """The text of a note from a stream, no more of it than decides that it is too long."""
    return read(LONGEST_NOTE + 1)


def journal_of(root: Path, run_id: str) -> Path:
    """The journal of a run of this checkout; UserError for a run that lives elsewhere."""
    journal = events.journal_path(root, run_id)
    if not journal.is_file():
        raise UserError(
            f"run {run_id}: its journal is not in this checkout ({events.RUNS}); go to the one it "
            "was made in"
        )
    return journal


def _append(root: Path, run_id: str, kind: str, text: str) -> None:
    record = {"ts": now_ms(), "kind": kind, "text": text}
    artefact.append_record(journal_of(root, run_id), record)


def _tag(word: str) -> str:
    kept = " ".join(console.clean(word).split())
    if not kept:
        raise UserError("a tag is empty; write a word, such as best")
    if len(kept) > _LONGEST_TAG:
        raise UserError(
            f"a tag has {len(kept):,} characters and may have {_LONGEST_TAG}; use a note"
        )
    return kept
