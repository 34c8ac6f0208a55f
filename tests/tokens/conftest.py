"""Tokenizers for these tests: small ones made on the spot, and the real Qwen2.5-Coder one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from codetune import tokens

CHATML = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{%- for c in m.tool_calls or [] %}\n<tool_call>{{ c.function | tojson }}</tool_call>"
    "{%- endfor %}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
QWEN_FIM = ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep")
QWEN_TOKENS = (*CHATML_TOKENS, *(f"<|{name}|>" for name in QWEN_FIM))


def build_model(
    folder: Path,
    added: Sequence[str | tokenizers.AddedToken] = QWEN_TOKENS,
    template: str | None = CHATML,
    bos: str | None = None,
    **config: Any,
) -> Path:
    """A model folder with a byte tokenizer: every byte is a token, no merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(
        models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[])
    )
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    for token in added:
        if isinstance(token, str):
            token = tokenizers.AddedToken(token, special=True, normalized=False)
        made.add_special_tokens([token]) if token.special else made.add_tokens([token])
    if bos:
        pair = [(bos, made.token_to_id(bos))]
        made.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=None, special_tokens=pair
        )
        config["bos_token"] = bos
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", **config}
    settings["tokenizer_class"] = "TokenizersBackend"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """`build_model` in the test's own folder."""
    return lambda *args, **more: build_model(tmp_path / "model", *args, **more)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tokens.Tokenizer:
    """A byte tokenizer with Qwen2.5-Coder's control tokens and a ChatML template."""
    return tokens.load(build_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def qwen_tokens() -> tuple[str, ...]:
    """The control tokens of `tiny`."""
    return QWEN_TOKENS


@pytest.fixture(scope="session")
def qwen(qwen_tokenizer: Path) -> tokens.Tokenizer:
    """The real tokenizer of Qwen2.5-Coder."""
    return tokens.load(qwen_tokenizer)


@pytest.fixture(scope="session")
def transformers_qwen(qwen_tokenizer: Path) -> Any:
    """The same, as transformers reads it: what ids are compared with."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(qwen_tokenizer)
