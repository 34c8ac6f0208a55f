"""Whose model wrote an answer, as far as its name tells."""

from __future__ import annotations

import re

_FAMILIES = (
    ("anthropic", re.compile(r"claude|(?:sonnet|opus|haiku)\b")),
    ("openai", re.compile(r"gpt|chatgpt|codex|davinci|o[1-9](?:\b|-)|text-")),
    ("google", re.compile(r"gemini|gemma|palm|bison")),
)


def provider_of(model: str) -> str:
    """anthropic, openai, google, or unknown. Names like `openai/gpt-5` count by their last part."""
    name = model.lower().rpartition("/")[2]
    return next((who for who, family in _FAMILIES if family.match(name)), "unknown")
