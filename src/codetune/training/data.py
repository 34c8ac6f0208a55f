"""Rows to tables of token ids: made once per content, memory-mapped, packed by plan."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import artefact, console, generic, sample, tokens
from codetune.artefact import Counts, Input, Origin
from codetune.corpus.intake import group_of
from codetune.errors import RefusedError, UserError
from codetune.tokens import RowDropped
from codetune.tokens.packing import plan

if TYPE_CHECKING:
    from datasets import Dataset

TABLE_VERSION = 1


@dataclass(frozen=True)
class TokenTable:
    """Token ids of a row file: columns `input_ids` and `labels`, one row per kept sample."""

    dataset: Dataset
    counts: Counts
    n_tokens: int
    n_trained: int


def token_table(file: Path, tok: tokens.Tokenizer, max_length: int, cache: Path) -> TokenTable:
    """The table of `file`, from the cache below `cache` or made now.

    UserError when no row is left.
    """
    source = artefact.input_file(file)
    settings = sample.digest("tokens", tok.fingerprint, str(max_length), n=64)
    origin = Origin("tokens", TABLE_VERSION, settings, (Input("rows", source.sha256),))
    folder = cache / sample.digest(settings, source.sha256, n=16)
    if not artefact.is_current(folder, origin):
        _make_table(file, tok, max_length, folder, origin)
    return _open_table(folder)


def refuse_shared_groups(train: Path, held_out: Path) -> None:
    """RefusedError when a session or file stands on both sides: its rows would be measured
    after they were trained on.
    """
    shared = sorted(_groups(train) & _groups(held_out))
    if shared:
        raise RefusedError(
            f"{train} and {held_out} share {len(shared):,} groups, such as {shared[0]}; "
            "split them with ./scripts.sh data"
        )


def _groups(file: Path) -> set[str]:
    found = set()
    for _, line in artefact.read_rows(file):
        # Rows that cannot be read are dropped, and counted, when their tokens are made.
        with contextlib.suppress(sample.BadRow):
            found.add(group_of(generic.read_row(line)))
    return found


def packed(dataset: Dataset, capacity: int) -> Dataset:
    """Rows joined into sequences of at most `capacity` tokens; `seq_lengths` marks the borders."""
    from datasets import Dataset as Table

    lengths = [len(ids) for ids in dataset["input_ids"]]

    def joined() -> Iterator[dict[str, list[int]]]:
        for members in plan(lengths, capacity):
            rows = [dataset[int(i)] for i in members]
            yield {
                "input_ids": [t for row in rows for t in row["input_ids"]],
                "labels": [t for row in rows for t in row["labels"]],
                "seq_lengths": [len(row["input_ids"]) for row in rows],
            }

    return Table.from_list(list(joined()))


def _make_table(
    file: Path, tok: tokens.Tokenizer, max_length: int, folder: Path, origin: Origin
) -> None:
    from datasets import Dataset as Table
    from datasets import disable_progress_bars

    counts = Counts()
    rows = list(_tokenised(file, tok, max_length, counts))
    if not rows:
        why = ", ".join(f"{n:,} {reason}" for reason, n in sorted(counts.dropped.items()))
        raise UserError(f"{file}: no row can be trained on ({why or 'it is empty'})")
    trained = sum(1 for row in rows for label in row["labels"] if label != -100)
    total = sum(len(row["input_ids"]) for row in rows)
    facts = {"counts": counts.as_dict(), "n_tokens": total, "n_trained": trained}
    disable_progress_bars()
    with artefact.staged_directory(folder, origin, **facts) as staging:
        Table.from_list(rows).save_to_disk(str(staging))


def _tokenised(
    file: Path, tok: tokens.Tokenizer, max_length: int, counts: Counts
) -> Iterator[dict[str, list[int]]]:
    with console.progress(f"tokens of {file.name}") as bar:
        for number, line in artefact.read_rows(file):
            try:
                made = tokens.tokenise(generic.read_row(line), tok, max_length)
            except RowDropped as dropped:
                counts.drop(dropped.reason)
                continue
            except sample.BadRow as bad:
                raise UserError(f"{file}, line {number}: {bad.reason}; run data again") from None
            counts.keep()
            bar.advance()
            # The first token is never predicted; its label would be counted and not trained.
            yield {"input_ids": made.input_ids, "labels": [-100, *made.labels[1:]]}


def _open_table(folder: Path) -> TokenTable:
    from datasets import load_from_disk

    facts: dict[str, Any] = artefact.read_manifest(folder)
    counts = Counts.from_dict(facts["counts"])
    dataset: Any = load_from_disk(str(folder))
    return TokenTable(dataset, counts, facts["n_tokens"], facts["n_trained"])
