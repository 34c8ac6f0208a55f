"""The demo's base: its tokenizer and template, its corpus, and that it learns."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codetune import artefact, models, sample, tokens
from codetune.artefact import Origin
from codetune.models import demo_base, demo_corpus, demo_tokenizer
from codetune.models.demo_base import Pretrained, Recipe
from codetune.models.demo_corpus import Source
from codetune.tokens.template import ChatTemplate

ORIGIN = Origin("demo-base", 1, "0" * 64)
TINY = Recipe(
    vocab_size=700, hidden_size=64, intermediate_size=64, layers=1, sequence=32, batch=2, steps=12
)
TOOL = {
    "type": "function",
    "function": {"name": "Read", "parameters": {"type": "object", "properties": {"p": {}}}},
}


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return demo_corpus.standard_library(400_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sources: list[Source]) -> Path:
    """A demo base, tiny and hardly trained."""
    place = tmp_path_factory.mktemp("demo") / "base"
    demo_base.make_demo_base(place, sources[:60], TINY, ORIGIN)
    return place


@pytest.fixture(scope="module")
def tok(folder: Path) -> tokens.Tokenizer:
    return tokens.load(folder)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": name, "type": "function", "function": function}


# ---------------------------------------------------------------------------- tokenizer


def test_the_vocabulary_is_as_large_as_asked_special_tokens_last(tok: tokens.Tokenizer) -> None:
    assert tok.vocab_size == TINY.vocab_size
    ids = [tok.special(token) for token in demo_tokenizer.SPECIAL_TOKENS]
    assert ids == list(range(TINY.vocab_size - 22, TINY.vocab_size))


def test_special_tokens_stand_in_qwen_s_order(qwen_tokenizer: Path) -> None:
    added = json.loads((qwen_tokenizer / "tokenizer.json").read_bytes())["added_tokens"]
    theirs = [entry["content"] for entry in sorted(added, key=lambda entry: entry["id"])]
    assert theirs == list(demo_tokenizer.SPECIAL_TOKENS)


def test_text_is_cut_into_words_as_qwen_does(qwen_tokenizer: Path, folder: Path) -> None:
    theirs, ours = (
        json.loads((place / "tokenizer.json").read_bytes()) for place in (qwen_tokenizer, folder)
    )
    assert ours["normalizer"] == theirs["normalizer"]
    cut, to_bytes = (one["pre_tokenizer"]["pretokenizers"][0] for one in (ours, theirs))
    assert cut == to_bytes
    assert ours["model"]["ignore_merges"] == theirs["model"]["ignore_merges"]


def test_equal_texts_give_an_equal_tokenizer(sources: list[Source]) -> None:
    texts = [source.text for source in sources[:40]]
    one, two = (demo_tokenizer.train_tokenizer(texts, 600).to_str() for _ in range(2))
    assert one == two


def test_too_little_text_is_said() -> None:
    with pytest.raises(ValueError, match="only"):
        demo_tokenizer.train_tokenizer(["def f(): pass"], 4096)


@given(text=st.text(max_size=60))
@settings(max_examples=60)
def test_every_text_comes_back(tok: tokens.Tokenizer, text: str) -> None:
    assert tok.decode(tok.encode(text)) == unicodedata.normalize("NFC", text)


def test_transformers_reads_the_same_ids(folder: Path, tok: tokens.Tokenizer) -> None:
    import transformers

    theirs: Any = transformers.AutoTokenizer.from_pretrained(folder)
    text = "def f(x):\n    return x + 12  # caf\u00e9"
    assert theirs(text)["input_ids"] == tok.encode(text)
    assert (theirs.eos_token, theirs.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_both_ends_and_the_gap_form_are_known(tok: tokens.Tokenizer) -> None:
    assert tok.end_of_turn_id == tok.special("<|im_end|>")
    assert tok.end_of_text_id == tok.special("<|endoftext|>")
    assert tok.fim is not None
    assert tok.fim.name == "qwen2.5-coder"


# ---------------------------------------------------------------------------- template

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello."}
ASKS = {"role": "assistant", "content": "Let me look.", "tool_calls": [call("Read", p="a b\n")]}
ASKS_TWICE = {"role": "assistant", "content": "", "tool_calls": [call("Read"), call("Bash", n=1)]}
RESULT = {"role": "tool", "content": "1\n2", "tool_call_id": "Read"}
CHATS = {
    "plain": [USER, ANSWER],
    "system": [SYSTEM, USER, ANSWER],
    "late system": [USER, ANSWER, SYSTEM, USER, ANSWER],
    "call": [USER, ASKS, RESULT, ANSWER],
    "parallel calls": [SYSTEM, USER, ASKS_TWICE, RESULT, RESULT, ANSWER, USER],
    "results at the end": [USER, ASKS_TWICE, RESULT, RESULT],
    "result first": [RESULT, ANSWER],
    "call without answer": [USER, ASKS, USER],
    "not ASCII": [{"role": "user", "content": "\u2028\U0001f600 <b>&'\""}, ANSWER],
    "unknown role": [USER, {"role": "critic", "content": "no"}, ANSWER],
}


@pytest.fixture(scope="session")
def qwen_template(qwen_tokenizer: Path) -> ChatTemplate:
    return ChatTemplate((qwen_tokenizer / "chat_template.jinja").read_text(), {}, "qwen")


OURS = ChatTemplate(demo_tokenizer.CHAT_TEMPLATE, {}, "demo")


def in_our_words(theirs: ChatTemplate, text: str) -> str:
    """What their template rendered, with our three sentences in place of theirs."""
    bare = theirs.render([USER])
    prompt = bare[len("<|im_start|>system\n") : bare.index("<|im_end|>")]
    asked = theirs.render([{"role": "system", "content": ""}], [None])
    before, after = asked[len("<|im_start|>system\n") : -len("<|im_end|>\n")].split("\nnull")
    text = text.replace(f"system\n{prompt}", f"system\n{demo_tokenizer.SYSTEM_PROMPT}", 1)
    text = text.replace(before, demo_tokenizer.TOOLS_BEFORE, 1)
    return text.replace(after, demo_tokenizer.TOOLS_AFTER, 1)


@pytest.mark.parametrize("generate", [False, True])
@pytest.mark.parametrize("tools", [[], [TOOL], [TOOL, TOOL]], ids=["no tools", "one", "two"])
@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS.keys())
def test_chats_render_as_with_qwen_but_for_three_sentences(
    qwen_template: ChatTemplate, chat: list[dict[str, Any]], tools: list[Any], generate: bool
) -> None:
    ours = OURS.render(chat, tools, generate=generate)
    theirs = qwen_template.render(chat, tools, generate=generate)
    assert ours != theirs or chat[0] is SYSTEM
    assert ours == in_our_words(qwen_template, theirs)


@st.composite
def chats(draw: st.DrawFn) -> list[dict[str, Any]]:
    text = st.text(max_size=12)
    calls = st.lists(
        st.builds(call, st.sampled_from(["Read", "Bash"]), p=st.integers() | text), max_size=3
    )
    one = st.one_of(
        st.builds(lambda c: {"role": "user", "content": c}, text),
        st.builds(lambda c: {"role": "system", "content": c}, text),
        st.builds(lambda c: {"role": "tool", "content": c}, text),
        st.builds(lambda c, t: {"role": "assistant", "content": c, "tool_calls": t}, text, calls),
    )
    return draw(st.lists(one, min_size=1, max_size=6))


@given(chat=chats(), with_tools=st.booleans())
@settings(max_examples=150)
def test_any_chat_renders_as_with_qwen(
    qwen_template: ChatTemplate, chat: list[dict[str, Any]], with_tools: bool
) -> None:
    tools = [TOOL] if with_tools else []
    ours = OURS.render(chat, tools)
    assert ours == in_our_words(qwen_template, qwen_template.render(chat, tools))


def test_transformers_renders_our_template_alike(folder: Path) -> None:
    import transformers

    theirs: Any = transformers.AutoTokenizer.from_pretrained(folder)
    for chat in CHATS.values():
        text = theirs.apply_chat_template(chat, tools=[TOOL], tokenize=False)
        assert text == OURS.render(chat, [TOOL])


def test_the_words_are_our_own(qwen_tokenizer: Path) -> None:
    theirs = (qwen_tokenizer / "chat_template.jinja").read_text()
    for sentence in (demo_tokenizer.SYSTEM_PROMPT, demo_tokenizer.TOOLS_BEFORE):
        assert sentence.strip() not in theirs
    assert "Alibaba" not in demo_tokenizer.CHAT_TEMPLATE


# ---------------------------------------------------------------------------- corpus


def test_the_corpus_is_bounded_and_always_the_same(sources: list[Source]) -> None:
    again = demo_corpus.standard_library(400_000)
    assert demo_corpus.fingerprint(again) == demo_corpus.fingerprint(sources)
    size = sum(len(source.text.encode()) for source in sources)
    assert 400_000 <= size < 400_000 + 40_000
    longer = demo_corpus.standard_library(500_000)
    assert [s.name for s in longer[: len(sources)]] == [s.name for s in sources]


def test_the_corpus_is_code_that_people_write(sources: list[Source]) -> None:
    for source in sources:
        assert source.name.endswith(".py")
        assert not {"test", "site-packages", "idlelib"} & set(Path(source.name).parts)


def test_the_fingerprint_sees_names_and_texts() -> None:
    seen = {
        demo_corpus.fingerprint([Source("a", "x")]),
        demo_corpus.fingerprint([Source("b", "x")]),
        demo_corpus.fingerprint([Source("a", "y")]),
        demo_corpus.fingerprint([Source("a", "x"), Source("b", "x")]),
    }
    assert len(seen) == 4


def test_a_python_without_its_library_s_source_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only.py").write_text("x = 1\n" * 100)
    monkeypatch.setattr(demo_corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(demo_corpus.UserError, match=r"only 1 Python source files"):
        demo_corpus.standard_library(400_000)


def test_lessons_are_valid_rows_of_all_three_tasks(sources: list[Source]) -> None:
    rows = list(demo_corpus.lessons(sources))
    assert {row["task"] for row in rows} == {"text", "fim", "chat"}
    assert [sample.check(row) for row in rows if sample.check(row)] == []
    assert len({row["id"] for row in rows}) == len(rows)


def test_a_gap_s_parts_stand_in_the_file(sources: list[Source]) -> None:
    texts = {source.name: source.text for source in sources}
    gaps = [row for row in demo_corpus.lessons(sources) if row["task"] == "fim"]
    assert gaps
    for row in gaps:
        whole = row["prefix"] + row["middle"] + row["suffix"]
        assert whole in texts[row["id"].rsplit(":", 1)[0]]
        assert row["prefix"]
        assert row["middle"].strip()


def test_dialogues_ask_for_the_function_they_answer_with() -> None:
    text = 'def double(x):\n    """Return twice x."""\n    return 2 * x\n'
    body = text.strip()
    source = next(  # a name whose lot falls on dialogues
        Source(name, text + "\n\n" + text.replace("double", "twice"))
        for name in map("{}.py".format, range(99))
        if 0.2 <= sample.draw(name, "demo-lesson") < 0.4
    )
    looked_up, written = demo_corpus.lessons([source])
    asked, answered = written["messages"]
    assert asked["content"] == "Write a function: Return twice x."
    assert answered["content"] == f"```python\n{body.replace('double', 'twice')}\n```"
    assert looked_up["messages"][1]["tool_calls"][0]["function"]["name"] == "Read"
    assert looked_up["messages"][2] == {"role": "tool", "content": body, "tool_call_id": "1"}


# ---------------------------------------------------------------------------- pre-training


def test_every_special_token_that_tuning_uses_has_been_seen(
    sources: list[Source], tok: tokens.Tokenizer
) -> None:
    seen = set(demo_base.token_blocks(sources, tok, TINY).flatten().tolist())
    used = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<|endoftext|>")
    gaps = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    assert {tok.special(token) for token in (*used, *gaps)} <= seen


def test_the_rate_rises_then_falls_to_a_twentieth() -> None:
    rates = [demo_base._rate(step, 200) for step in range(200)]
    assert rates[0] == pytest.approx(1 / 12)
    assert rates.index(max(rates)) == 11
    assert rates[11:] == sorted(rates[11:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.001)


def test_loss_falls(sources: list[Source], tok: tokens.Tokenizer) -> None:
    recipe = dataclasses.replace(TINY, steps=40)
    model = demo_base.untrained(recipe, tok)
    blocks = demo_base.token_blocks(sources[:20], tok, recipe)
    losses = list(demo_base.pretrain(model, blocks, recipe))
    assert len(losses) == 40
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 1.0


def test_a_seed_gives_one_result(tmp_path: Path, sources: list[Source]) -> None:
    recipe = dataclasses.replace(TINY, steps=3)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made = dataclasses.replace(recipe, seed=seed)
        demo_base.make_demo_base(tmp_path / name, sources[:60], made, ORIGIN)
    files = [artefact.read_manifest(tmp_path / name)["files"] for name in "abc"]
    assert files[0] == files[1]
    assert files[0]["model.safetensors"] != files[2]["model.safetensors"]
    assert files[0]["tokenizer.json"] == files[2]["tokenizer.json"]


def test_nothing_is_published_when_training_breaks(tmp_path: Path, sources: list[Source]) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo_base.make_demo_base(tmp_path / "base", sources[:60], TINY, ORIGIN, stop)
    assert list(tmp_path.iterdir()) == []


def test_the_account_smooths_the_curve() -> None:
    made = Pretrained(1, 1, (8.0, 6.0, 4.0, 2.0, 1.0))
    assert made.smoothed(2) == [(3, 6.0), (5, 1.5)]
    assert made.smoothed(9) == [(1, 8.0), (2, 6.0), (3, 4.0), (4, 2.0), (5, 1.0)]


def test_the_folder_is_a_model_that_may_be_loaded(folder: Path) -> None:
    facts = models.inspect_model(folder)
    assert (facts.model_type, facts.dtype) == ("qwen2", "float32")
    assert artefact.verify(folder) is None


def test_it_ends_at_a_turn_and_at_a_text(folder: Path, tok: tokens.Tokenizer) -> None:
    ends = json.loads((folder / "generation_config.json").read_bytes())["eos_token_id"]
    assert set(ends) == {tok.end_of_turn_id, tok.end_of_text_id}


def test_its_linear_weights_load_in_four_bits(folder: Path) -> None:
    import bitsandbytes

    model = models.load_base(folder, "4bit", "float32", "cpu").model
    layer = model.model.layers[0]
    for linear in (layer.self_attn.q_proj, layer.mlp.down_proj):
        assert isinstance(linear.weight, bitsandbytes.nn.Params4bit)


def test_the_recipe_of_the_demo_is_a_few_million_parameters(
    folder: Path, tok: tokens.Tokenizer
) -> None:
    recipe = Recipe()
    assert 4096 <= recipe.vocab_size <= 8192
    model = demo_base.untrained(recipe, tok)
    assert 2e6 < sum(p.numel() for p in model.parameters()) < 5e6


# ---------------------------------------------------------------------------- the stage


def test_the_stage_makes_it_once(
    run_script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    flags = ("--max_steps", 1, "--corpus_bytes", 400_000, "--json")
    first = run_script("training/make_demo_base.py", *flags)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["status"] == "done"
    again = run_script("training/make_demo_base.py", *flags)
    assert json.loads(again.stdout)["status"] == "up to date"
    assert "Traceback" not in first.stderr + again.stderr
