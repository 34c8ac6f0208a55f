"""Which row goes to train and which to eval, decided by group and by hash alone.

Every group has a draw in [0, 1) from a hash of the seed and its name; groups below a fraction are
eval. A row's side therefore depends on nothing but its group and that one fraction, in whatever
order the rows came. A previous split of the same name holds: its groups stay where they were.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codetune.corpus.intake import Records
from codetune.errors import UserError

# Draws of groups whose side is already settled; real draws lie in [0, 1).
ALWAYS_EVAL, NEVER_EVAL = -1.0, 2.0
Draws = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Wanted:
    """What the user asked for: a share of the groups, or a number of rows, and a least number."""

    eval_frac: float = 0.1
    eval_size: int | None = None
    min_eval: int = 1


@dataclass(frozen=True)
class Split:
    """Rows of each side in writing order, and rows dropped: copies, and train copies of eval."""

    fraction: float
    train: Records
    eval: Records
    duplicates: Records
    eval_wins: Records

    def dropped(self) -> Iterator[tuple[str, np.void]]:
        """(reason, record) of every row that another one stands for."""
        yield from (("duplicate", record) for record in self.duplicates)
        yield from (("eval_wins", record) for record in self.eval_wins)


def divide(
    records: Records,
    wanted: Wanted,
    train_groups: Collection[bytes] = (),
    eval_groups: Collection[bytes] = (),
) -> Split:
    """Splits deduplicated rows; `train_groups` and `eval_groups` are those of a previous split.

    Of rows with equal content the one with the lowest draw survives, so that a content with a
    copy in eval is kept there and nowhere else; one that a previous split kept in train stays
    there, unless a group settled as eval has it. Raises UserError when no fraction gives each side
    a group and eval no more rows than train.
    """
    draws = settled(records, train_groups, eval_groups)
    precedence = np.where(draws == NEVER_EVAL, ALWAYS_EVAL / 2, draws)
    ranked = np.lexsort((records["line_hash"], records["draw"], precedence, records["content"]))
    content = records["content"][ranked]
    first = np.ones(len(ranked), dtype=bool)
    first[1:] = content[1:] != content[:-1]
    survivors = ranked[first]
    fraction = choose_fraction(draws[survivors], records["group"][survivors], wanted)

    winner = survivors[np.cumsum(first) - 1]
    lost = ~first
    won_by_eval = lost & (draws[winner] < fraction) & (draws[ranked] >= fraction)
    in_eval = draws[survivors] < fraction
    return Split(
        fraction,
        train=_shuffled(records[survivors[~in_eval]]),
        eval=_shuffled(records[survivors[in_eval]]),
        duplicates=records[ranked[lost & ~won_by_eval]],
        eval_wins=records[ranked[won_by_eval]],
    )


def settled(
    records: Records, train_groups: Collection[bytes], eval_groups: Collection[bytes]
) -> Draws:
    """The rows' draws, with those of groups that a previous split placed pinned to their side."""
    draws = records["draw"].astype(np.float64)
    for groups, pinned in ((train_groups, NEVER_EVAL), (eval_groups, ALWAYS_EVAL)):
        if groups:
            known = np.array(sorted(groups), dtype="S16")
            draws[np.isin(records["group"], known)] = pinned
    return draws


def choose_fraction(draws: Draws, groups: npt.NDArray[np.bytes_], wanted: Wanted) -> float:
    """The fraction below which a group's draw makes it eval.

    `eval_frac` itself wherever it gives each side a group, eval at least `min_eval` rows and at
    most as many as train; else the nearest fraction that does. With `eval_size`, the smallest
    that gives so many rows.
    """
    ladder, rows = _ladder(draws, groups)
    total = int(rows[-1]) if len(rows) else 0
    share = int(np.searchsorted(ladder, wanted.eval_frac, side="left"))
    steps = share if wanted.eval_size is None else _steps_for(rows, wanted.eval_size)
    steps = max(steps, _steps_for(rows, wanted.min_eval), 1)
    lowest = int(np.searchsorted(ladder, 0.0, side="left"))  # settled as eval: cannot be fewer
    free = int(np.searchsorted(ladder, 1.0, side="left"))  # settled as train: cannot be more
    highest = min(free, int(np.searchsorted(rows, total // 2, side="right")), len(ladder) - 1)
    if highest < max(lowest, 1):
        raise UserError(_no_split(ladder, rows, lowest))
    steps = min(max(steps, lowest), highest)
    if steps == share and wanted.eval_size is None:
        return wanted.eval_frac
    return max(float(np.nextafter(ladder[steps - 1], 1.0)), 0.0)


def _ladder(draws: Draws, groups: npt.NDArray[np.bytes_]) -> tuple[Draws, npt.NDArray[np.int64]]:
    """Draws of the groups, ascending, and how many rows lie at or below each."""
    _, where, sizes = np.unique(groups, return_index=True, return_counts=True)
    order = np.argsort(draws[where], kind="stable")
    return draws[where][order], np.cumsum(sizes[order])


def _steps_for(rows: npt.NDArray[np.int64], wanted: int) -> int:
    """How many groups it takes to reach `wanted` rows."""
    return min(int(np.searchsorted(rows, wanted, side="left")) + 1, len(rows))


def _no_split(ladder: Draws, rows: npt.NDArray[np.int64], settled_eval: int) -> str:
    total = int(rows[-1]) if len(rows) else 0
    if not total:
        return "the inputs hold no valid row; run the stages that make rows first"
    if len(ladder) < 2:
        return (
            f"{total} rows in one group: a split needs two groups at least; "
            "add rows of another session or repository"
        )
    if settled_eval:
        held = int(rows[settled_eval - 1])
        return (
            f"the previous split keeps {held} of {total} rows in eval; add more training rows, "
            "or pass --force to split anew"
        )
    if ladder[0] > 1.0:
        return (
            "the previous split keeps every group in train; add rows of other groups, or pass "
            "--force to split anew"
        )
    return (
        f"with this seed the first group for eval holds {int(rows[0])} of {total} rows, more than "
        "train would; pass another --seed, or add rows of other groups"
    )


def _shuffled(records: Records) -> Records:
    """In the order of the rows' hashes: as good as shuffled, and always the same."""
    return records[np.argsort(records["line_hash"], kind="stable")]
