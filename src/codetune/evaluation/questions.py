"""A person's own questions: read, put to a model, and answered; nothing is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codetune import console, tokens
from codetune.errors import UserError
from codetune.evaluation.generate import complete

_SEPARATOR = "---"


def read(prompt: str | None, prompt_file: Path | None) -> list[str]:
    """The questions given: one as text, and those of a file, parted by lines of `---`."""
    found = [prompt] if prompt else []
    if prompt_file is not None:
        try:
            lines = prompt_file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as problem:
            raise UserError(f"{prompt_file}: cannot be read as text: {problem}") from None
        found += _parts(lines)
        if not found:
            raise UserError(f"{prompt_file}: holds no question; write one, or part many by ---")
    return found


def ask(
    model: Any, questions: Sequence[str], tok: tokens.Tokenizer, max_new_tokens: int
) -> list[str]:
    """The model's greedy answers, through its chat template where it has one."""
    prompts = [tokens.question(text, tok) for text in questions]
    return [made.text for made in complete(model, prompts, tok, max_new_tokens=max_new_tokens)]


def show(questions: Sequence[str], answers: Mapping[str, Sequence[str]]) -> None:
    """Questions with the answers of each side, for a terminal."""
    for place, question in enumerate(questions):
        console.quote(f"\n> {question}")
        for side, given in answers.items():
            console.quote(f"\n[{side}]\n{given[place]}")


def _parts(lines: Sequence[str]) -> list[str]:
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.rstrip() == _SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(line)
    return [text for part in parts if (text := "\n".join(part).strip("\n")).strip()]
