"""The split: no overlap, nothing moves, and a usable eval side or a clear error."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codetune.corpus.intake import RECORD, Records
from codetune.corpus.split import Wanted, divide
from codetune.errors import UserError

# A corpus: (group, content, copy) triples; small ranges make collisions likely. The copy number
# tells rows of equal group and content apart, as an id would.
Corpus = list[tuple[int, int, int]]
CORPORA = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 25), st.integers(0, 2)), min_size=2, max_size=80
)
WANTED = st.builds(
    Wanted,
    eval_frac=st.floats(0.01, 0.9),
    eval_size=st.none() | st.integers(1, 40),
    min_eval=st.integers(1, 30),
)


def hashed(kind: str, value: object) -> bytes:
    return random.Random(f"{kind}:{value}").randbytes(16)


def draw_of(group: int, seed: int = 0) -> float:
    return random.Random(f"draw:{seed}:{group}").random()


def records(corpus: Corpus, seed: int = 0) -> Records:
    made = np.zeros(len(corpus), dtype=RECORD)
    for i, (group, content, copy) in enumerate(corpus):
        made[i]["group"] = hashed("group", group)
        made[i]["content"] = hashed("content", content)
        made[i]["line_hash"] = hashed("line", (group, content, copy))
        made[i]["draw"] = draw_of(group, seed)
        made[i]["line"] = i
    return made


def column(rows: Records, name: str) -> set[Any]:
    return set(rows[name].tolist())


def split_or_skip(rows: Records, wanted: Wanted, *before: Any) -> Any:
    try:
        return divide(rows, wanted, *before)
    except UserError:
        assume(False)


@given(CORPORA, WANTED)
def test_no_group_and_no_content_on_both_sides(corpus: Corpus, wanted: Wanted) -> None:
    made = split_or_skip(records(corpus), wanted)
    assert not column(made.train, "group") & column(made.eval, "group")
    assert not column(made.train, "content") & column(made.eval, "content")
    assert 1 <= len(made.eval) <= len(made.train)


@given(CORPORA, WANTED)
def test_every_row_is_accounted_for_and_every_content_survives_once(
    corpus: Corpus, wanted: Wanted
) -> None:
    rows = records(corpus)
    made = split_or_skip(rows, wanted)
    parts = (made.train, made.eval, made.duplicates, made.eval_wins)
    assert sorted(int(r["line"]) for part in parts for r in part) == list(range(len(corpus)))
    kept = [*made.train["content"].tolist(), *made.eval["content"].tolist()]
    assert sorted(kept) == sorted(column(rows, "content"))


@given(CORPORA, WANTED, st.randoms(use_true_random=False))
def test_input_order_does_not_matter(corpus: Corpus, wanted: Wanted, rng: random.Random) -> None:
    made = split_or_skip(records(corpus), wanted)
    again = divide(records(rng.sample(corpus, len(corpus))), wanted)
    assert made.fraction == again.fraction
    for side in ("train", "eval"):
        before, after = getattr(made, side), getattr(again, side)
        assert before["line_hash"].tolist() == after["line_hash"].tolist()


@given(CORPORA, WANTED)
def test_eval_wins(corpus: Corpus, wanted: Wanted) -> None:
    """A content with a copy in an eval group is in eval; train copies are told apart."""
    rows = records(corpus)
    made = split_or_skip(rows, wanted)
    below = rows[rows["draw"] < made.fraction]
    assert column(made.eval, "content") == column(below, "content")
    assert all(float(row["draw"]) >= made.fraction for row in made.eval_wins)
    assert column(made.eval_wins, "content") <= column(made.eval, "content")


@given(CORPORA, CORPORA, WANTED, st.integers(1, 30))
def test_adding_rows_or_changing_min_eval_never_moves_a_group(
    corpus: Corpus, more: Corpus, wanted: Wanted, other_min: int
) -> None:
    made = split_or_skip(records(corpus), wanted)
    before = column(made.train, "group"), column(made.eval, "group")
    later = Wanted(wanted.eval_frac, wanted.eval_size, other_min)
    grown = split_or_skip(records(corpus + more), later, *before)
    assert not before[0] & column(grown.eval, "group")
    assert not before[1] & column(grown.train, "group")
    assert column(made.eval, "content") <= column(grown.eval, "content")
    settled_eval = records(corpus + more)
    settled_eval = settled_eval[np.isin(settled_eval["group"], sorted(before[1]))]
    moved = column(made.train, "content") & column(grown.eval, "content")
    assert moved <= column(settled_eval, "content")  # only where eval itself brings a copy
    assert not column(grown.train, "content") & column(grown.eval, "content")
    assert len(grown.eval) <= len(grown.train)


@given(CORPORA, st.floats(0.05, 0.5))
def test_a_side_follows_from_the_draw_alone(corpus: Corpus, share: float) -> None:
    made = split_or_skip(records(corpus), Wanted(share))
    assert all(float(row["draw"]) < made.fraction for row in made.eval)
    assert all(float(row["draw"]) >= made.fraction for row in made.train)


def test_without_need_the_fraction_is_the_one_asked_for() -> None:
    corpus = [(group, group * 10 + row, 0) for group in range(400) for row in range(3)]
    made = divide(records(corpus), Wanted(0.15))
    assert made.fraction == 0.15
    assert 0.10 < len(column(made.eval, "group")) / 400 < 0.20


def test_eval_size_is_met_with_the_fewest_groups() -> None:
    corpus = [(group, group * 10 + row, 0) for group in range(100) for row in range(3)]
    made = divide(records(corpus), Wanted(eval_size=50))
    assert len(made.eval) == 51  # 17 groups of 3


def test_min_eval_raises_the_share_but_eval_never_exceeds_train() -> None:
    corpus = [(group, group * 10 + row, 0) for group in range(60) for row in range(3)]
    assert len(divide(records(corpus), Wanted(0.01, min_eval=30)).eval) == 30
    assert len(divide(records(corpus), Wanted(0.01, min_eval=1000)).eval) == 90


def test_another_seed_is_another_split() -> None:
    corpus = [(group, group, 0) for group in range(200)]
    one, two = (divide(records(corpus, seed), Wanted(0.3)) for seed in (1, 2))
    assert column(one.eval, "group") != column(two.eval, "group")


@pytest.mark.parametrize(
    ("corpus", "said"),
    [
        ([], "no valid row"),
        ([(1, content, 0) for content in range(5)], "two groups at least"),
    ],
)
def test_what_cannot_be_split_says_what_to_do(corpus: Corpus, said: str) -> None:
    with pytest.raises(UserError, match=said):
        divide(records(corpus), Wanted())


def test_one_giant_first_group_is_refused() -> None:
    first, second = sorted((1, 2), key=draw_of)
    corpus = [*((first, content, 0) for content in range(9)), (second, 99, 0)]
    with pytest.raises(UserError, match="holds 9 of 10 rows.*--seed"):
        divide(records(corpus), Wanted())


def test_a_previous_split_that_no_longer_fits_says_so() -> None:
    rows = records([(1, 1, 0), (2, 2, 0), (3, 3, 0)])
    groups = {g: hashed("group", g) for g in (1, 2, 3)}
    with pytest.raises(UserError, match="keeps 2 of 3 rows in eval"):
        divide(rows, Wanted(), {groups[1]}, {groups[2], groups[3]})
    with pytest.raises(UserError, match="keeps every group in train"):
        divide(rows, Wanted(), set(groups.values()), set())
