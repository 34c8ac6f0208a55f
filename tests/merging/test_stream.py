"""The streamed merge is bit-identical to peft's, and refuses what it cannot do exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codetune.errors import RefusedError, UserError
from codetune.merging import adapter as adapters
from codetune.merging import load_adapter, stream
from codetune.models import inspect_model

Make = Callable[..., Path]


def read_all(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {k: v for f in sorted(folder.glob("*.safetensors")) for k, v in load_file(f).items()}


def merge_into(base: Path, adapter: Path, out: Path) -> dict[str, Any]:
    out.mkdir()
    stream.merge_weights(inspect_model(base), load_adapter(adapter), out)
    return read_all(out)


def assert_same_bits(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    import torch

    for name, tensor in ours.items():
        expected = theirs[name]
        assert tensor.dtype == expected.dtype, name
        assert torch.equal(tensor.view(torch.uint8), expected.view(torch.uint8)), name


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"use_rslora": True, "lora_alpha": 10}, id="rslora"),
        pytest.param({"r": 3, "lora_alpha": 7}, id="scale without exact fraction"),
        pytest.param(
            {
                "rank_pattern": {"q_proj": 4, r"layers\.1\.mlp\.up_proj": 16},
                "alpha_pattern": {"down_proj": 5, "model.layers.0.self_attn.q_proj": 3},
                "use_rslora": True,
            },
            id="patterns",
        ),
        pytest.param({"target_modules": ["q_proj"], "layers_to_transform": [1]}, id="one layer"),
        pytest.param({"r": 300, "lora_alpha": 33}, id="rank above width"),
    ],
)
def test_bit_identical_to_peft(
    make_base: Make, make_adapter: Make, by_peft: Any, tmp_path: Path, dtype: str, options: Any
) -> None:
    base = make_base(dtype)
    adapter = make_adapter(base, **options)
    ours = merge_into(base, adapter, tmp_path / "out")
    before = read_all(base)
    assert_same_bits(ours, by_peft(base, adapter))
    changed = [name for name in ours if not before[name].equal(ours[name])]
    assert sorted(changed) == sorted(load_adapter(adapter).deltas)


@pytest.mark.parametrize("tied", [True, False])
def test_shards_keep_their_layout(
    make_base: Make, make_adapter: Make, by_peft: Any, tmp_path: Path, tied: bool
) -> None:
    base = make_base(tied=tied, shard="100KB")
    adapter = make_adapter(base)
    ours = merge_into(base, adapter, tmp_path / "out")
    names = [file.name for file in sorted(base.glob("*.safetensors"))]
    assert len(names) > 2
    assert names == [file.name for file in sorted((tmp_path / "out").iterdir())]
    for name in names:
        was, now = (stream.read_header(f / name) for f in (base, tmp_path / "out"))
        assert (was.start, was.entries) == (now.start, now.entries)
    assert_same_bits(ours, by_peft(base, adapter))
    index = base / "model.safetensors.index.json"
    assert index in stream.model_files(inspect_model(base))
    assert set(json.loads(index.read_bytes())["weight_map"]) == set(ours)


def test_an_untied_head_is_merged(
    make_base: Make, make_adapter: Make, by_peft: Any, tmp_path: Path
) -> None:
    base = make_base(tied=False)
    adapter = make_adapter(base, target_modules=["lm_head", "q_proj"])
    with pytest.raises(UserError, match=r"lm_head\.base_layer\.weight"):
        _ = load_adapter(
            adapter
        ).deltas  # peft's copy of the whole head: as good as modules_to_save
    rewrite_weights(adapter, lambda t: {k: v for k, v in t.items() if "base_layer" not in k})
    assert_same_bits(merge_into(base, adapter, tmp_path / "out"), by_peft(base, adapter))


@pytest.mark.parametrize("elements", [64, 700, 64 * 65, 1 << 20])
def test_bits_do_not_depend_on_the_chunk(
    make_base: Make,
    make_adapter: Make,
    by_peft: Any,
    tmp_path: Path,
    elements: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "_CHUNK_ELEMENTS", elements)
    base = make_base()
    adapter = make_adapter(base)
    assert_same_bits(merge_into(base, adapter, tmp_path / "out"), by_peft(base, adapter))


def test_a_sixteen_bit_adapter_is_read_as_peft_reads_it(
    make_base: Make, make_adapter: Make, by_peft: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    base = make_base()
    adapter = make_adapter(base)
    weights = adapter / adapters.WEIGHTS
    half = {name: tensor.bfloat16() for name, tensor in load_file(weights).items()}
    save_file(half, weights, metadata={"format": "pt"})
    assert_same_bits(merge_into(base, adapter, tmp_path / "out"), by_peft(base, adapter))


def test_a_zero_adapter_changes_nothing(
    make_base: Make, make_adapter: Make, tmp_path: Path
) -> None:
    base = make_base()
    merge_into(base, make_adapter(base, strength=0.0), tmp_path / "out")
    for file in base.glob("*.safetensors"):
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "lora_bias"),
        ({"bias": "lora_only"}, "uses bias"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"target_modules": ["embed_tokens"]}, "no LoRA weight of a linear layer"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    ],
)
def test_what_is_not_exact_is_refused(
    make_base: Make, make_adapter: Make, options: Any, said: str
) -> None:
    adapter = make_adapter(make_base("float32", tied=False), **options)
    with pytest.raises(UserError, match=said):
        _ = load_adapter(adapter).deltas


def test_an_unknown_option_is_refused(make_base: Make, make_adapter: Make) -> None:
    adapter = make_adapter(make_base())
    config = json.loads((adapter / adapters.CONFIG).read_bytes())
    adapters.refuse_inexact(adapter, {**config, "use_quantum": False, "next_config": None})
    for value in (True, "on", {"a": 1}, 2):
        with pytest.raises(UserError, match="use_quantum"):
            adapters.refuse_inexact(adapter, {**config, "use_quantum": value})
    with pytest.raises(UserError, match="is IA3, not LoRA"):
        adapters.refuse_inexact(adapter, {**config, "peft_type": "IA3"})


def rewrite_weights(adapter: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    weights = adapter / adapters.WEIGHTS
    save_file(change(load_file(weights)), weights)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {k.replace("layers.1", "layers.9"): v for k, v in t.items()}, "does not have"),
        (lambda t: {k: v for k, v in t.items() if k != f"{Q}.lora_A.weight"}, "lacks a matching"),
        (lambda t: {**t, f"{Q}.lora_A.weight": t[f"{Q}.lora_A.weight"][:, :-1].clone()}, "base's"),
        (lambda t: {**t, f"{Q}.lora_A.weight": t[f"{Q}.lora_A.weight"][:-1].clone()}, "lacks a"),
        (lambda t: {**t, f"{Q}.magic": t[f"{Q}.lora_A.weight"].clone()}, "no LoRA weight"),
        (lambda t: {}, "holds no LoRA"),
    ],
)
def test_an_adapter_that_does_not_fit_is_a_user_error_and_nothing_is_written(
    make_base: Make, make_adapter: Make, tmp_path: Path, change: Any, said: str
) -> None:
    base = make_base()
    adapter = make_adapter(base)
    rewrite_weights(adapter, change)
    with pytest.raises(UserError, match=said):
        merge_into(base, adapter, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


def test_a_tied_head_is_refused_by_name(
    make_base: Make, make_adapter: Make, tmp_path: Path
) -> None:
    base = make_base(tied=True)
    adapter = make_adapter(base, target_modules=["q_proj"])
    rewrite_weights(
        adapter,
        lambda t: {
            **t,
            "base_model.model.lm_head.lora_A.weight": t[f"{Q}.lora_A.weight"].clone(),
            "base_model.model.lm_head.lora_B.weight": t[f"{Q}.lora_B.weight"].clone(),
        },
    )
    with pytest.raises(UserError, match=r"ties to its embeddings"):
        merge_into(base, adapter, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_base_that_is_cut_off_is_a_user_error(make_base: Make, keep: int) -> None:
    file = next(make_base().glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match="cut off"):
        stream.read_header(file)


def test_a_damaged_adapter_is_a_user_error(make_base: Make, make_adapter: Make) -> None:
    adapter = make_adapter(make_base())
    weights = adapter / adapters.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged"):
        _ = load_adapter(adapter).deltas
    weights.unlink()
    with pytest.raises(UserError, match="only safetensors"):
        load_adapter(adapter)
    with pytest.raises(UserError, match="is this an adapter folder"):
        load_adapter(adapter / "nowhere")


def test_pickles_are_refused_on_both_sides(make_base: Make, make_adapter: Make) -> None:
    base = make_base()
    adapter = make_adapter(base)
    for folder, read in ((base, inspect_model), (adapter, load_adapter)):
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
        with pytest.raises(UserError, match="pickle"):
            read(folder)


def test_the_recorded_base_must_be_the_one_given(make_base: Make, make_adapter: Make) -> None:
    base, other = make_base(seed=0), make_base(seed=1)
    adapter = make_adapter(base)
    facts = inspect_model(base)
    assert "on trust" in str(adapters.check_base(load_adapter(adapter), facts))
    noted = {"base_sha256": facts.weights_sha256, "base_path": str(base)}
    (adapter / adapters.FACTS).write_text(json.dumps(noted))
    assert adapters.check_base(load_adapter(adapter), facts) is None
    with pytest.raises(RefusedError, match="another base"):
        adapters.check_base(load_adapter(adapter), inspect_model(other))


def test_a_quantised_base_is_refused(make_base: Make, make_adapter: Make) -> None:
    base = make_base()
    adapter = load_adapter(make_adapter(base))
    config = json.loads((base / "config.json").read_bytes())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="is quantised"):
        adapters.check_base(adapter, inspect_model(base))
