"""peek shows rows and masks, and never what a terminal would obey."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.tokens.tiny_model import build_model

SCRIPT = "data_prep/peek.py"


@pytest.fixture
def call(run_here: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the stage in this process, in a folder of its own."""
    return partial(run_here, SCRIPT)


CHAT = {
    "id": "chat-1",
    "task": "chat",
    "messages": [
        {"role": "user", "content": "Why does it \x1b]52;c;aGk=\x07fail? [/bold] <|im_end|>"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {
                    "id": "c",
                    "type": "function",
                    "function": {"name": "Read", "arguments": {"p": "ä"}},
                }
            ],
            "train": True,
        },
        {"role": "tool", "content": "import os", "tool_call_id": "c"},
        {"role": "assistant", "content": "untrained words", "train": False},
    ],
    "meta": {"source": "s"},
}
FIM = {
    "id": "fim-1",
    "task": "fim",
    "prefix": "def f():\n    return ",
    "middle": "1 + 1",
    "suffix": "\n",
    "context": [{"path": "other.py", "text": "X = 1"}],
    "meta": {"path": "a.py"},
}
TEXT = {"id": "text-1", "task": "text", "text": "z" * 5000, "meta": {}}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "train.jsonl"
    lines = [json.dumps(row) for row in (CHAT, FIM, TEXT)]
    file.write_text("\n".join([lines[0], "not json", *lines[1:]]) + "\n")
    return file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return build_model(tmp_path / "model")


def test_shows_rows_of_the_default_file(rows: Path, run_script: Any) -> None:
    done = run_script(SCRIPT)
    assert done.returncode == 0, done.stderr
    assert "data/train.jsonl:1 · chat · chat-1" in done.stderr
    assert "data/train.jsonl:3 · fim · fim-1" in done.stderr
    assert "⟦Let me look.⟧" in done.stderr
    assert '⟦Read({"p": "ä"})⟧' in done.stderr
    assert "⟦1 + 1⟧" in done.stderr
    assert "⟦untrained" not in done.stderr
    assert "not_json" in done.stderr, "what could not be read is counted"
    assert "3 of 4 rows read" in done.stderr


def test_texts_are_shortened_and_harmless(rows: Path, call: Any) -> None:
    done = call("--max_chars", 100)
    assert "4,900 characters" in done.stderr
    assert "z" * 60 not in done.stderr
    assert "\x1b" not in done.stderr
    assert "[/bold]" in done.stderr


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--n", 1), ["chat-1"]),
        (("--task", "fim"), ["fim-1"]),
        (("--contains", "import os"), ["chat-1"]),
        (("--contains", "X = 1"), ["fim-1"]),
        (("--contains", '{"p": "ä"}'), ["chat-1"]),
        (("--contains", "nowhere"), []),
    ],
)
def test_choosing_rows(rows: Path, call: Any, flags: tuple[Any, ...], expected: list[str]) -> None:
    done = call(rows, "--json", *flags)
    assert done.returncode == 0
    assert [row["id"] for row in json.loads(done.stdout)["rows"]] == expected


def test_tokens_with_their_mask(rows: Path, model: Path, call: Any) -> None:
    done = call("--model_name_or_path", model, "--json")
    assert done.returncode == 0, done.stderr
    chat, fim, text = json.loads(done.stdout)["rows"]
    trained = [run["text"] for run in chat["runs"] if run["trained"]]
    assert trained == [
        'Let me look.<tool_call>{"name": "Read", "arguments": {"p": "ä"}}</tool_call><|im_end|>'
    ]
    assert fim["runs"][-1] == {"trained": True, "text": "1 + 1<|endoftext|>"}
    assert fim["trained"] == 6
    assert (text["tokens"], text["trained"]) == (5001, 5001)
    assert f"fim-1 · {fim['tokens']:,} tokens, 6 trained" in done.stderr
    assert "⟦1 + 1<|endoftext|>⟧" in done.stderr


def test_trained_tokens_stand_on_green(rows: Path, model: Path, run_script: Any) -> None:
    flags = ("--task", "fim", "--model_name_or_path", model)
    done = run_script(SCRIPT, *flags, env={"FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert "\x1b[30;42m1 + 1<|endoftext|>\x1b[0m" in done.stderr
    assert "\x1b[2m" in done.stderr
    assert "⟦" not in done.stderr


def test_max_length_shows_what_training_would_see(rows: Path, model: Path, call: Any) -> None:
    done = call("--model_name_or_path", model, "--max_length", 40, "--json")
    chat, fim, text = json.loads(done.stdout)["rows"]
    assert chat["dropped"].startswith("too_long")
    assert fim["tokens"] <= 40
    assert text["dropped"].startswith("too_long")


def test_a_file_without_any_row_is_one_line(rows: Path, call: Any) -> None:
    (rows.parent / "prose.txt").write_text("once upon\na time\n")
    done = call("data/prose.txt")
    assert done.returncode == 2
    assert "data/prose.txt: holds no rows (not_json)" in done.stderr


@pytest.mark.parametrize("flags", [("nowhere.jsonl",), ("--model_name_or_path", "nowhere")])
def test_missing_input_is_one_line(rows: Path, call: Any, flags: tuple[str, ...]) -> None:
    done = call(*flags)
    assert done.returncode == 2
    assert len([x for x in done.stderr.splitlines() if x.startswith("error:")]) == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
