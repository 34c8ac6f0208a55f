"""How long rows are in tokens, and what a `max_length` does to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from codetune.tokens import packing
from codetune.tokens.errors import RowDropped
from codetune.tokens.rows import tokenise

if TYPE_CHECKING:
    from codetune.tokens.tokenizer import Tokenizer

QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: `whole` tokens uncut, `used` and `trained` of them in training (0 if dropped)."""

    task: str
    source: str
    whole: int
    used: int
    trained: int
    dropped: str | None = None

    @property
    def cut(self) -> bool:
        """Whether training sees only a part of the row."""
        return 0 < self.used < self.whole


@dataclass(frozen=True)
class LengthSummary:
    """A set of rows; `quantiles` maps a share of rows to the uncut length that covers it."""

    rows: int
    tokens: int
    trained: int
    cut: int
    dropped: int
    quantiles: dict[float, int]

    @property
    def trained_share(self) -> float:
        """The part of the tokens used in training that carries loss, 0 to 1."""
        return self.trained / self.tokens if self.tokens else 0.0


def measure(row: Mapping[str, Any], tok: Tokenizer, max_length: int) -> Measured:
    """The lengths of a row, and the reason it is dropped for, if it is.

    Raises `UserError` when the model cannot take rows of this task.
    """
    task, source = str(row.get("task")), str((row.get("meta") or {}).get("source", "-"))
    try:
        whole = used = tokenise(row, tok)
    except RowDropped as problem:
        return Measured(task, source, 0, 0, 0, problem.reason)
    length = len(whole.input_ids)
    if length > max_length:
        try:
            used = tokenise(row, tok, max_length)
        except RowDropped as problem:
            return Measured(task, source, length, 0, 0, problem.reason)
    return Measured(task, source, length, len(used.input_ids), used.trained)


def summarise(rows: Sequence[Measured]) -> LengthSummary:
    """The summary of these rows; rows that could not be tokenised have no length to count."""
    return LengthSummary(
        rows=len(rows),
        tokens=sum(row.used for row in rows),
        trained=sum(row.trained for row in rows),
        cut=sum(row.cut for row in rows),
        dropped=sum(row.dropped is not None for row in rows),
        quantiles=quantiles(row.whole for row in rows if row.whole),
    )


def by_group(rows: Sequence[Measured]) -> list[dict[str, Any]]:
    """The summary of each task and source as JSON values, sorted by both."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        groups.setdefault((row.task, row.source), []).append(row)
    made = []
    for (task, source), members in sorted(groups.items()):
        summary = summarise(members)
        facts = {**asdict(summary), "trained_share": summary.trained_share}
        facts["quantiles"] = {f"{share:g}": n for share, n in summary.quantiles.items()}
        made.append({"task": task, "source": source, **facts})
    return made


def packed(rows: Sequence[Measured], max_length: int) -> dict[str, float]:
    """What training will see: rows, tokens, their trained share, sequences and how full."""
    total = summarise(rows)
    used = [row.used for row in rows if row.used]
    bins = packing.plan(used, max_length)
    return {
        "rows": len(used),
        "tokens": total.tokens,
        "trained_share": total.trained_share,
        "sequences": len(bins),
        "fill": packing.fill(used, bins, max_length),
    }


def quantiles(lengths: Iterable[int], at: Sequence[float] = QUANTILES) -> dict[float, int]:
    """For each share in `at`, the least length that this share of rows does not exceed.

    Nearest rank: always the length of a real row. Empty for no rows.
    """
    ordered = sorted(lengths)
    if not ordered:
        return {}
    return {share: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in at}
