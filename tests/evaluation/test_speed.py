"""Timing a model: what is measured, how often, and what happens when a process dies."""

import json
import shutil
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy
import pytest
import torch

from codetune import tokens
from codetune.errors import UserError
from codetune.evaluation import speed
from codetune.evaluation.speed import Job, Spread, measure, measure_apart, peak_rss, prompt_ids
from tests.evaluation import dying, tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("speed") / "small", steps=0)


@pytest.fixture
def job(base: Path) -> Job:
    return Job("small", base, "none", prompt_tokens=40, new_tokens=(4, 8), repeats=3, device="cpu")


@pytest.mark.parametrize("samples", [[3.0], [1.0, 2.0], [5.0, 1.0, 4.0, 2.0], list(range(9))])
def test_quartiles_are_those_of_numpy(samples):
    found = Spread.of(samples)
    expected = numpy.percentile(samples, [25, 50, 75])
    assert (found.q1, found.median, found.q3) == pytest.approx(tuple(expected))
    assert found.samples == tuple(samples)


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([100.0, 200.0, 300.0], "200 ± 50"),
        ([10.0, 20.0, 30.0], "20.0 ± 5.0"),
        ([1.0], "1.00 ± 0.00"),
    ],
)
def test_a_spread_as_text(samples, text):
    assert str(Spread.of(samples)) == text


def test_what_is_measured(job):
    found = measure(job)
    assert found.skipped == ""
    assert (found.name, found.quant, found.prompt_tokens) == ("small", "none", 40)
    assert set(found.decode) == {4, 8}
    assert len(found.ttft_ms.samples) == len(found.prefill.samples) == 6  # both lengths, thrice
    assert all(len(spread.samples) == 3 for spread in found.decode.values())
    assert found.prefill.median == pytest.approx(40 / (found.ttft_ms.median / 1e3), rel=0.5)
    assert found.model_bytes > 100_000 and found.cpu_peak > found.model_bytes
    assert found.gpu_peak is None and found.where["device"] == "cpu"
    json.dumps(asdict(found))


def test_the_warm_up_is_not_among_the_samples(job, monkeypatch):
    calls = []

    def timed(loaded, prompt, count):
        calls.append(count)
        return (0.001 if len(calls) > 2 else 9.0), 1.0, [1]

    monkeypatch.setattr(speed, "_generate", timed)
    found = measure(replace(job, new_tokens=(5,), warmup=2, repeats=3))
    assert calls == [5] * 5
    assert found.ttft_ms.samples == (1.0, 1.0, 1.0)
    assert found.prefill.median == pytest.approx(40_000)
    assert found.decode[5].median == pytest.approx(4.0)  # the first of five is not decoding


class Clock:
    """A model whose time is counted: a token of the prompt takes 1, a step 10 seconds."""

    def __init__(self) -> None:
        self.now, self.sizes = 0.0, []

    def forward(self, input_ids, past_key_values, use_cache, logits_to_keep):
        raise AssertionError

    def __call__(self, input_ids, past_key_values, use_cache, logits_to_keep):
        assert use_cache and logits_to_keep == 1
        self.sizes.append(input_ids.shape[1])
        self.now += input_ids.shape[1] if past_key_values is None else 10.0
        scores = torch.zeros(1, 1, 50)
        scores[..., len(self.sizes)] = 1.0
        return type("Out", (), {"logits": scores, "past_key_values": "cache"})()


def test_prefill_and_decode_are_timed_apart(monkeypatch):
    model = Clock()
    loaded = type("Loaded", (), {"model": model, "device": "cpu"})()
    monkeypatch.setattr(speed, "_now", lambda loaded: model.now)
    first, rest, made = speed._generate(loaded, torch.zeros(1, 30, dtype=torch.long), 5)
    assert (first, rest) == (30.0, 40.0)
    assert made == [1, 2, 3, 4, 5]
    assert model.sizes == [30, 1, 1, 1, 1]


