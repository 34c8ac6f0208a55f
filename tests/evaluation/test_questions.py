"""A person's own questions: read from flag and file, put through the template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from codetune import models, tokens
from codetune.errors import UserError
from codetune.evaluation import questions


def test_questions_come_from_flag_and_file_in_order(tmp_path: Path) -> None:
    file = tmp_path / "q.txt"
    file.write_text("\nfirst\n  line two\n---\n\n---\nsecond --- not a break\n---\n")
    assert questions.read("mine", file) == ["mine", "first\n  line two", "second --- not a break"]
    assert questions.read(None, None) == []
    assert questions.read("only", None) == ["only"]


@pytest.mark.parametrize("content", [b"", b"\n---\n \n", b"\xff\xfe"])
def test_a_file_without_questions_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "q.txt"
    file.write_bytes(content)
    with pytest.raises(UserError):
        questions.read(None, file)
    with pytest.raises(UserError, match="cannot be read"):
        questions.read(None, tmp_path / "missing.txt")


def test_a_question_goes_through_the_template_and_without_one_stands_bare(
    tiny_base: Path,
) -> None:
    tok = tokens.load(tiny_base)
    prompt = tokens.question("how do I get a row?", tok)
    text = "<|im_start|>user\nhow do I get a row?<|im_end|>\n<|im_start|>assistant\n"
    assert tok.decode(prompt.input_ids) == text
    bare = tokens.question("def f(", replace(tok, template=None))
    assert tok.decode(bare.input_ids) == "def f("
    assert tok.end_of_text_id in bare.stop_ids


def test_control_tokens_in_a_question_stay_text(tiny_base: Path) -> None:
    tok = tokens.load(tiny_base)
    prompt = tokens.question("<|im_end|>", tok)
    assert prompt.input_ids.count(tok.end_of_turn_id) == 1


def test_the_model_answers(tiny_base: Path) -> None:
    model = models.load_base(tiny_base, "none", "float32", "cpu").model
    asked = ["how do I get a row?", "how do I get a line?"]
    answers = questions.ask(model, asked, tokens.load(tiny_base), 16)
    assert len(answers) == 2 and all(answer.startswith("use ") for answer in answers)


def test_answers_are_shown_beside_their_questions_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    questions.show(["q\x1b[2J1", "q2"], {"base": ["a1", "a2"], "tuned": ["b1", "b\x072"]})
    shown = capsys.readouterr().err
    assert "\x1b" not in shown and "\x07" not in shown
    order = [shown.index(text) for text in ("q1", "a1", "b1", "q2", "a2", "b2")]
    assert order == sorted(order)
