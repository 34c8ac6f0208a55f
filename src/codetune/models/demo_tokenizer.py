"""The demo model's tokenizer: small, with the special tokens and the chat form of Qwen2.5-Coder.

Byte-level BPE is trained on the spot; normalisation, word borders and the order of the special
tokens are Qwen2.5-Coder's, so that data prepared for one can be prepared for the other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from codetune.artefact import write_plain

# In Qwen2.5-Coder's order, after the ordinary vocabulary.
SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"),
    *("<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>"),
    *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>"),
)
END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"

# Words, single digits, runs of signs with the line ends after them, line ends, and blanks.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SYSTEM_PROMPT = "You are a small coding assistant, made for a demonstration."
TOOLS_BEFORE = "\n\n# Tools\n\nThese functions may be called:\n<tools>"
TOOLS_AFTER = (
    "\n</tools>\n\nTo call one, write its name and its arguments as JSON:\n"
    '<tool_call>\n{"name": <name>, "arguments": <object>}\n</tool_call>'
)

# Our own text. It renders as Qwen2.5-Coder's template does, but for the three sentences above.
CHAT_TEMPLATE = (
    """\
{%- set opening = SYSTEM_PROMPT %}
{%- if messages[0].role == 'system' %}
    {%- set opening = messages[0].content %}
{%- endif %}
{{- '<|im_start|>system\\n' ~ opening }}
{%- if tools %}
    {{- TOOLS_BEFORE }}
    {%- for tool in tools %}
        {{- '\\n' ~ (tool | tojson) }}
    {%- endfor %}
    {{- TOOLS_AFTER }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- if loop.first or loop.previtem.role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' ~ message.content ~ '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- elif message.role == 'assistant' and message.tool_calls %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}
            {{- '\\n' ~ message.content }}
        {%- endif %}
        {%- for call in message.tool_calls %}
            {%- set function = call.function if call.function is defined else call %}
            {{- '\\n<tool_call>\\n{"name": "' ~ function.name ~ '", "arguments": ' }}
            {{- (function.arguments | tojson) ~ '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role in ('user', 'assistant', 'system') %}
        {%- if message.role != 'system' or not loop.first %}
            {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""".replace("SYSTEM_PROMPT", json.dumps(SYSTEM_PROMPT))
    .replace("TOOLS_BEFORE", json.dumps(TOOLS_BEFORE))
    .replace("TOOLS_AFTER", json.dumps(TOOLS_AFTER))
)


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> tokenizers.Tokenizer:
    """A tokenizer of exactly `vocab_size` tokens, the special ones last.

    Equal texts give equal bytes. Raises ValueError when `texts` have too few different pairs.
    """
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=True))
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(_PIECES), "isolated")
    as_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, as_bytes])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"the texts give only {tokenizer.get_vocab_size()} tokens")
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: tokenizers.Tokenizer, max_length: int) -> None:
    """Writes the three files that transformers and `codetune.tokens` read, into a staged folder."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TURN,
        "pad_token": END_OF_TEXT,
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
    }
    write_plain(folder / "tokenizer.json", tokenizer.to_str())
    write_plain(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")
    write_plain(folder / "chat_template.jinja", CHAT_TEMPLATE)
