"""Rows become token ids and labels here, in one way for training, peek, lengths and evaluation.

Built on the `tokenizers` library and a sandboxed jinja2, so that data stages need no GPU stack.
"""

from codetune.tokens.errors import RowDropped
from codetune.tokens.rows import IGNORED, Prompt, Tokens, prompt, question, stop_ids, tokenise
from codetune.tokens.tokenizer import Tokenizer, load

__all__ = [
    "IGNORED",
    "Prompt",
    "RowDropped",
    "Tokenizer",
    "Tokens",
    "load",
    "prompt",
    "question",
    "stop_ids",
    "tokenise",
]
