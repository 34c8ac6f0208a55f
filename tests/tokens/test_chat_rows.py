"""Conversations become the ids transformers gives, with loss where it belongs.

The golden texts were rendered by transformers 5.23 from chat_rows.json; the brackets, which
stand around what carries loss, were set by counting assistant turns, not by our code.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codetune import tokens
from codetune.errors import UserError
from codetune.tokens import IGNORED, RowDropped, Tokenizer, prompt, tokenise
from codetune.tokens.rows import Tokens

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
ROWS: dict[str, dict[str, Any]] = json.loads((GOLDEN / "chat_rows.json").read_text())
RELAXED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def bracketed(made: Tokens, tok: Tokenizer) -> str:
    """The decoded row with brackets around each run of trained tokens."""
    runs: list[tuple[bool, list[int]]] = []
    for token, label in zip(made.input_ids, made.labels, strict=True):
        trained = label != IGNORED
        if not runs or runs[-1][0] != trained:
            runs.append((trained, []))
        runs[-1][1].append(token)
    return "".join(f"⟦{tok.decode(r)}⟧" if on else tok.decode(r) for on, r in runs)


def reference(row: dict[str, Any], transformers_qwen: Any) -> list[int]:
    """The ids transformers gives for the conversation."""
    return transformers_qwen.apply_chat_template(
        row["messages"], tools=row.get("tools"), tokenize=True, return_dict=False
    )


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "t", "task": "chat", "messages": list(messages), "meta": {}, **more}


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def trained(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "train": True, **more}


@pytest.mark.parametrize("name", ROWS)
def test_golden_rendering_and_mask(name: str, qwen: Tokenizer) -> None:
    expected = (GOLDEN / f"chat_{name}.txt").read_text(encoding="utf-8")
    assert bracketed(tokenise(ROWS[name], qwen), qwen) == expected


@pytest.mark.parametrize("name", ROWS)
def test_ids_equal_transformers(name: str, qwen: Tokenizer, transformers_qwen: Any) -> None:
    assert tokenise(ROWS[name], qwen).input_ids == reference(ROWS[name], transformers_qwen)


# Text without a "<|" cannot spell a control token, so transformers' ids are right for it.
benign = st.text(st.characters(codec="utf-8"), max_size=60).filter(
    lambda text: "<|" not in text and "tool_call>" not in text
)
answers = st.builds(
    lambda text, name, arguments: trained(
        text or ("x" if name is None else ""),
        **({} if name is None else {"tool_calls": [call(name, arguments)]}),
    ),
    benign,
    st.none() | st.sampled_from(["Read", "Bash"]),
    st.dictionaries(benign, benign | st.integers() | st.booleans(), max_size=3),
)


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


@RELAXED
@given(
    st.lists(st.tuples(benign, answers, st.lists(benign, max_size=2)), min_size=1, max_size=4),
    st.none() | benign,
)
def test_any_benign_row_equals_transformers(
    qwen: Tokenizer,
    transformers_qwen: Any,
    turns: list[tuple[str, dict[str, Any], list[str]]],
    system: str | None,
) -> None:
    messages = [] if system is None else [said("system", system)]
    for question, answer, results in turns:
        messages += [said("user", question), answer, *(said("tool", r) for r in results)]
    row = chat(*messages)
    made = tokenise(row, qwen)
    assert made.input_ids == reference(row, transformers_qwen)
    assert all(label in (IGNORED, i) for i, label in zip(made.input_ids, made.labels, strict=True))
    assert made.labels.count(qwen.end_of_turn_id) == len(turns)


def test_trained_text_is_the_answers_and_nothing_else(tiny: Tokenizer) -> None:
    row = chat(said("user", "q"), trained("one"), said("user", "q2"), trained("two"))
    made = tokenise(row, tiny)
    assert tiny.decode([x for x in made.labels if x != IGNORED]) == "one<|im_end|>two<|im_end|>"


def test_newline_that_begins_an_answer_is_not_trained_when_it_shares_a_token(
    qwen: Tokenizer, transformers_qwen: Any
) -> None:
    # "assistant\n" + "\nhello": the two newlines are one token, half of which is the header
    row = chat(said("user", "q"), trained("\nhello"))
    made = tokenise(row, qwen)
    assert made.input_ids == reference(row, transformers_qwen)
    assert bracketed(made, qwen).endswith("assistant\n\n⟦hello<|im_end|>⟧\n")


def test_border_token_that_swallows_text_is_found_by_offsets(
    qwen: Tokenizer, transformers_qwen: Any
) -> None:
    row = chat(said("user", "q"), trained("\n\n\n  x\ny"))
    made = tokenise(row, qwen)
    assert made.input_ids == reference(row, transformers_qwen)
    assert bracketed(made, qwen).endswith("⟦ x\ny<|im_end|>⟧\n") or bracketed(made, qwen).endswith(
        "⟦  x\ny<|im_end|>⟧\n"
    )


@pytest.mark.parametrize("flag", [False, None])
def test_row_without_trained_message_is_dropped(flag: bool | None, tiny: Tokenizer) -> None:
    answer = said("assistant", "no") | ({} if flag is None else {"train": flag})
    with pytest.raises(RowDropped) as dropped:
        tokenise(chat(said("user", "q"), answer), tiny)
    assert dropped.value.reason == "no_trained_token"


def test_trained_flag_of_a_user_message_is_ignored(tiny: Tokenizer) -> None:
    row = chat(said("user", "q", train=True), trained("yes"))
    made = tokenise(row, tiny)
    assert bracketed(made, tiny).count("⟦") == 1


def test_empty_answer_is_not_trained_to_be_silent(tiny: Tokenizer) -> None:
    row = chat(said("user", "q"), trained(""), said("user", "again"), trained("yes"))
    assert bracketed(tokenise(row, tiny), tiny).count("⟦") == 1


def test_over_long_row_is_dropped_whole(tiny: Tokenizer) -> None:
    row = chat(said("user", "q"), trained("answer"))
    length = len(tokenise(row, tiny).input_ids)
    assert len(tokenise(row, tiny, max_length=length).input_ids) == length
    with pytest.raises(RowDropped) as dropped:
        tokenise(row, tiny, max_length=length - 1)
    assert dropped.value.reason == "too_long"
    assert str(length) in str(dropped.value)


def test_row_is_not_changed(tiny: Tokenizer) -> None:
    row = chat(said("user", "<|im_end|>"), trained("<|im_start|>", tool_calls=[call("f", {})]))
    before = copy.deepcopy(row)
    tokenise(row, tiny)
    assert row == before


def test_unknown_role_and_task_are_dropped_by_name(tiny: Tokenizer) -> None:
    with pytest.raises(RowDropped, match="bad_role"):
        tokenise(chat(said("user|>", "q"), trained("a")), tiny)
    with pytest.raises(RowDropped, match="unknown_task"):
        tokenise({"id": "t", "task": "poem", "meta": {}}, tiny)


# ------------------------------------------------------------------------------ other templates


def test_template_that_drops_old_reasoning_is_refused(make_model: Any) -> None:
    # as Qwen3 does: reasoning is shown in the last turn only
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
        "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>"
        "{% endif %}{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    tok = tokens.load(make_model(template=template))
    thought = trained("a", reasoning_content="why")
    single = chat(said("user", "q"), thought)
    assert "⟦<think>why</think>a<|im_end|>⟧" in bracketed(tokenise(single, tok), tok)
    with pytest.raises(UserError, match="not prefix-stable on this conversation"):
        tokenise(chat(said("user", "q"), thought, said("user", "q"), thought), tok)
    untrained = said("assistant", "a", reasoning_content="why")
    made = tokenise(chat(said("user", "q"), untrained, said("user", "q"), thought), tok)
    assert bracketed(made, tok).count("⟦") == 1


def test_template_that_changes_earlier_turns_is_refused(make_model: Any) -> None:
    template = "{{ messages | length }}" + (
        "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
        "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(UserError, match="not prefix-stable"):
        tokens.load(make_model(template=template))


def test_template_without_generation_prompt_is_refused(make_model: Any) -> None:
    turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>"
    template = turns + "{% endfor %}"
    with pytest.raises(UserError, match="not prefix-stable"):
        tokens.load(make_model(template=template))


def test_row_that_the_template_refuses_is_dropped(make_model: Any) -> None:
    template = (
        "{%- for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system messages, please') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tok = tokens.load(make_model(template=template))
    with pytest.raises(RowDropped, match="no system messages, please") as dropped:
        tokenise(chat(said("system", "s"), said("user", "q"), trained("a")), tok)
    assert dropped.value.reason == "template_refused"


def test_model_without_template_takes_no_chat_rows(make_model: Any) -> None:
    tok = tokens.load(make_model(template=None))
    with pytest.raises(UserError, match="Instruct"):
        tokenise(chat(said("user", "q"), trained("a")), tok)


# ------------------------------------------------------------------------------ prompts


@pytest.mark.parametrize("name", ROWS)
def test_prompt_is_the_row_before_its_last_trained_answer(name: str, qwen: Tokenizer) -> None:
    asked = prompt(ROWS[name], qwen)
    made = tokenise(ROWS[name], qwen)
    assert made.input_ids[: len(asked.input_ids)] == asked.input_ids
    golden = (GOLDEN / f"chat_{name}.txt").read_text(encoding="utf-8")
    before, _, after = golden.rpartition("⟦")
    assert qwen.decode(asked.input_ids) == before.replace("⟦", "").replace("⟧", "")
    assert asked.target + "<|im_end|>" == after.partition("⟧")[0]


def test_prompt_equals_transformers_generation_prompt(
    qwen: Tokenizer, transformers_qwen: Any
) -> None:
    row = ROWS["parallel_calls"]
    expected = transformers_qwen.apply_chat_template(
        row["messages"][:-1],
        tools=row["tools"],
        tokenize=True,
        return_dict=False,
        add_generation_prompt=True,
    )
    assert prompt(row, qwen).input_ids == expected


def test_prompt_shows_nothing_of_the_answer_or_after(tiny: Tokenizer) -> None:
    row = chat(said("user", "q"), trained("SECRET"), said("user", "LATER"))
    asked = prompt(row, tiny)
    assert asked.target == "SECRET"
    assert tiny.decode(asked.input_ids).endswith("q<|im_end|>\n<|im_start|>assistant\n")


def test_prompt_of_calls_is_written_as_the_template_writes_them(tiny: Tokenizer) -> None:
    row = chat(said("user", "q"), trained("", tool_calls=[call("Read", {"p": "<tool_call>"})]))
    target = '<tool_call>{"name": "Read", "arguments": {"p": "<tool_call>"}}</tool_call>'
    assert prompt(row, tiny).target == target


def test_prompt_that_is_too_long_or_has_no_answer_is_dropped(tiny: Tokenizer) -> None:
    row = chat(said("user", "q"), trained("a" * 100))
    length = len(prompt(row, tiny).input_ids)
    assert len(prompt(row, tiny, max_length=length).input_ids) == length
    with pytest.raises(RowDropped, match="too_long"):
        prompt(row, tiny, max_length=length - 1)
    with pytest.raises(RowDropped, match="no_trained_token"):
        prompt(chat(said("user", "q")), tiny)


def test_stop_ids_are_both_ends_and_the_fim_tokens(qwen: Tokenizer, make_model: Any) -> None:
    # ids as listed in reference/fim.md for Qwen2.5-Coder
    assert set(tokens.stop_ids(qwen)) == {151643, 151645, *range(151659, 151665)}
    assert tokens.stop_ids(qwen)[:2] == [151645, 151643]
    plain = tokens.load(make_model(added=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    assert tokens.stop_ids(plain) == [plain.special("<|im_end|>"), plain.special("<|endoftext|>")]
