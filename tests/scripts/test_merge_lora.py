"""The merge stage as a user runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codetune import artefact

SCRIPT = "training/merge_lora.py"
Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, and `run/adapter` that names it by its fingerprint."""
    import tokenizers
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import models, pre_tokenizers
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from codetune.models import inspect_model

    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    model: Any = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads, initializer_range=0.2))
    model.bfloat16().save_pretrained(folder / "base")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.add_special_tokens(["<|endoftext|>"])
    words.save(str(folder / "base" / "tokenizer.json"))
    (folder / "base" / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    (folder / "base" / "LICENSE").write_text("terms")
    (folder / "base" / "README.md").write_text("card of the base")

    tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    tuned.save_pretrained(folder / "run" / "adapter")
    facts = inspect_model(folder / "base")
    noted = {"base_sha256": facts.weights_sha256, "base_path": str(folder / "base")}
    (folder / "run" / "adapter" / "codetune.json").write_text(json.dumps(noted))
    return folder


def test_merges_proves_and_is_then_up_to_date(
    run_script: Runner, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    base, adapter = trained / "base", trained / "run" / "adapter"
    arguments = ("--base_model", base, "--adapter", adapter, "--output", out, "--json")
    done = run_script(SCRIPT, *arguments)
    assert done.returncode == 0, done.stderr
    assert "base_model is read as model_name_or_path" in done.stderr  # the predecessor's flags
    assert artefact.verify(out) is None
    names = {file.name for file in out.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "LICENSE", "parity.json"} <= names
    assert "README.md" not in names
    proof = json.loads((out / "parity.json").read_bytes())
    assert proof["holds"] and proof["merged"]["mean_kl"] <= proof["largest_mean_kl"]
    assert proof["merged_against_4bit_with_adapter"]["mean_kl"] > 0
    assert json.loads(done.stdout)["parity"] == proof
    again = run_script(SCRIPT, *arguments)
    assert again.returncode == 0 and json.loads(again.stdout)["status"] == "up to date"


def test_another_base_is_refused_and_nothing_is_published(
    run_script: Runner, trained: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    other.mkdir()
    for file in (trained / "base").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] += 0.5
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    done = run_script(
        SCRIPT, "--model_name_or_path", other, "--adapter", trained / "run" / "adapter",
        "--output_dir", tmp_path / "m",
    )  # fmt: skip
    assert done.returncode == 3
    assert "was trained on another base" in done.stderr
    assert not (tmp_path / "m").exists()


def test_a_merge_that_fails_its_proof_is_not_published(
    run_script: Runner, trained: Path, tmp_path: Path
) -> None:
    """A merge that loses the adapter, by a fault put in from outside."""
    broken = tmp_path / "fault"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "from codetune.merging import stream\n"
        "from dataclasses import replace\n"
        "real = stream._changed\n"
        "stream._changed = lambda s, e, d: real(s, e, replace(d, scale=0.0))\n"
    )
    source = Path(__file__).parents[2] / "src"
    done = run_script(
        SCRIPT, "--adapter", trained / "run" / "adapter", "--output_dir", tmp_path / "m",
        "--no_compare_4bit", env={"PYTHONPATH": f"{broken}:{source}"},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "is not base plus adapter" in done.stderr
    assert not (tmp_path / "m").exists()
    assert not [p for p in tmp_path.iterdir() if "staging" in p.name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no finished training run here"),
        (["--adapter", "nowhere"], "is this an adapter folder"),
        (["--adapter", "{run}/adapter", "--model_name_or_path", "nowhere"], "no such model folder"),
        (["--adapter", "{run}/adapter", "--output_dir", "{run}"], "overlaps the adapter"),
        (["--adapter", "{run}/adapter", "--eval_file", "nowhere.jsonl"], "no such file"),
        (["--adapter", "{run}/adapter", "--parity_dtype", "int8"], "parity_dtype"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    run_script: Runner, trained: Path, arguments: list[str], said: str
) -> None:
    done = run_script(SCRIPT, *(word.format(run=trained / "run") for word in arguments))
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and said in errors[0]
    assert not (trained / "run" / "merged").exists()
