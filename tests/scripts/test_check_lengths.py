"""check_lengths: numbers that can be recomputed by hand, and a refusal that stays one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.tokens.tiny_model import build_model

SCRIPT = "testing/check_lengths.py"


@pytest.fixture
def call(run_here: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the stage in this process, in a folder of its own."""
    return partial(run_here, SCRIPT)


def chat(row_id: str, answer: str, *, train: bool = True, source: str = "logs") -> dict[str, Any]:
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": answer, "train": train},
    ]
    return {"id": row_id, "task": "chat", "messages": messages, "meta": {"source": source}}


def fim(row_id: str, prefix: str, middle: str) -> dict[str, Any]:
    row = {"id": row_id, "task": "fim", "prefix": prefix, "middle": middle, "suffix": ""}
    return {**row, "meta": {"source": "repo"}}


# In the byte tokenizer a chat row has, beside its question and answer, 2 x (<|im_start|>,
# <|im_end|>, newline after the role, newline after the turn) + "user" + "assistant" = 21 tokens.
CHAT_FRAME = 8 + len("user") + len("assistant")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    build_model(tmp_path / "model")
    (tmp_path / "data").mkdir()
    write(tmp_path, "train", [chat("a", "x" * 9), fim("b", "p" * 100, "m"), chat("c", "x" * 99)])
    write(tmp_path, "eval", [chat("d", "yes", source="other")])
    return tmp_path


def write(project: Path, side: str, rows: list[Any]) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (project / "data" / f"{side}.jsonl").write_text("\n".join(lines) + "\n")


def check(call: Any, *flags: Any) -> tuple[Any, dict[str, Any]]:
    done = call("--model_name_or_path", "model", "--json", *flags)
    return done, json.loads(done.stdout) if done.stdout else {}


def test_numbers(project: Path, call: Any) -> None:
    done, told = check(call, "--max_length", 64)
    assert done.returncode == 0, done.stderr
    chats, fims = told["lengths"]["train"]
    short, long = CHAT_FRAME + 1 + 9, CHAT_FRAME + 1 + 99
    assert chats["quantiles"] == {"0.5": short, "0.9": long, "0.95": long, "0.99": long, "1": long}
    assert (chats["rows"], chats["dropped"], chats["cut"]) == (2, 1, 0)
    assert (chats["tokens"], chats["trained"]) == (short, 9 + 1)
    assert fims["quantiles"]["1"] == 3 + 100 + 1 + 1
    assert (fims["rows"], fims["dropped"], fims["cut"], fims["tokens"]) == (1, 0, 1, 64)
    assert told["counts"]["train"] == {"in": 3, "kept": 2, "dropped": {"too_long": 1}}
    assert told["packing"]["train"]["sequences"] == 2
    assert told["packing"]["train"]["fill"] == pytest.approx((64 + short) / 128)
    assert told["packing"]["train"]["trained_share"] == pytest.approx(12 / (64 + short))
    assert told["lengths"]["eval"][0]["source"] == "other"


def test_results_are_artefacts_and_the_second_run_is_up_to_date(project: Path, call: Any) -> None:
    from codetune import artefact

    folder = project / "outputs" / "check-lengths"
    first, told = check(call)
    assert first.returncode == 0, first.stderr
    assert artefact.verify(folder / "lengths.json") is None
    assert artefact.verify(folder / "lengths.png") is None
    assert (folder / "lengths.png").read_bytes().startswith(b"\x89PNG")
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    second, again = check(call)
    assert again["status"] == "up to date"
    assert again["packing"] == told["packing"]
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    _, other = check(call, "--max_length", 32)
    assert other["status"] == "done", "another limit is another result"


def test_row_without_trained_token_is_refused_and_stays_refused(project: Path, call: Any) -> None:
    write(
        project, "train", [chat("fine", "x"), chat("silent", "x", train=False), chat("empty", "")]
    )
    for status in ("first", "again"):
        done, told = check(call)
        assert done.returncode == 3, status
        assert told["status"] == "refused"
        listed = told["no_trained_token"]
        assert listed == ["data/train.jsonl, line 2", "data/train.jsonl, line 3"]
        assert "line 2 and 1 more" in done.stderr
    write(project, "train", [chat("fine", "x")])
    assert check(call)[0].returncode == 0


def test_nothing_that_fits_is_refused(project: Path, call: Any) -> None:
    done, told = check(call, "--max_length", 16, "--eval_file", "none")
    assert done.returncode == 0, "the FIM row can be cut"
    write(project, "train", [chat("c", "x" * 99)])
    done, told = check(call, "--max_length", 16, "--eval_file", "none")
    assert done.returncode == 3
    assert "no train row fits into 16 tokens" in told["refused"]


def test_bad_rows_are_counted_by_reason(project: Path, call: Any) -> None:
    write(project, "train", [chat("a", "x"), "{broken", "[]", fim("f", "p", " ")])
    done, told = check(call)
    assert done.returncode == 0, done.stderr
    dropped = {"empty_middle": 1, "not_an_object": 1, "not_json": 1}
    assert told["counts"]["train"] == {"in": 4, "kept": 1, "dropped": dropped}


@pytest.mark.parametrize(
    "flags", [("--train_file", "gone.jsonl"), ("--eval_file", "gone.jsonl"), ("--max_length", 2)]
)
def test_bad_input_is_one_line(project: Path, call: Any, flags: tuple[Any, ...]) -> None:
    done, _ = check(call, *flags)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (project / "outputs" / "check-lengths").exists()


def test_missing_model_says_what_to_give(project: Path, run_script: Any) -> None:
    done = run_script(SCRIPT, "--model_name_or_path", "Qwen/Qwen2.5-Coder-7B")
    assert done.returncode == 2
    assert "give a local model folder" in done.stderr
    done = run_script(SCRIPT)
    assert done.returncode == 2
    assert "--model_name_or_path is required" in done.stderr


def test_fim_rows_for_a_model_without_fim_are_the_users_error(project: Path, call: Any) -> None:
    build_model(project / "model", added=("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    done, _ = check(call)
    assert done.returncode == 2
    assert "cannot take FIM rows" in done.stderr


def test_help_is_quick_and_names_every_knob(run_script: Any) -> None:
    done = run_script(SCRIPT, "--help")
    assert done.returncode == 0
    for knob in ("train_file", "eval_file", "model_name_or_path", "max_length", "output_dir"):
        assert f"--{knob}" in done.stdout
