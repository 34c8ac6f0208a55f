"""Builds small model folders: a byte tokenizer with the control tokens a test asks for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

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
