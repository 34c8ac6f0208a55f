"""Which held-out rows are measured: every row accounted for, and a subset that holds still."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codetune import tokens
from codetune.errors import UserError
from codetune.evaluation import items
from tests.evaluation import tiny


@pytest.fixture(scope="module")
def tok(tmp_path_factory: pytest.TempPathFactory) -> tokens.Tokenizer:
    return tokens.load(tiny.make_tokenizer(tmp_path_factory.mktemp("tok")))


def load(path: Path, tok: tokens.Tokenizer, most: int | None = None, seed: int = 0) -> tuple:
    return items.load(path, tok, tiny.MAX_LENGTH, most, seed)


def test_every_row_is_kept_or_dropped_with_a_reason(tmp_path: Path, tok: tokens.Tokenizer) -> None:
    path = tiny.write_rows(tmp_path / "eval.jsonl", tiny.house_rows(6))
    long = tiny.chat_row(70, "why? " * 200, "because")
    untrained = tiny.chat_row(71, "why?", "because")
    untrained["messages"][1]["train"] = False
    more = tiny.write_rows(tmp_path / "more.jsonl", [long, untrained]).read_bytes()
    path.write_bytes(path.read_bytes() + b"not json\n" + b'{"id": "x", "task": "odd"}\n' + more)
    found, counts = load(path, tok)
    assert [item.id for item in found] == [row["id"] for row in tiny.house_rows(6)]
    assert counts.kept == 6
    assert counts.in_ == 10
    assert counts.dropped["not_json"] == counts.dropped["too_long"] == 1
    assert sum(counts.dropped.values()) == 4


def test_an_item_knows_its_task_group_and_source(tmp_path: Path, tok: tokens.Tokenizer) -> None:
    alone = tiny.fim_row(1, "f", "    found = 1")
    alone["meta"] = {}
    rows = [tiny.fim_row(0, "f", "    found = 1", group="g"), tiny.chat_row(2, "q", "a"), alone]
    found, _ = load(tiny.write_rows(tmp_path / "e.jsonl", rows), tok)
    assert [item.task for item in found] == ["fim", "chat", "fim"]
    assert [item.group for item in found] == ["g", "session-1", alone["id"]]
    assert [item.source for item in found] == ["repo", "log", "unknown"]
    assert all(item.n_trained == item.tokens.trained > 0 for item in found)


@given(st.integers(1, 30), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_a_subset_depends_on_ids_and_seed_alone(
    tmp_path_factory: pytest.TempPathFactory, tok: tokens.Tokenizer, most: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("subset")
    rows = tiny.house_rows(20)
    straight, counts = load(tiny.write_rows(folder / "a.jsonl", rows), tok, most, seed)
    turned, _ = load(tiny.write_rows(folder / "b.jsonl", rows[::-1]), tok, most, seed)
    assert len(straight) == counts.kept == min(most, 20)
    assert counts.dropped.get(items.NOT_IN_SUBSET, 0) == 20 - counts.kept
    assert {item.id for item in straight} == {item.id for item in turned}
    fewer, _ = load(folder / "a.jsonl", tok, max(1, most - 1), seed)
    assert {item.id for item in fewer} <= {item.id for item in straight}


def test_another_seed_draws_another_subset(tmp_path: Path, tok: tokens.Tokenizer) -> None:
    path = tiny.write_rows(tmp_path / "e.jsonl", tiny.house_rows(40))
    drawn = {tuple(item.id for item in load(path, tok, 10, seed)[0]) for seed in range(4)}
    assert len(drawn) == 4


def test_rows_that_cannot_be_used_do_not_take_a_place_in_the_subset(
    tmp_path: Path, tok: tokens.Tokenizer
) -> None:
    long = [tiny.chat_row(place, "why? " * 200, "so") for place in range(20)]
    path = tiny.write_rows(tmp_path / "e.jsonl", [*long, *tiny.house_rows(8)])
    assert load(path, tok, 8)[1].kept == 8


@pytest.mark.parametrize("content", [b"", b"\n\n", b"no json\n", b'{"id": "a", "task": "odd"}\n'])
def test_a_file_without_a_usable_row_is_a_user_error(
    tmp_path: Path, tok: tokens.Tokenizer, content: bytes
) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no row can be measured"):
        load(path, tok)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path, tok: tokens.Tokenizer) -> None:
    with pytest.raises(UserError, match=r"no such file.*scripts\.sh data"):
        load(tmp_path / "e.jsonl", tok)


def test_completions_are_drawn_per_task(tmp_path: Path, tok: tokens.Tokenizer) -> None:
    found, _ = load(tiny.write_rows(tmp_path / "e.jsonl", tiny.house_rows(40)), tok)
    places = items.to_generate(found, {"fim": 7, "chat": 3}, seed=0)
    tasks = [found[place].task for place in places]
    assert (tasks.count("fim"), tasks.count("chat")) == (7, 3)
    assert places == sorted(set(places))
    assert items.to_generate(found, {"fim": 0, "chat": 100}, seed=0) == [
        place for place, item in enumerate(found) if item.task == "chat"
    ]


def test_the_prompts_tail_is_what_stands_before_the_answer() -> None:
    assert items.prompt_tail(tiny.fim_row(0, "f", "x")) == "def f(value):\n"
    chat = tiny.chat_row(0, "first question", "answer")
    chat["messages"] += [{"role": "user", "content": "thanks"}]
    assert items.prompt_tail(chat) == "first question"
    long = tiny.fim_row(0, "f" * 5000, "x")
    assert items.prompt_tail(long, 20) == "…" + long["prefix"][-20:]


def test_results_survive_the_disk(tmp_path: Path, tok: tokens.Tokenizer) -> None:
    found, _ = load(tiny.write_rows(tmp_path / "e.jsonl", tiny.house_rows(3)), tok)
    kept = [
        items.scored(item, {"loss": 1.5 + place}, answer="\u2028", remarks=["empty"])
        for place, item in enumerate(found)
    ]
    assert items.read_scored([one.as_line() for one in kept]) == kept
