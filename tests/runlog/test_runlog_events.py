"""Reading journals back, and what of a command line and a config is fit to keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.runlog import events


def test_records_carry_their_place_and_reading_goes_on_from_any_of_them(tmp_path: Path) -> None:
    journal = tmp_path / "events.jsonl"
    journal.write_bytes(b"".join(b'{"kind":"tag","n":%d}\n' % n for n in range(50)))
    whole = list(events.read(journal))
    assert [r.fields["n"] for r in whole] == list(range(50))
    assert whole[-1].end == journal.stat().st_size
    for record in whole:
        rest = list(events.read(journal, record.end))
        assert [r.fields["n"] for r in rest] == list(range(record.fields["n"] + 1, 50))


def test_a_torn_tail_waits_and_a_damaged_line_is_an_empty_record(tmp_path: Path) -> None:
    journal = tmp_path / "events.jsonl"
    journal.write_bytes(b'{"kind":"a"}\n{"kin{"kind":"b"}\n[1]\n{"kind":"c"}\n{"kind":"d"')
    assert [r.kind for r in events.read(journal)] == ["a", "", "", "c"]


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["x.py", "--hf_token", "abc", "--lr", "1"], ["x.py", "--hf_token", "***", "--lr", "1"]),
        (["--api-key=abc"], ["--api-key=***"]),
        (["--password", "a", "b"], ["--password", "***", "b"]),
        (["--max_new_tokens", "64"], ["--max_new_tokens", "64"]),
        (["--short-tokens", "32"], ["--short-tokens", "32"]),
        (["--chars_per_token", "2.5"], ["--chars_per_token", "2.5"]),
        (["--pad_token=<pad>"], ["--pad_token=<pad>"]),
        (["--url", "postgresql://me:pw@host/db"], ["--url", "postgresql://me:***@host/db"]),
        (["--url", "https://host:8000/x@y"], ["--url", "https://host:8000/x@y"]),
        (["--url", "https://me:p@ss@host/x"], ["--url", "https://me:***@host/x"]),
        (["--url", "https://ghp_abc@host/x"], ["--url", "https://***@host/x"]),
        (["--prompt", "x" * 1001], ["--prompt", "<1001 characters>"]),
    ],
)
def test_secrets_and_texts_leave_a_command_line(argv: list[str], shown: list[str]) -> None:
    assert events.shown_argv(argv) == shown


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--prompt", "my secret plan"], ["--prompt", "<14 characters>"]),
        (["--system-prompt=be kind", "--n", "2"], ["--system-prompt=<7 characters>", "--n", "2"]),
        (["--prompt", "--token", "abc"], ["--prompt", "<7 characters>", "<3 characters>"]),
        (["--prompt_file", "a.txt"], ["--prompt_file", "a.txt"]),
        (
            ["--prompt", "one", "two", "--n", "2"],
            ["--prompt", "<3 characters>", "<3 characters>", "--n", "2"],
        ),
    ],
)
def test_the_users_own_texts_leave_a_command_line(argv: list[str], shown: list[str]) -> None:
    assert events.shown_argv(argv, {"prompt", "system_prompt"}) == shown


def test_of_the_users_own_texts_only_the_length_is_a_param() -> None:
    told = {"prompt": {"default": "by default", "value": "my plan"}}
    found = events.flat_params({"prompt": "my plan", "seed": 7}, told, {"prompt"})
    assert found["prompt"] == {"text": "<7 characters>", "default": "<10 characters>"}
    assert found["seed"]["text"] == "7"
    assert events.flat_params({"prompt": None}, {}, {"prompt"})["prompt"]["text"] == "null"
    several = events.flat_params({"prompt": ["my", "plan"]}, {}, {"prompt"})
    assert several["prompt"]["text"] == '["<2 characters>", "<4 characters>"]'


def test_secrets_deeper_in_a_config_are_hidden_too() -> None:
    config = {"headers": {"api_key": "abc", "n": 1}, "hosts": [{"token": "def", "name": "x"}]}
    found = events.flat_params(config, {})
    assert found["headers.api_key"] == {"text": "***"}
    assert found["headers.n"]["text"] == "1"
    assert json.loads(found["hosts"]["text"]) == [{"token": "***", "name": "x"}]


leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
tree = st.dictionaries(st.text(min_size=1, max_size=5), leaf | st.lists(leaf, max_size=3))


@given(st.dictionaries(st.text(min_size=1, max_size=5), leaf | tree, max_size=5))
def test_any_config_becomes_flat_json(config: dict[str, object]) -> None:
    found = events.flat_params(config, {})
    written = json.loads(json.dumps(found, allow_nan=False))
    assert written == found
    assert all(isinstance(param["text"], str) for param in found.values())
    assert len(found) <= sum(len(v) or 1 if isinstance(v, dict) else 1 for v in config.values())


def test_defaults_of_nested_knobs_are_found() -> None:
    config = {"lora": {"r": 16, "alpha": 32}}
    told = {"lora": {"default": {"r": 8}, "value": config["lora"]}}
    found = events.flat_params(config, told)
    assert found["lora.r"] == {"text": "16", "num": 16.0, "default": "8"}
    assert found["lora.alpha"]["default"] == "null"
