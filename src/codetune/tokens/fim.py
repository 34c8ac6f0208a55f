"""Fill-in-the-middle formats of model families: which tokens stand where.

Token presence is no proof that a model was trained on them, so a family is listed only where
its documentation or several editors agree on the whole string. The order is prefix, suffix,
middle (PSM) for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class FimFormat:
    """The tokens of one family; `repo` and `file` are empty where no repository form is known."""

    name: str
    prefix: str
    suffix: str
    middle: str
    end: str
    repo: str = ""
    file: str = ""
    others: tuple[str, ...] = ()
    never_with: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every token that has to be exactly one id."""
        named = (self.prefix, self.suffix, self.middle, self.end, self.repo, self.file)
        return tuple(token for token in (*named, *self.others) if token)


FORMATS = (
    FimFormat(
        "qwen2.5-coder",
        prefix="<|fim_prefix|>",
        suffix="<|fim_suffix|>",
        middle="<|fim_middle|>",
        end="<|endoftext|>",
        repo="<|repo_name|>",
        file="<|file_sep|>",
        others=("<|fim_pad|>",),
        # Qwen3 keeps these tokens, but its FIM lives inside a chat turn: another format.
        never_with=("<think>", "<tool_response>"),
    ),
    FimFormat(
        "starcoder",
        prefix="<fim_prefix>",
        suffix="<fim_suffix>",
        middle="<fim_middle>",
        end="<|endoftext|>",
    ),
    FimFormat(
        "santacoder",
        prefix="<fim-prefix>",
        suffix="<fim-suffix>",
        middle="<fim-middle>",
        end="<|endoftext|>",
    ),
    FimFormat(
        "codegemma",
        prefix="<|fim_prefix|>",
        suffix="<|fim_suffix|>",
        middle="<|fim_middle|>",
        end="<|file_separator|>",
    ),
    FimFormat(
        "granite-4",
        prefix="<|fim_prefix|>",
        suffix="<|fim_suffix|>",
        middle="<|fim_middle|>",
        end="<|end_of_text|>",
    ),
)


def detect(is_one_id: Callable[[str], bool]) -> FimFormat | None:
    """The first family all of whose tokens are exactly one id; None when there is none."""
    for family in FORMATS:
        if any(map(is_one_id, family.never_with)):
            continue
        if all(map(is_one_id, family.tokens)):
            return family
    return None


def why_none(is_one_id: Callable[[str], bool]) -> str:
    """What keeps the nearest family from being used, for an error message."""
    for family in FORMATS:
        clash = [token for token in family.never_with if is_one_id(token)]
        if clash and all(map(is_one_id, family.tokens)):
            return f"looks like {family.name}, but {clash[0]} belongs to a chat-style FIM format"
    lacks = [[t for t in family.tokens if not is_one_id(t)] for family in FORMATS]
    nearest = min(range(len(FORMATS)), key=lambda i: len(lacks[i]))
    if len(lacks[nearest]) == len(FORMATS[nearest].tokens):
        return "it has no fill-in-the-middle tokens that we know"
    missing = " ".join(lacks[nearest])
    return f"nearest family is {FORMATS[nearest].name}, but these are not single tokens: {missing}"
