"""The proof passes a right merge and fails wrong ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codetune.errors import RefusedError, UserError
from codetune.merging import adapter as adapters
from codetune.merging import (
    check_memory,
    check_target,
    compare,
    file_chunks,
    load_adapter,
    merge_weights,
    model_files,
    prompts,
    prove,
    tolerance,
)
from codetune.models import inspect_model

Make = Callable[..., Path]


class Canned:
    """A model whose logits are given."""

    device = "cpu"

    def __init__(self, logits: Any) -> None:
        self.logits = logits

    def __call__(self, input_ids: Any, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.logits[None, : input_ids.shape[1]])


def test_distances_are_those_of_the_formulas() -> None:
    import torch

    reference = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]))
    other = torch.log(torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.2, 0.6]]))
    found = compare([reference], Canned(other), [[0, 0]])
    expected = 0.5 * math.log(2) - 0.25 * math.log(2)  # of the first token; the second is equal
    assert found.max_kl == pytest.approx(expected, rel=1e-6)
    assert found.mean_kl == pytest.approx(expected / 2, rel=1e-6)
    assert found.max_delta == pytest.approx(math.log(2), rel=1e-6)
    assert (found.top1_agreement, found.tokens) == (0.5, 2)


def test_blocks_of_positions_add_up() -> None:
    import torch

    torch.manual_seed(0)
    one, two = torch.randn(70, 9), torch.randn(70, 9)
    whole = compare([one], Canned(two), [[0] * 70])
    rows = [compare([one[i : i + 1]], Canned(two[i : i + 1]), [[0]]) for i in range(70)]
    assert whole.mean_kl == pytest.approx(sum(r.mean_kl for r in rows) / 70)
    assert whole.max_delta == max(r.max_delta for r in rows)
    assert whole.top1_agreement == pytest.approx(sum(r.top1_agreement for r in rows) / 70)


def test_the_tolerance_follows_the_coarser_type_and_what_was_learned() -> None:
    assert tolerance(("float32", "float32"), 1.0) == 1e-8
    assert tolerance(("bfloat16", "float32"), 1.0) == tolerance(("float16", "bfloat16"), 1.0)
    much, little, nothing = (tolerance(("bfloat16",), kl) for kl in (1.0, 4e-3, 0.0))
    assert much > little > nothing > 0
    assert little == pytest.approx(1e-3)
    for learned in (1.0, 1e-1, 1e-2, 1e-3):  # a lost adapter is as far away as it learned
        assert learned > tolerance(("bfloat16", "float32"), learned)


def merged(base: Path, adapter: Path, out: Path) -> Path:
    out.mkdir()
    facts = inspect_model(base)
    for file in model_files(facts):
        (out / file.name).write_bytes(b"".join(file_chunks(file)))
    merge_weights(facts, load_adapter(adapter), out)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_right_merge_holds(
    make_base: Make, make_adapter: Make, tmp_path: Path, dtype: str
) -> None:
    base = make_base(dtype)
    adapter = make_adapter(base)
    out = merged(base, adapter, tmp_path / "out")
    proof = prove(inspect_model(base), adapter, out, prompts(base, None))
    assert proof.holds, proof
    assert proof.learned.mean_kl > 20 * proof.merged.mean_kl
    assert proof.live is not None and proof.live.mean_kl > proof.merged.mean_kl
    assert json.loads(json.dumps(proof.as_dict()))["holds"] is True


def change_scale(adapter: Path, factor: float) -> None:
    config = json.loads((adapter / adapters.CONFIG).read_bytes())
    config["lora_alpha"] *= factor
    (adapter / adapters.CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "fault", ["nothing merged", "twice", "half", "one module lost", "into 4 bits"]
)
def test_wrong_merges_do_not_hold(
    make_base: Make, make_adapter: Make, tmp_path: Path, dtype: str, fault: str
) -> None:
    base = make_base(dtype)
    adapter = make_adapter(base)
    wrong = make_adapter(
        base,
        **(
            {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
            if fault == "one module lost"
            else {}
        ),
    )
    change_scale(wrong, {"nothing merged": 0.0, "twice": 2.0, "half": 0.5}.get(fault, 1.0))
    out = merged(base, wrong, tmp_path / "out")
    if fault == "into 4 bits":
        round_to_four_bits(out)
    proof = prove(inspect_model(base), adapter, out, prompts(base, None), with_live=False)
    assert not proof.holds, proof
    assert proof.live is None


def round_to_four_bits(folder: Path) -> None:
    """What merging into the quantised base would leave."""
    import bitsandbytes.functional as nf4
    from safetensors.torch import load_file, save_file

    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        for name, weight in tensors.items():
            if "proj" in name and weight.ndim == 2:
                packed, state = nf4.quantize_4bit(weight.float(), quant_type="nf4")
                tensors[name] = nf4.dequantize_4bit(packed, state).to(weight.dtype)
        save_file(tensors, file, metadata={"format": "pt"})


def test_prompts_come_from_the_rows_given(make_base: Make, tmp_path: Path) -> None:
    base, file = make_base(), tmp_path / "eval.jsonl"
    meta = {"source": "x", "group": "g"}
    rows = [
        {"id": str(i), "task": "text", "text": f"row {i} " * 40, "meta": meta} for i in range(9)
    ]
    chat = {
        "id": "c",
        "task": "chat",
        "meta": meta,
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a", "train": True},
        ],
    }
    lines = [b"not json", *(json.dumps(row).encode() for row in [chat, *rows])]
    file.write_bytes(b"\n".join(lines))
    found = prompts(base, file)
    assert len(found) == 4 and max(map(len, found)) <= 96
    assert found == prompts(base, file)
    assert len(prompts(base, None)) == 4
    file.write_bytes(b"not json\n")
    with pytest.raises(UserError, match="no row that can be tokenised"):
        prompts(base, file)


def test_a_changed_tokenizer_is_refused(make_base: Make, make_adapter: Make) -> None:
    from codetune import tokens

    base = make_base()
    adapter = make_adapter(base)
    noted = {
        "base_sha256": inspect_model(base).weights_sha256,
        "tokenizer_sha256": tokens.load(base).fingerprint,
    }
    (adapter / adapters.FACTS).write_text(json.dumps(noted))
    assert adapters.check_base(load_adapter(adapter), inspect_model(base)) is None
    template = base / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>\n", "<|im_end|>"))
    with pytest.raises(RefusedError, match="chat template is not the one"):
        adapters.check_base(load_adapter(adapter), inspect_model(base))


def test_too_large_a_model_is_refused_before_any_work(
    make_base: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    facts = inspect_model(make_base())
    check_memory(facts, "float32")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(UserError, match="--parity_dtype bfloat16"):
        check_memory(facts, "float32")


def test_a_target_never_replaces_what_is_not_ours(tmp_path: Path) -> None:
    base, adapter, other = (tmp_path / name for name in ("base", "run/adapter", "other"))
    for folder in (base, adapter, other):
        folder.mkdir(parents=True)
    check_target(tmp_path / "run/merged", base, adapter)
    check_target(other, base, adapter)  # empty
    for wrong in (base, base / "merged", adapter, tmp_path, tmp_path / "run"):
        with pytest.raises(UserError, match="overlaps the"):
            check_target(wrong, base, adapter)
    (other / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="no merged model of ours"):
        check_target(other, base, adapter)
    (other / "manifest.json").write_text('{"stage": "merge"}')
    check_target(other, base, adapter)
