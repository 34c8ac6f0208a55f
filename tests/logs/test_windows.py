import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codetune.artefact import Counts
from codetune.logs.session import Prompt, Step
from codetune.logs.shorten import shorten
from codetune.logs.turns import turns_of
from codetune.logs.windows import Unit, Window, windows


def units(*specs):
    """(cost, masked) pairs as units."""
    return [Unit((), masked, cost, frozenset()) for cost, masked in specs]


def size(part):
    return sum(unit.cost for unit in part)


def test_a_turn_that_fits_is_one_window():
    assert list(windows(units((10, ""), (10, "")), 100, size)) == [Window(0, 0, 2)]


def test_a_long_turn_is_several_windows_that_repeat_a_little():
    found = list(windows(units(*[(20, "")] * 10), 100, size))
    assert found == [Window(0, 0, 5), Window(4, 5, 9), Window(8, 9, 10)]


def test_a_window_ends_with_a_trained_step():
    found = list(windows(units((10, ""), (10, "rejected"), (10, "text")), 100, size))
    assert found == [Window(0, 0, 1)]


def test_nothing_trained_is_no_window():
    assert list(windows(units((10, "rejected"), (10, "text")), 100, size)) == []


def test_what_fits_in_no_window_is_named():
    assert list(windows(units((10, ""), (500, ""), (10, "")), 100, size)) == [
        Window(0, 0, 1),
        1,
        Window(2, 2, 3),
    ]


SPECS = st.lists(st.tuples(st.integers(1, 150), st.sampled_from(["", "", "rejected", "text"])))


@given(SPECS, st.integers(20, 200))
@example([(20, "")] * 10, 100)
def test_each_trained_unit_is_new_exactly_once_and_no_window_is_too_large(specs, budget):
    made = units(*specs)
    new, too_long = [], []
    for window in windows(made, budget, size):
        if isinstance(window, int):
            too_long.append(window)
            continue
        assert window.context <= window.start < window.stop
        assert size(made[window.context : window.stop]) <= budget
        assert made[window.stop - 1].trained
        new += [i for i in range(window.start, window.stop) if made[i].trained]
    assert sorted(new + [i for i in too_long if made[i].trained]) == [
        i for i, unit in enumerate(made) if unit.trained
    ]
    assert all(made[i].cost > budget for i in too_long)


def test_short_texts_stay():
    assert shorten("abc", 10) == "abc"


def test_long_texts_keep_head_and_tail_on_line_ends():
    text = "\n".join(f"line {n}" for n in range(1000))
    short = shorten(text, 400)
    head, note, tail = re.split(r"\n(\.\.\. \[.*\] \.\.\.)\n", short)
    assert text.startswith(head + "\n") and text.endswith("\n" + tail)
    omitted = int(re.sub(r"\D", "", note))
    assert len(short) < 450 and omitted == len(text) - len(head) - len(tail)


def test_commands_keep_more_of_their_tail():
    text = "\n".join(f"line {n}" for n in range(1000))
    assert len(shorten(text, 400, "Bash").partition("... [")[0]) < len(
        shorten(text, 400, "Read").partition("... [")[0]
    )


@given(st.text(alphabet="ab \n", max_size=300), st.integers(10, 100))
def test_shortening_never_cuts_a_word(text, limit):
    short = shorten(text, limit)
    words = set(text.split())
    kept = (
        short
        if short == text
        else re.sub(r"\.\.\. \[[\d,]+ characters omitted\] \.\.\.", "", short)
    )
    assert set(kept.split()) <= words
    assert len(short) <= limit + 50


def test_a_secret_is_dropped_whole_rather_than_cut():
    secret = "q7Xb2Lm9Zk4Tn8Rv3Wc6Yd1Hf5Jg0PsAeUiOyQ2xM7" * 3
    assert "q7X" not in shorten("a " * 50 + secret + " b" * 500, 200)


def turn_texts(segment):
    turns, steps = Counts(), Counts()
    made = turns_of(segment, turns, steps)
    return [(turn.prompt, [item.text for item in turn.items]) for turn in made], turns, steps


def test_a_turn_goes_from_prompt_to_prompt():
    segment = [Prompt("a"), Step("1"), Prompt("note", "context"), Step("2"), Prompt("b"), Step("3")]
    assert turn_texts(segment)[0] == [("a", ["1", "note", "2"]), ("b", ["3"])]


def test_an_unanswered_prompt_opens_the_next_turn():
    found, turns, _ = turn_texts([Prompt("a"), Prompt("b"), Step("1"), Prompt("c")])
    assert found == [("a\n\nb", ["1"])]
    assert turns.dropped == {"no_answer_before_next_prompt": 1, "no_answer": 1}


def test_steps_without_a_prompt_are_dropped():
    found, _, steps = turn_texts([Step("0"), Step("1"), Prompt("a"), Step("2")])
    assert found == [("a", ["2"])] and steps.dropped == {"no_prompt": 2}


@pytest.mark.parametrize("kind", ["human", "summary", "context"])
def test_any_first_prompt_opens_a_turn(kind):
    assert turn_texts([Prompt("a", kind), Step("1")])[0] == [("a", ["1"])]
