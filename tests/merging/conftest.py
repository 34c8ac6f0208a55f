"""Small random Qwen2 models and adapters, made by transformers and peft, and a byte tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def save_byte_tokenizer(folder: Path) -> None:
    """Every byte is a token; three control tokens and a small chat template."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made.save(str(folder / "tokenizer.json"))
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    settings = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(template)


@pytest.fixture
def make_base(tmp_path: Path) -> Callable[..., Path]:
    """Saves a random Qwen2 of about 0.2M parameters; returns its folder."""

    def make(
        dtype: str = "bfloat16", *, tied: bool = True, shard: str = "5GB", seed: int = 0
    ) -> Path:
        import torch
        from transformers import Qwen2Config, Qwen2ForCausalLM

        torch.manual_seed(seed)
        config = Qwen2Config(
            vocab_size=300,
            hidden_size=64,
            intermediate_size=176,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
            initializer_range=0.2,
        )
        model: Any = Qwen2ForCausalLM(config).to(getattr(torch, dtype))
        folder = tmp_path / f"base-{dtype}-{tied}-{seed}-{shard}"
        model.save_pretrained(folder, max_shard_size=shard)
        save_byte_tokenizer(folder)
        return folder

    return make


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Saves a random LoRA adapter for a base, with both factors away from zero."""

    def make(base: Path, *, strength: float = 0.05, **options: Any) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        torch.manual_seed(1)
        settings = {"r": 8, "lora_alpha": 16, "target_modules": LINEAR, **options}
        model: Any = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base), LoraConfig(**settings)
        )
        for name, weight in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=strength)
        folder = tmp_path / f"adapter-{len(list(tmp_path.iterdir()))}"
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def by_peft() -> Callable[[Path, Path], dict[str, Any]]:
    """What peft's merge_and_unload makes of a base and an adapter: tensors by name."""

    def merge(base: Path, adapter: Path) -> dict[str, Any]:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        loaded = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
        merged: Any = PeftModel.from_pretrained(loaded, adapter).merge_and_unload()
        return {name: tensor.contiguous() for name, tensor in merged.state_dict().items()}

    return merge
