"""Whose word is whose, and what a title becomes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.background import Session, choose, session_name
from codetune.background.arguments import OWN, parted
from codetune.errors import UserError
from codetune.runlog.process import Process
from codetune.training.recipe import TrainConfig

WORD = st.text(st.characters(codec="utf-8"), max_size=12).filter(
    lambda word: word.partition("=")[0] not in OWN and word != "--"
)
FREE = WORD.filter(lambda word: not re.match("--(dry|schema|run)", word))


@pytest.mark.parametrize(
    ("typed", "ours", "handed_on"),
    [
        ([], [], []),
        (["--attach", "--lora_r", "8"], ["--attach"], ["--lora_r", "8"]),
        (["--lora_r", "8", "--replace"], ["--replace"], ["--lora_r", "8"]),
        (["--name", "a b", "--seed=1"], ["--name=a b"], ["--seed=1"]),
        (["--name=x=y"], ["--name=x=y"], []),
        (["--name"], ["--name"], []),
        (["--name", "--attach"], ["--name=--attach"], []),
        (["--detach", "--", "--name", "x"], ["--detach"], ["--name", "x"]),
        (["a", "--", "b", "--", "c"], [], ["a", "b", "--", "c"]),
        (["--named", "x", "--attached"], [], ["--named", "x", "--attached"]),
        (["--seed", "1", "-h"], ["-h"], ["--seed", "1"]),
    ],
)
def test_whose_words(typed: list[str], ours: list[str], handed_on: list[str]) -> None:
    assert parted(typed) == (ours, handed_on)


@pytest.mark.parametrize("word", ["--dry_run", "--dry-run", "--schema", "--run_id", "--run-id=1"])
@pytest.mark.parametrize("before", [[], ["--"], ["--attach", "--seed", "1"]])
def test_flags_that_open_nothing_are_one_line(word: str, before: list[str]) -> None:
    with pytest.raises(UserError, match=re.escape(word)):
        parted([*before, word])


@given(st.lists(FREE))
def test_other_words_go_on_in_order(words: list[str]) -> None:
    assert parted(words) == ([], words)


@given(st.lists(FREE), st.lists(FREE))
def test_behind_the_dashes_all_words_go_on(before: list[str], behind: list[str]) -> None:
    assert parted(["--replace", *before, "--", "--attach", *behind]) == (
        ["--replace"],
        [*before, "--attach", *behind],
    )


def test_no_flag_of_train_is_taken_for_ours() -> None:
    spelled = set(TrainConfig.model_fields) | {"config", "json", "schema", "dry_run", "run_id"}
    for field in TrainConfig.model_fields.values():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        spelled |= set(extra["aliases"])  # type: ignore[arg-type]
    assert {f"--{name}" for name in spelled} & OWN == set()


@given(st.text(max_size=300))
def test_a_session_name_is_safe(title: str) -> None:
    assert re.fullmatch(r"codetune-[A-Za-z0-9_-]{1,50}", session_name(title))


@given(st.text(max_size=60), st.text(max_size=60))
def test_titles_that_differ_have_names_that_differ(one: str, two: str) -> None:
    assert (session_name(one) == session_name(two)) == (one == two)


def test_a_plain_title_stays_readable() -> None:
    assert session_name("mine_2-b") == "codetune-mine_2-b"
    assert session_name("a b").startswith("codetune-a-b-") and session_name("\udcff")


def test_choose_by_name_title_or_run() -> None:
    one, two = (Session("tmux", f"codetune-{t}", t, f"RUN-{t}", 0, "$1", None) for t in "ab")
    for given_name in ("codetune-b", "b", "RUN-b"):
        assert choose([one, two], given_name) is two
    odd = replace(one, name=session_name("a b"), title="a b")
    assert choose([one, odd], odd.label) is odd and not odd.label.startswith("codetune-")
    assert choose([one], None) is one
    with pytest.raises(UserError, match=r"2 sessions here, name one \(2 ended: a, b\)"):
        choose([one, two], None)
    busy = replace(two, program=Process("here", 1, 1))
    assert choose([one, busy], None) is busy
    three = replace(busy, name="codetune-c")
    with pytest.raises(UserError, match=r"\(2 at work: b, c; 1 ended: a\)"):
        choose([one, busy, three], None)
    with pytest.raises(UserError, match="no session 'c' here"):
        choose([one, two], "c")
    with pytest.raises(UserError, match="tmux-train"):
        choose([], "a")
