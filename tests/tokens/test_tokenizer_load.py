"""Reading a model folder: what is taken from where, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codetune import tokens
from codetune.errors import UserError
from codetune.tokens import Tokenizer

PLAIN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def test_qwen_facts(qwen: Tokenizer) -> None:
    # reference/fim.md section 1
    assert (qwen.end_of_turn_id, qwen.end_of_text_id, qwen.pad_id) == (151645, 151643, 151643)
    assert (qwen.vocab_size, qwen.bos_ids) == (151665, ())
    assert qwen.special("<|repo_name|>") == 151663
    assert qwen.fim is not None
    assert qwen.fim.name == "qwen2.5-coder"


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=80))
def test_plain_text_is_encoded_as_transformers_does(
    qwen: Tokenizer, transformers_qwen: Any, text: str
) -> None:
    expected = transformers_qwen.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert qwen.encode(text) == qwen.encode_many([text])[0] == expected


@settings(max_examples=50, deadline=None)
@given(st.text("ab \n<|im_end|>äß", max_size=30))
def test_decode_gives_the_text_back(tiny: Tokenizer, text: str) -> None:
    assert tiny.decode(tiny.encode(text)) == text
    assert len(tiny.starts(text)) == len(tiny.encode(text))


def test_encoding_does_not_hand_out_its_cache(tiny: Tokenizer) -> None:
    tiny.encode("abc").clear()
    assert tiny.decode(tiny.encode("abc")) == "abc"


def test_unknown_special_token_is_the_users_error(tiny: Tokenizer) -> None:
    with pytest.raises(UserError, match="<nope> is not a single control token"):
        tiny.special("<nope>")


@pytest.mark.parametrize("lost", ["tokenizer.json", "tokenizer_config.json"])
def test_missing_file(make_model: Any, lost: str) -> None:
    folder = make_model()
    (folder / lost).unlink()
    with pytest.raises(UserError, match=lost) as refused:
        tokens.load(folder)
    assert "\n" not in str(refused.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give a local model folder"):
        tokens.load(tmp_path / "Qwen" / "Qwen2.5-Coder-0.5B-Instruct")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "not json"),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", b"\xff\xfe"),
        ("chat_template.jinja", "{% for m in messages %}"),
        ("chat_template.jinja", b"\xff"),
        ("chat_template.jinja", "no control token {{ messages }} {{ add_generation_prompt }}"),
    ],
)
def test_broken_file(make_model: Any, name: str, content: str | bytes) -> None:
    folder = make_model()
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as refused:
        tokens.load(folder)
    assert str(folder) in str(refused.value)


def test_template_beside_the_config_wins(make_model: Any) -> None:
    folder = make_model(chat_template="{{ 'unused' }}")
    template = tokens.load(folder).template
    assert template is not None
    assert "unused" not in template.source


@pytest.mark.parametrize("named", [False, True])
def test_template_inside_the_config(make_model: Any, tiny: Tokenizer, named: bool) -> None:
    assert tiny.template is not None
    source = tiny.template.source
    listed = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": source}]
    tok = tokens.load(make_model(template=None, chat_template=listed if named else source))
    assert tok.template is not None
    assert tok.template.source == source
    assert tok.end_of_turn_id == tok.special("<|im_end|>")


def test_end_of_text_is_not_the_instruct_configs_eos(make_model: Any) -> None:
    tok = tokens.load(make_model(eos_token="<|im_end|>"))
    assert tok.end_of_text_id == tok.special("<|endoftext|>")
    base = tokens.load(make_model(added=[*PLAIN, "</s>"], eos_token="</s>"))
    assert base.end_of_text_id == base.special("</s>")
    assert base.end_of_turn_id == base.special("<|im_end|>")
    one = tokens.load(make_model(added=["<|im_start|>", "<|im_end|>"], pad_token="<gone>"))
    assert one.end_of_text_id == one.end_of_turn_id == one.pad_id


def test_tokens_of_the_config_may_be_objects(make_model: Any) -> None:
    folder = make_model(added=[*PLAIN, "<pad>"], pad_token={"content": "<pad>", "lstrip": False})
    tok = tokens.load(folder)
    assert tok.pad_id == tok.special("<pad>")


def test_beginning_of_text_is_put_before_rows_without_template(make_model: Any) -> None:
    tok = tokens.load(make_model(added=[*PLAIN, "<s>"], bos="<s>"))
    assert tok.bos_ids == (tok.special("<s>"),)
    row = {"id": "t", "task": "text", "text": "a", "meta": {}}
    assert tok.decode(tokens.tokenise(row, tok).input_ids) == "<s>a<|endoftext|>"
    assert tokens.tokenise(row, tok).labels[0] == tokens.IGNORED


def test_tokenizer_without_any_end_is_refused(make_model: Any) -> None:
    with pytest.raises(UserError, match="no control tokens"):
        tokens.load(make_model(added=[], template=None))
    with pytest.raises(UserError, match="end-of-text"):
        tokens.load(make_model(added=["<x>"], template=None, eos_token=None))


def test_tokenizer_that_joins_text_to_control_tokens_is_refused(make_model: Any) -> None:
    folder = make_model()
    file = folder / "tokenizer.json"
    state = json.loads(file.read_text())
    # as in Llama 2: only the first piece of a text begins with an extra space
    state["pre_tokenizer"] = {
        "type": "Metaspace",
        "replacement": "Ġ",
        "prepend_scheme": "first",
        "split": True,
    }
    file.write_text(json.dumps(state))
    with pytest.raises(UserError, match="differently after a control token"):
        tokens.load(folder)


def test_truncation_and_padding_of_the_file_are_ignored(make_model: Any) -> None:
    folder = make_model()
    state = json.loads((folder / "tokenizer.json").read_text())
    state["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (folder / "tokenizer.json").write_text(json.dumps(state))
    assert len(tokens.load(folder).encode("abcdefgh")) == 8


# ------------------------------------------------------------------------------ fingerprint


def test_fingerprint_is_of_the_content_not_the_place(make_model: Any, tmp_path: Path) -> None:
    folder = make_model()
    first = tokens.load(folder).fingerprint
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    config = json.loads((copied / "tokenizer_config.json").read_text())
    config["model_max_length"] = 7
    (copied / "tokenizer_config.json").write_text(json.dumps(config))
    assert tokens.load(copied).fingerprint == first
    assert len(first) == 64


def test_fingerprint_changes_with_all_that_decides_ids(make_model: Any) -> None:
    seen = {tokens.load(make_model()).fingerprint}
    seen.add(tokens.load(make_model(added=[*PLAIN])).fingerprint)
    seen.add(tokens.load(make_model(eos_token="<|endoftext|>")).fingerprint)
    folder = make_model()
    source = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text("{# changed #}" + source)
    seen.add(tokens.load(folder).fingerprint)
    assert len(seen) == 4


# ------------------------------------------------------------------------------ the template alone


def render(source: str, *messages: dict[str, Any], **more: Any) -> str:
    from codetune.tokens.template import ChatTemplate

    return ChatTemplate(source, {"bos_token": "<s>"}, "test").render(messages, **more)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ messages | length }}", "<s>1"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "<ä>"}'),
        (
            "{{ messages | tojson(indent=1) }}",
            '[\n {\n  "role": "user",\n  "content": "<ä>"\n }\n]',
        ),
        ("{% for m in messages %}\n  {% if m %}\nx\n  {% endif %}\n{% endfor %}\n", "x\n"),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
        ("{% generation %}{{ messages[0].role }}{% endgeneration %}!", "user!"),
        ("{% set ns = namespace(n=1) %}{% set ns.n = 2 %}{{ ns.n }}{{ dict(a=1) }}", "2{'a': 1}"),
        ("{{ add_generation_prompt }}{{ tools }}{{ missing is defined }}", "FalseNoneFalse"),
    ],
)
def test_template_language_equals_transformers(source: str, expected: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    message = {"role": "user", "content": "<ä>"}
    ours = render(source, message)
    theirs, _ = render_jinja_template([[message]], chat_template=source, bos_token="<s>")
    assert ours == theirs[0] == expected


def test_date_in_a_template_does_not_move() -> None:
    source = "{{ strftime_now('%d %b %Y') }}"
    assert render(source) == "01 Jan 2026"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ dict.__init__.__globals__ }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ namespace(__class__=1) }}",
        "{{ raise_exception('no') }}",
        "{{ 'a' * messages }}",
    ],
)
def test_template_cannot_reach_python_or_change_messages(source: str) -> None:
    with pytest.raises(tokens.RowDropped) as dropped:
        render(source, {"role": "user", "content": "q"})
    assert dropped.value.reason == "template_refused"


def test_floor_needs_neither_torch_nor_transformers(root: Path) -> None:
    code = (
        "import sys, codetune.tokens, codetune.tokens.packing, codetune.tokens.lengths;"
        "print([m for m in ('torch', 'transformers', 'datasets', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