def test_the_tokens_are_those_of_greedy_generation(job, base):
    from codetune.models import load_base

    loaded = load_base(base, "none", dtype="float32", device="cpu")
    prompt = torch.tensor([prompt_ids(job, tokens.load(base), 100)])
    made = speed._generate(loaded, prompt, 12)[2]
    options = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    expected = loaded.model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    assert made == expected[0, prompt.shape[1] :].tolist()


def test_prompts(job, base):
    tok = tokens.load(base)
    assert len(prompt_ids(job, tok, 1_000)) == 40
    assert len(prompt_ids(replace(job, prompt_tokens=5_000), tok, 300)) == 300
    own = prompt_ids(replace(job, prompt="hello <|im_end|>"), tok, 1_000)
    text = tok.decode(own)
    assert text.startswith("<|im_start|>user\nhello") and text.endswith("<|im_start|>assistant\n")
    assert own.count(tok.end_of_turn_id) == 1  # the one in the prompt stayed plain text


def test_a_base_without_chat_template_gets_the_prompt_as_it_is(job, base, tmp_path):
    plain = shutil.copytree(base, tmp_path / "plain")
    config = json.loads((plain / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (plain / "tokenizer_config.json").write_text(json.dumps(config))
    tok = tokens.load(plain)
    assert tok.decode(prompt_ids(replace(job, prompt="def f():"), tok, 100)) == "def f():"


def test_the_answer_to_a_prompt_is_kept_up_to_its_end_token(base):
    tok = tokens.load(base)
    ids = [*tok.encode("yes, it is"), tok.end_of_turn_id, *tok.encode("noise")]
    assert speed._shown(tok, ids) == "yes, it is"
    assert speed._shown(tok, tok.encode("no end")) == "no end"


@pytest.mark.parametrize("quant", ["4bit", "8bit"])
def test_quantised_models_are_measured_too(job, quant, capfd):
    found = measure(replace(job, quant=quant, new_tokens=(3,), repeats=1))
    assert (found.quant, found.skipped) == (quant, "")
    assert "MatMul8bitLt" not in capfd.readouterr().err


def test_what_does_not_fit_is_not_loaded(job, monkeypatch):
    monkeypatch.setattr("codetune.models.load_base", lambda *a, **k: pytest.fail("was loaded"))
    found = measure(replace(job, ram_bytes=10_000_000))
    assert "needs about" in found.skipped and found.prefill is None


@pytest.mark.parametrize("problem", [torch.OutOfMemoryError("CUDA"), MemoryError()])
def test_running_out_of_memory_is_a_reason(job, monkeypatch, problem):
    def fails(*arguments, **options):
        raise problem

    monkeypatch.setattr("codetune.models.load_base", fails)
    assert "out of" in measure(job).skipped


def test_a_missing_model_is_the_users_error_through_the_process(job, tmp_path):
    with pytest.raises(UserError, match="no such model folder"):
        measure_apart(replace(job, path=tmp_path / "absent"))


def test_apart_gives_the_same_facts_and_honest_memory(job):
    ballast = bytearray(300 << 20)
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])
    before = peak_rss()
    found = measure_apart(replace(job, new_tokens=(4,), repeats=2))
    assert found.skipped == "" and set(found.decode) == {4}
    assert before > 300 << 20
    assert peak_rss() - before < 50 << 20  # the model was not loaded here
    del ballast


def test_a_killed_process_is_a_skipped_result(job, monkeypatch):
    monkeypatch.setattr(speed, "_measure_and_send", dying.killed)
    assert "killed" in measure_apart(job).skipped


def test_a_bug_in_the_process_is_no_skipped_result(job, monkeypatch):
    monkeypatch.setattr(speed, "_measure_and_send", dying.fails)
    with pytest.raises(RuntimeError, match="the measurement failed"):
        measure_apart(job)


def test_an_interrupt_ends_the_process(job, monkeypatch):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, "_measure_and_send", dying.never_ends)
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(3)
    try:
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            measure_apart(job)
        assert time.monotonic() - started < 30
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_peak_memory_is_what_was_held_not_what_is_held():
    before = peak_rss()
    block = bytearray(100 << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    del block
    assert peak_rss() >= before
    assert peak_rss() > 50 << 20
