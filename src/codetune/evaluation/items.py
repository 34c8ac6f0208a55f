"""The held-out rows as they are measured: chosen, tokenised, and scored.

Both sides of a comparison see the very same `Item`s; what one model made of an item is a `Scored`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from codetune import artefact, generic, sample, tokens
from codetune.errors import UserError

NOT_IN_SUBSET = "not_in_subset"
_TAIL = 2_000


@dataclass(frozen=True)
class Item:
    """One held-out row and its tokens (labels are -100 where no loss is)."""

    row: Mapping[str, Any]
    tokens: tokens.Tokens

    @property
    def id(self) -> str:
        """The row's id."""
        return str(self.row["id"])

    @property
    def task(self) -> str:
        """chat, fim or text."""
        return str(self.row["task"])

    @property
    def group(self) -> str:
        """What the row is not independent of: its session or file; the row itself by default."""
        return str(self.row["meta"].get("group") or self.id)

    @property
    def source(self) -> str:
        """Where the row came from."""
        return str(self.row["meta"].get("source") or "unknown")

    @property
    def n_trained(self) -> int:
        """Number of tokens that carry loss."""
        return self.tokens.trained


@dataclass(frozen=True)
class Scored:
    """What one model made of one item; `answer` and `expected` only where it generated."""

    id: str
    task: str
    group: str
    source: str
    n_trained: int
    scores: Mapping[str, float]
    answer: str | None = None
    expected: str | None = None
    prompt_tail: str | None = None
    remarks: Sequence[str] = field(default_factory=tuple)

    def as_line(self) -> bytes:
        """One line of JSON."""
        return orjson.dumps(asdict(self))


def load(
    path: Path, tok: tokens.Tokenizer, max_length: int, max_items: int | None, seed: int
) -> tuple[list[Item], artefact.Counts]:
    """The items of an eval file in file order, and the account of its rows.

    Of more than `max_items` usable rows a subset is drawn that depends on `seed` and the rows'
    ids alone. Raises UserError for a missing file and for one without a usable row.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; make one with ./scripts.sh data")
    counts = artefact.Counts()
    rows = _valid_rows(path, counts)
    order = sorted(range(len(rows)), key=lambda i: _draw(rows[i], "evaluation", seed))
    chosen: dict[int, Item] = {}
    for place in order:
        if max_items is not None and len(chosen) >= max_items:
            counts.drop(NOT_IN_SUBSET)
            continue
        try:
            chosen[place] = Item(rows[place], tokens.tokenise(rows[place], tok, max_length))
        except tokens.RowDropped as dropped:
            counts.drop(dropped.reason)
        else:
            counts.keep()
    if not chosen:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(counts.dropped.items()))
        raise UserError(f"{path}: no row can be measured ({reasons or 'the file is empty'})")
    return [chosen[place] for place in sorted(chosen)], counts


def to_generate(items: Sequence[Item], per_task: Mapping[str, int], seed: int) -> list[int]:
    """Positions of the items to generate for: a seeded draw of at most `per_task` of each task."""
    picked: list[int] = []
    for task, wanted in per_task.items():
        places = [i for i, item in enumerate(items) if item.task == task]
        places.sort(key=lambda i: _draw(items[i].row, "generation", seed))
        picked += places[:wanted]
    return sorted(picked)


def scored(item: Item, scores: Mapping[str, float], **shown: Any) -> Scored:
    """The record of `item` under one model."""
    facts = (item.id, item.task, item.group, item.source, item.n_trained)
    return Scored(*facts, scores=dict(scores), **shown)


def prompt_tail(row: Mapping[str, Any], limit: int = _TAIL) -> str:
    """The end of what a model was asked, for a reader: text before the gap, or the last message."""
    if row["task"] == "fim":
        return _tail(str(row["prefix"]), limit)
    if row["task"] == "chat":
        asked = _before_last_answer(row["messages"])
        return _tail(str(asked[-1]["content"]) if asked else "", limit)
    return _tail(str(row["text"]), limit)


def _before_last_answer(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    trained = [i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("train")]
    return messages[: trained[-1]] if trained else messages


def _tail(text: str, limit: int) -> str:
    return text if len(text) <= limit else "…" + text[-limit:]


def _valid_rows(path: Path, counts: artefact.Counts) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for _, line in artefact.read_rows(path):
        try:
            rows.append(generic.read_row(line))
        except sample.BadRow as bad:
            counts.drop(bad.reason)
    return rows


def _draw(row: Mapping[str, Any], purpose: str, seed: int) -> tuple[float, str]:
    return sample.draw(str(row["id"]), f"{purpose}-{seed}"), str(row["id"])


def read_scored(lines: Iterable[bytes]) -> list[Scored]:
    """The records of a results file."""
    return [Scored(**orjson.loads(line)) for line in lines]
