"""Model folders are inspected before they are loaded, and types chosen by what the machine does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit, Params4bit

from codetune import models
from codetune.errors import UserError
from codetune.models import dtype, facts
from tests.evaluation import tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("models") / "base", steps=0)


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "copy"))


class TestFacts:
    def test_of_a_real_folder(self, base: Path) -> None:
        found = models.inspect_model(base)
        model = models.load_base(base, "none", "float32", "cpu").model
        assert found.model_type == "qwen2" and found.dtype == "float32"
        assert found.n_parameters == sum(p.numel() for p in model.parameters())
        assert found.weight_bytes > 4 * found.n_parameters
        assert len(found.weights_sha256) == 64

    def test_the_fingerprint_follows_every_byte(self, base: Path, copy: Path) -> None:
        before = models.inspect_model(base).weights_sha256
        assert models.inspect_model(copy).weights_sha256 == before
        weights = copy / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        assert models.inspect_model(copy).weights_sha256 != before

    def test_files_of_the_hub_cache_are_not_read_again(
        self, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blob = tmp_path / "blobs" / ("ab" * 32)
        blob.parent.mkdir()
        shutil.copyfile(base / "model.safetensors", blob)
        snapshot = tmp_path / "snapshot"
        snapshot.mkdir()
        shutil.copyfile(base / "config.json", snapshot / "config.json")
        (snapshot / "model.safetensors").symlink_to(blob)
        monkeypatch.setattr(facts, "sha256_file", lambda _: pytest.fail("was read"))
        assert models.inspect_model(snapshot).weights_sha256

    @pytest.mark.parametrize(
        "planted", ["modeling.py", "weights.bin", "x.pt", "x.pkl", "x.pth", "lib.so", "x.ckpt"]
    )
    def test_code_and_pickles_are_refused(self, copy: Path, planted: str) -> None:
        (copy / planted).write_text("x")
        with pytest.raises(UserError, match=planted):
            models.inspect_model(copy)

    @pytest.mark.parametrize("key", ["auto_map", "trust_remote_code"])
    @pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
    def test_remote_code_is_refused(self, copy: Path, file: str, key: str) -> None:
        content = json.loads((copy / file).read_text())
        (copy / file).write_text(json.dumps({**content, key: {"AutoModel": "x.Y"}}))
        with pytest.raises(UserError, match="remote code"):
            models.load_base(copy)

    @pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "."])
    def test_what_is_missing_is_named(self, copy: Path, missing: str) -> None:
        if missing == ".":
            shutil.rmtree(copy)
        else:
            (copy / missing).unlink()
        with pytest.raises(UserError, match=str(copy)):
            models.inspect_model(copy)

    def test_a_damaged_config(self, copy: Path) -> None:
        (copy / "config.json").write_text("{half")
        with pytest.raises(UserError, match="not JSON"):
            models.inspect_model(copy)


class TestFinding:
    def test_a_folder_is_itself(self, base: Path) -> None:
        assert models.find_model(str(base)) == base

    @pytest.mark.parametrize("name", ["/absent/model", "absent", "a/b/c"])
    def test_no_folder_and_no_hub_name(self, name: str) -> None:
        with pytest.raises(UserError, match="no such model folder"):
            models.find_model(name)

    def test_a_hub_name_that_cannot_be_had(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(UserError, match="not on this machine and not to be had from the hub"):
            models.find_model("nobody/nothing")


class TestLoading:
    def test_4bit_is_4bit_and_safe(self, base: Path) -> None:
        loaded = models.load_base(base, "4bit", "float32", "cpu")
        layers = [m for m in loaded.model.modules() if isinstance(m, Linear4bit)]
        assert len(layers) == 14
        assert all(isinstance(m.weight, Params4bit) for m in layers)
        assert not any(m.support_avx512bf16_for_cpu for m in layers)
        assert not loaded.model.training
        assert not any(p.requires_grad for p in loaded.model.parameters())

    def test_disabling_the_adapter_gives_the_base_exactly(self, base: Path, tmp_path: Path) -> None:
        adapter = tiny.make_adapter(base, tmp_path / "adapter", tiny.house_rows(8), steps=2)
        ids = torch.arange(3, 40)[None]
        loaded = models.load_base(base, "4bit", "float32", "cpu")
        with torch.no_grad():
            before = loaded.model(ids).logits.clone()
            tuned = models.attach_adapter(loaded, adapter)
            changed = tuned(ids).logits
            with tuned.disable_adapter():
                after = tuned(ids).logits
        assert torch.equal(before, after)
        assert not torch.equal(before, changed)
        assert {p.dtype for n, p in tuned.named_parameters() if "lora_" in n} == {torch.float32}

    def test_a_foreign_adapter_is_the_users_error(self, base: Path, tmp_path: Path) -> None:
        loaded = models.load_base(base, "none", "float32", "cpu")
        with pytest.raises(UserError, match="is this an adapter folder"):
            models.attach_adapter(loaded, tmp_path)

    def test_a_quantised_type_that_is_unknown(self, copy: Path) -> None:
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, "model_type": "nonesuch"}))
        with pytest.raises(UserError, match="cannot be loaded"):
            models.load_base(copy, "none", "float32", "cpu")


class TestDtype:
    def test_what_is_configured_is_taken(self) -> None:
        choice = models.choose_dtype("cpu", "float16")
        assert choice.dtype == torch.float16 and choice.name == "float16"

    @pytest.mark.parametrize(
        ("fp32", "bf16", "taken"),
        [(100, 1, "float32"), (100, 120, "float32"), (60, 300, "bfloat16")],
    )
    def test_bf16_must_win_clearly_on_a_cpu(
        self, monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float, taken: str
    ) -> None:
        speeds = {torch.float32: fp32, torch.bfloat16: bf16}
        monkeypatch.setattr(dtype, "gemm_gflops", lambda kind: speeds[kind])
        choice = models.choose_dtype("cpu")
        assert choice.name == taken and "GFLOP/s here" in choice.reason

    @pytest.mark.parametrize(
        ("capability", "taken"),
        [((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")],
    )
    def test_capability_decides_on_a_gpu(
        self, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], taken: str
    ) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # as on Turing
        assert models.choose_dtype("cuda").name == taken

    def test_the_measurement_is_one(self) -> None:
        assert 0.1 < dtype.gemm_gflops(torch.float32, seconds=0.01) < 1e5

    def test_a_gpu_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert models.pick_device("auto") == "cpu"
        with pytest.raises(UserError, match="doctor"):
            models.pick_device("cuda")
