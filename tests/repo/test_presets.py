"""Every recipe under configs/ loads; the pipeline's own file is loaded in test_demo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codetune.config import load_yaml, resolve
from codetune.errors import UserError
from codetune.training.recipe import TrainConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PRESETS = sorted((CONFIGS / "train").rglob("*.yaml"))
# Where a GPU cannot compute bf16, or the machine has no GPU, the name says so.
SIZES = ("0.5b", "1.5b", "3b", "7b", "14b", "32b")


def by_name(name: str) -> TrainConfig:
    return resolve(TrainConfig, CONFIGS / "train" / f"{name}.yaml", {})[0]


def names() -> list[str]:
    return [preset.stem for preset in PRESETS]


def test_there_are_as_many_presets_as_we_mean_to_ship() -> None:
    assert len(PRESETS) == 16
    others = sorted(set(CONFIGS.rglob("*.y*ml")) - set(PRESETS))
    assert [file.relative_to(CONFIGS).as_posix() for file in others] == ["pipeline/demo.yaml"]


@pytest.mark.parametrize("preset", PRESETS, ids=names())
def test_a_preset_loads_without_a_note(preset: Path) -> None:
    _, notes = resolve(TrainConfig, preset, {})
    assert notes == []  # a note would mean that a preset uses another tool's spelling


@pytest.mark.parametrize("preset", PRESETS, ids=names())
def test_a_preset_names_every_value_that_decides_a_result(preset: Path) -> None:
    values, _ = load_yaml(preset)
    places = {"train_file", "eval_file", "run_name", "output_dir", "resume", "device"}
    assert set(values) == set(TrainConfig.model_fields) - places


@pytest.mark.parametrize("preset", PRESETS, ids=names())
def test_every_value_has_its_reason_beside_it(preset: Path) -> None:
    for line in preset.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"\w+: \S+ # \S.{9,}", line), line


@pytest.mark.parametrize("preset", PRESETS, ids=names())
def test_the_first_line_says_what_a_preset_is_for(preset: Path) -> None:
    first = preset.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")


@pytest.mark.parametrize("preset", PRESETS, ids=names())
def test_training_is_qlora_as_published(preset: Path) -> None:
    config = resolve(TrainConfig, preset, {})[0]
    assert config.quant == "4bit"
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == ("nf4", True)
    assert config.lora_target_modules == "all-linear"
    assert config.lora_alpha == config.lora_r


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_a_preset_with_its_instruct_model(size: str) -> None:
    model = by_name(f"qwen2.5-coder-{size}").model_name_or_path
    assert model == f"Qwen/Qwen2.5-Coder-{size.upper()}-Instruct"


@pytest.mark.parametrize("size", ["0.5b", "1.5b", "3b", "7b"])
def test_turing_presets_never_use_bf16(size: str) -> None:
    assert by_name(f"qwen2.5-coder-{size}-turing-11gb").dtype == "float16"


@pytest.mark.parametrize("size", ["14b", "32b"])
def test_what_cannot_fit_eleven_gigabytes_has_no_such_preset(size: str) -> None:
    assert f"qwen2.5-coder-{size}-turing-11gb" not in names()


def test_base_models_are_for_completion_alone() -> None:
    for name in names():
        model = by_name(name).model_name_or_path
        if model.startswith("Qwen/"):
            assert model.endswith("-Instruct") != name.endswith("-base-fim")


def test_the_cpu_preset_ends_in_an_evening() -> None:
    config = by_name("qwen2.5-coder-0.5b-cpu")
    a_step = config.max_length * config.gradient_accumulation_steps
    slowest = 26.8  # tokens a second: measured at this shape on two AVX2 cores
    assert config.max_steps * a_step / slowest < 4 * 3600
    assert config.dtype == "auto"


def test_the_demo_and_smoke_presets_use_the_model_the_demo_makes() -> None:
    assert by_name("demo").model_name_or_path == "outputs/demo-base"
    assert by_name("smoke").model_name_or_path == "outputs/demo-base"
    assert by_name("smoke").max_steps > 0


def test_a_misspelt_key_is_refused_with_its_line(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("max_length: 512\nlora_rnak: 8\n")
    with pytest.raises(UserError, match=r"line 2: unknown key lora_rnak; did you mean lora_rank\?"):
        resolve(TrainConfig, preset, {})
