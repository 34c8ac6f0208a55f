"""FIM and text rows: each family's own string, loss on what the model has to write.

The expected strings are those of the families' documentation, as collected in reference/fim.md.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codetune import tokens
from codetune.errors import UserError
from codetune.tokens import IGNORED, RowDropped, Tokenizer, fim, prompt, tokenise

CONTEXT = [{"path": "a.py", "text": "A = 1\n"}, {"path": "pkg/b.py", "text": "B = 2"}]


def gap(
    prefix: str = "def f():\n    ", middle: str = "return 1", suffix: str = "\n", **more: Any
) -> dict[str, Any]:
    meta = {"repo": "demo", "path": "src/main.py"}
    row = {"id": "t", "task": "fim", "prefix": prefix, "middle": middle, "suffix": suffix}
    return {**row, "meta": meta, **more}


def split(row: dict[str, Any], tok: Tokenizer, limit: int | None = None) -> tuple[str, str]:
    """(text without loss, text with loss), and that the loss is one run at the end."""
    made = tokenise(row, tok, limit)
    without = len(made.input_ids) - made.trained
    assert made.labels == [IGNORED] * without + made.input_ids[without:]
    return tok.decode(made.input_ids[:without]), tok.decode(made.input_ids[without:])


def test_qwen_single_file_string(qwen: Tokenizer) -> None:
    before, after = split(gap(), qwen)
    assert before == "<|fim_prefix|>def f():\n    <|fim_suffix|>\n<|fim_middle|>"
    assert after == "return 1<|endoftext|>"


def test_qwen_ids_are_those_of_its_documentation(qwen: Tokenizer) -> None:
    ids = tokenise(gap("p", "m", "s"), qwen).input_ids
    assert [ids[0], ids[2], ids[4], ids[-1]] == [151659, 151661, 151660, 151643]


def test_qwen_repository_string(qwen: Tokenizer) -> None:
    before, after = split(gap(context=CONTEXT), qwen)
    assert before == (
        "<|repo_name|>demo\n"
        "<|file_sep|>a.py\nA = 1\n"
        "<|file_sep|>pkg/b.py\nB = 2\n"
        "<|file_sep|>src/main.py\n"
        "<|fim_prefix|>def f():\n    <|fim_suffix|>\n<|fim_middle|>"
    )
    assert after == "return 1<|endoftext|>"


def test_ids_equal_transformers_on_the_whole_string(
    qwen: Tokenizer, transformers_qwen: Any
) -> None:
    row = gap("x = [\n\t'ä',\r\n", "  1,  ", "\n]\n\n\nprint(x)", context=CONTEXT)
    whole = "".join(split(row, qwen))
    assert tokenise(row, qwen).input_ids == transformers_qwen(whole)["input_ids"]


def test_repository_without_a_name_is_called_as_editors_call_it(tiny: Tokenizer) -> None:
    before, _ = split(gap(context=CONTEXT, meta={}), tiny)
    assert before.startswith("<|repo_name|>myproject\n<|file_sep|>a.py\n")


STARCODER = ("<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>")
GEMMA = ("<bos>", "<eos>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@pytest.mark.parametrize(
    ("name", "added", "more", "expected"),
    [
        ("starcoder", STARCODER, {}, "<fim_prefix>P<fim_suffix>S<fim_middle>M<|endoftext|>"),
        (
            "santacoder",
            ("<|endoftext|>", "<fim-prefix>", "<fim-middle>", "<fim-suffix>"),
            {},
            "<fim-prefix>P<fim-suffix>S<fim-middle>M<|endoftext|>",
        ),
        (
            "codegemma",
            (*GEMMA, "<|file_separator|>"),
            {"bos": "<bos>", "eos_token": "<eos>"},
            "<bos><|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>M<|file_separator|>",
        ),
        (
            "granite-4",
            ("<|end_of_text|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
            {"eos_token": "<|end_of_text|>"},
            "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>M<|end_of_text|>",
        ),
    ],
)
def test_other_families(
    make_model: Any, name: str, added: tuple[str, ...], more: dict[str, Any], expected: str
) -> None:
    settings = {"eos_token": "<|endoftext|>", **more}
    tok = tokens.load(make_model(added=added, template=None, **settings))
    assert tok.fim is not None
    assert tok.fim.name == name
    before, after = split(gap("P", "M", "S", context=CONTEXT), tok)
    assert before + after == expected, "no repository form is known, so the row stands alone"
    assert after.startswith("M<")


@pytest.mark.parametrize("lacking", ["<|fim_suffix|>", "<|file_sep|>", "<|endoftext|>"])
def test_format_with_a_sentinel_that_is_no_single_token_is_refused(
    make_model: Any, qwen_tokens: tuple[str, ...], lacking: str
) -> None:
    added = [token for token in qwen_tokens if token != lacking]
    tok = tokens.load(make_model(added=added, pad_token="<|im_end|>"))
    assert tok.fim is None
    with pytest.raises(UserError, match="cannot take FIM rows") as refused:
        tokenise(gap(), tok)
    assert lacking in str(refused.value)


def test_qwen3_keeps_the_tokens_but_not_the_format(
    make_model: Any, qwen_tokens: tuple[str, ...]
) -> None:
    tok = tokens.load(make_model(added=[*qwen_tokens, "<think>"]))
    with pytest.raises(UserError, match="chat-style FIM"):
        tokenise(gap(), tok)


def test_model_without_any_fim_token_is_told_so(make_model: Any) -> None:
    tok = tokens.load(make_model(added=["<eot>"], template=None, eos_token="<eot>"))
    with pytest.raises(UserError, match="no fill-in-the-middle tokens"):
        tokenise(gap(), tok)


def test_every_family_lists_distinct_tokens() -> None:
    for family in fim.FORMATS:
        assert len(set(family.tokens)) == len(family.tokens)
        assert bool(family.repo) == bool(family.file)
        assert fim.detect(set(family.tokens).__contains__) == family


# ------------------------------------------------------------------------------ cutting to length


def test_cut_keeps_what_is_nearest_to_the_gap(tiny: Tokenizer) -> None:
    row = gap("a" * 90 + "LEFT", "MIDDLE", "RIGHT" + "z" * 90)
    fixed = len(tokenise(gap("", "MIDDLE", ""), tiny).input_ids)
    before, after = split(row, tiny, fixed + 20)
    assert after == "MIDDLE<|endoftext|>"
    assert before == ("<|fim_prefix|>" + "a" * 11 + "LEFT<|fim_suffix|>RIGHT<|fim_middle|>"), (
        "a quarter of the room is the suffix's"
    )


@pytest.mark.parametrize(("prefix", "suffix"), [("", "z" * 90), ("a" * 90, ""), ("aa", "z" * 90)])
def test_room_that_one_side_leaves_goes_to_the_other(
    tiny: Tokenizer, prefix: str, suffix: str
) -> None:
    limit = 50
    assert len(tokenise(gap(prefix, "m", suffix), tiny, limit).input_ids) == limit


@settings(max_examples=80, deadline=None)
@given(st.text("ab\n", max_size=60), st.text("cd\n", max_size=60), st.integers(1, 120))
def test_a_cut_row_always_fits_and_keeps_its_middle(
    tiny: Tokenizer, prefix: str, suffix: str, limit: int
) -> None:
    tok = tiny
    row = gap(prefix, "return 1", suffix, context=CONTEXT)
    fixed = len(tokenise(gap("", "return 1", ""), tok).input_ids)
    if limit < fixed:
        with pytest.raises(RowDropped) as dropped:
            tokenise(row, tok, limit)
        assert dropped.value.reason == "too_long"
        return
    before, after = split(row, tok, limit)
    assert after == "return 1<|endoftext|>"
    assert len(tokenise(row, tok, limit).input_ids) <= limit
    _, _, rest = before.partition("<|fim_prefix|>")
    left, _, rest = rest.partition("<|fim_suffix|>")
    assert prefix.endswith(left)
    assert suffix.startswith(rest.removesuffix("<|fim_middle|>"))


def test_other_files_are_left_out_before_anything_is_cut(tiny: Tokenizer) -> None:
    row = gap("a" * 30, "m", "z" * 30, context=CONTEXT)
    whole = len(tokenise(row, tiny).input_ids)
    before, _ = split(row, tiny, whole - 1)
    assert "a.py" not in before.replace("pkg/b.py", "")
    assert "<|file_sep|>pkg/b.py\nB = 2\n<|file_sep|>src/main.py\n<|fim_prefix|>aaa" in before
    alone = len(tokenise(gap("a" * 30, "m", "z" * 30), tiny).input_ids)
    before, _ = split(row, tiny, alone + 10)
    assert before == "<|fim_prefix|>" + "a" * 30 + "<|fim_suffix|>" + "z" * 30 + "<|fim_middle|>"


# ------------------------------------------------------------------------------ prompts and text


def test_prompt_ends_at_the_middle_token(tiny: Tokenizer) -> None:
    for limit in (None, 40):
        asked = prompt(gap("a" * 50, "MID", "z"), tiny, limit)
        assert asked.target == "MID"
        assert asked.input_ids[-1] == tiny.special("<|fim_middle|>")
        made = tokenise(gap("a" * 50, "MID", "z"), tiny, limit)
        assert made.input_ids[: len(asked.input_ids)] == asked.input_ids
    assert tiny.special("<|endoftext|>") in asked.stop_ids


def test_text_row_is_trained_whole_with_its_end(qwen: Tokenizer) -> None:
    row = {"id": "t", "task": "text", "text": "a = 1\n<|endoftext|>", "meta": {}}
    before, after = split(row, qwen)
    assert (before, after) == ("", "a = 1\n<|endoftext|><|endoftext|>")
    made = tokenise(row, qwen)
    assert made.input_ids.count(qwen.end_of_text_id) == 1


def test_text_row_with_other_files_trains_its_own_text_only(tiny: Tokenizer) -> None:
    row = {"id": "t", "task": "text", "text": "own", "meta": {"path": "o.py"}, "context": CONTEXT}
    before, after = split(row, tiny)
    assert before.startswith("<|repo_name|>myproject\n<|file_sep|>a.py\nA = 1\n")
    assert before.endswith("<|file_sep|>o.py\n")
    assert after == "own<|endoftext|>"


def test_text_row_is_dropped_when_too_long_and_never_prompted(tiny: Tokenizer) -> None:
    row = {"id": "t", "task": "text", "text": "12345", "meta": {}, "context": CONTEXT}
    assert len(tokenise(row, tiny, 6).input_ids) == 6, "other files go first"
    with pytest.raises(RowDropped, match="too_long"):
        tokenise(row, tiny, 5)
    with pytest.raises(RowDropped, match="not_generative"):
        prompt(row, tiny)
