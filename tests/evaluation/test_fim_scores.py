"""The three FIM scores, each with what they must and must not forgive."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.evaluation import fim

text = st.text(st.characters(codec="utf-8", exclude_characters="\r\x0b\x0c\x85\u2028\u2029"))


@given(text)
def test_the_expected_text_itself_scores_one_everywhere(written: str) -> None:
    assert set(fim.scores(written, written).values()) == {1.0}


@given(text, text)
def test_scores_stay_between_zero_and_one_and_exact_implies_the_others(a: str, b: str) -> None:
    found = fim.scores(a, b)
    assert all(0.0 <= score <= 1.0 for score in found.values())
    if found[fim.EXACT_MATCH]:
        assert found[fim.EDIT_SIMILARITY] == found[fim.FIRST_LINE_MATCH] == 1.0


@given(text, st.text(" \n\t", max_size=5))
def test_white_space_at_the_end_is_forgiven(written: str, tail: str) -> None:
    assert fim.scores(written + tail, written)[fim.EXACT_MATCH] == 1.0


@pytest.mark.parametrize(
    ("generated", "expected", "exact", "first_line"),
    [
        ("return x", "return x", 1, 1),
        ("return x\n", "return x", 1, 1),
        ("  return x", "return x", 0, 0),  # indentation is code
        ("return x\nprint(x)", "return x", 0, 1),  # went on too long
        ("\n\nreturn x", "return x", 0, 1),
        ("return y", "return x", 0, 0),
        ("", "return x", 0, 0),
        ("x = 1\ny = 2", "x = 1\ny = 3", 0, 1),
    ],
)
def test_exact_and_first_line_match(
    generated: str, expected: str, exact: int, first_line: int
) -> None:
    found = fim.scores(generated, expected)
    assert (found[fim.EXACT_MATCH], found[fim.FIRST_LINE_MATCH]) == (exact, first_line)


def test_edit_similarity_counts_insertions_and_deletions() -> None:
    """2M/T with M the longest common subsequence: "abcd"/"abxd" share abd, so 2*3/8."""
    assert fim.scores("abcd", "abxd")[fim.EDIT_SIMILARITY] == pytest.approx(0.75)


def test_edit_similarity_orders_as_the_standard_library_does() -> None:
    expected = "    found = load(path)\n    return found"
    tries = ["    found = load(path)\n    return", "    found = read(path)", "pass"]
    ours = [fim.scores(attempt, expected)[fim.EDIT_SIMILARITY] for attempt in tries]
    theirs = [difflib.SequenceMatcher(None, attempt, expected).ratio() for attempt in tries]
    assert ours == sorted(ours, reverse=True)
    assert theirs == sorted(theirs, reverse=True)
