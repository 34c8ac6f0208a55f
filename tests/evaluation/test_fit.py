"""Whether a model fits, from its parameter count and the memory there is."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from codetune.errors import UserError
from codetune.evaluation.fit import budgets, bytes_needed, choose_quant, parse_size

GB = 10**9
# Parameter counts and shapes as their model cards give them.
SHAPES = {
    "0.5b": (494_032_768, 896, 151_936, True),
    "7b": (7_615_616_512, 3_584, 152_064, False),
    "14b": (14_770_033_664, 5_120, 152_064, False),
    "32b": (32_763_876_352, 5_120, 152_064, False),
}


def facts(size: str) -> SimpleNamespace:
    count, hidden, vocabulary, tied = SHAPES[size]
    config = {"hidden_size": hidden, "vocab_size": vocabulary, "tie_word_embeddings": tied}
    return SimpleNamespace(n_parameters=count, config=config, path=Path(size))


@pytest.mark.parametrize(
    ("size", "quant", "device", "low", "high"),
    [
        ("0.5b", "none", "cuda", 1.0, 2.2),
        ("7b", "none", "cuda", 15.2, 19.0),
        ("7b", "8bit", "cuda", 8.6, 11.0),
        ("7b", "4bit", "cuda", 5.4, 7.5),  # its published NF4 weights take 5.5 GB
        ("14b", "4bit", "cuda", 9.5, 12.5),
        ("32b", "4bit", "cuda", 18.5, 23.0),
        ("7b", "none", "cpu", 30.4, 36.5),
    ],
)
def test_the_estimate_is_in_the_right_range(size, quant, device, low, high):
    assert low * GB < bytes_needed(facts(size), quant, device) < high * GB


@pytest.mark.parametrize(
    ("wanted", "gpu_gb", "quant"),
    [
        ("auto", 80, "none"),
        ("auto", 12, "8bit"),
        ("auto", 8, "4bit"),
        ("auto", 4, None),
        ("4bit", 80, "4bit"),
        ("8bit", 8, None),
        ("none", 12, None),
    ],
)
def test_auto_is_the_least_quantised_that_fits(wanted, gpu_gb, quant):
    chosen, why = choose_quant(wanted, facts("7b"), "cuda", (64 * GB, gpu_gb * GB))
    assert chosen == quant
    assert bool(why) is (quant is None)


def test_the_reason_names_need_and_budget():
    _, why = choose_quant("4bit", facts("32b"), "cpu", (8 * GB, 8 * GB))
    assert "of memory in 4bit; 8.0 GB may be used" in why


def test_large_models_can_be_left_out_when_ram_is_low():
    room = (8 * GB, 80 * GB)
    assert choose_quant("4bit", facts("14b"), "cuda", room)[0] == "4bit"
    quant, why = choose_quant("4bit", facts("14b"), "cuda", room, skip_large=True)
    assert quant is None and why.startswith("large, and 8.0 GB of RAM")
    assert choose_quant("4bit", facts("7b"), "cuda", room, skip_large=True)[0] == "4bit"


def test_a_budget_never_exceeds_what_is_free():
    free = budgets(None, None, "cpu")[0]
    assert budgets(1_000, None, "cpu") == (1_000, 1_000)
    assert budgets(free * 100, None, "cpu")[0] <= free * 1.5


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("9GB", 9 * GB),
        ("9", 9 * GB),
        (" 7.5 gib ", int(7.5 * 2**30)),
        ("800MB", 800 * 10**6),
        ("512mib", 512 * 2**20),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-3GB", "0", "9TB", "9 GB extra", "nine"])
def test_what_is_no_size_is_the_users_error(text):
    with pytest.raises(UserError, match="is no size"):
        parse_size(text)
