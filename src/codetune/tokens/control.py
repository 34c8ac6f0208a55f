"""Control tokens: found in text a template wrote, never in text a row brought along.

A chat template joins its own text and the row's text into one string, in which
`<|im_end|>` of the template and `<|im_end|>` of a log file look alike. So the row's text is
guarded before rendering: a private-use character, the marker, breaks up every control token
that the row spells, or could spell together with template text next to it. What still reads
as a control token in the rendered string was written by the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tokenizers import AddedToken


class Found(NamedTuple):
    """A control token in a text: characters [start, end) become the one id."""

    start: int
    end: int
    token_id: int


# Private use area of the basic plane: no template and hardly any text writes these.
_MARKERS = [chr(code) for code in range(0xE000, 0xF900)]


def free_marker(text: str) -> str | None:
    """A character that `text` has neither literally nor as a JSON escape; None if all are used."""
    return next((m for m in _MARKERS if m not in text and f"\\u{ord(m):04x}" not in text), None)


def unmark(text: str, marker: str) -> str:
    """`text` without the marker, also where a template has JSON-escaped it."""
    return text.replace(marker, "").replace(f"\\u{ord(marker):04x}", "")


def is_control(token: AddedToken) -> bool:
    """Whether an added token steers the model; runs of white space are merely vocabulary."""
    return len(token.content) > 1 and not token.content.isspace()


@dataclass(frozen=True)
class ControlTokens:
    """The control tokens of one tokenizer: `ids` by their text."""

    ids: dict[str, int]
    _found: re.Pattern[str]
    _starts: re.Pattern[str]
    _heads: tuple[str, ...]
    _tails: tuple[str, ...]
    _longest: int

    @classmethod
    def of(cls, added: Iterable[tuple[int, AddedToken]]) -> ControlTokens:
        """The control tokens among a tokenizer's added tokens, given as (id, token) pairs."""
        tokens = {token.content: (i, token) for i, token in added if is_control(token)}
        # Longest first: the leftmost longest match wins, as in the tokenizer itself.
        texts = sorted(tokens, key=lambda text: (-len(text), text))
        found = "|".join(_with_spaces(tokens[text][1]) for text in texts)
        starts = "|".join(map(re.escape, texts))
        inner = [(text, cut) for text in texts for cut in range(1, len(text))]
        return cls(
            ids={text: tokens[text][0] for text in texts},
            _found=re.compile(found or r"(?!)"),
            _starts=re.compile(f"(?={starts})(.)" if texts else r"(?!)", re.DOTALL),
            _heads=tuple(sorted({text[:cut] for text, cut in inner})),
            _tails=tuple(sorted({text[cut:] for text, cut in inner})),
            _longest=max(map(len, texts), default=0),
        )

    def find(self, text: str) -> list[Found]:
        """Every control token in `text`, left to right."""
        return [
            Found(match.start(), match.end(), self._id(match[0]))
            for match in self._found.finditer(text)
        ]

    def break_up(self, text: str, marker: str) -> str:
        """`text` with the marker after the first character of every control token it spells."""
        return self._starts.sub(lambda match: match[1] + marker, text)

    def guard(self, text: str, marker: str) -> str:
        """As `break_up`, and so that neither end can complete a control token with other text.

        Ends are marked inside surrounding white space, so that a template's trim still works.
        """
        text = self.break_up(text, marker)
        body = text.strip()
        if not body:
            return text
        inside = len(body) < self._longest and any(body in token for token in self.ids)
        lead = text.index(body)
        if inside or body.endswith(self._heads):
            text = text[: lead + len(body)] + marker + text[lead + len(body) :]
        if inside or body.startswith(self._tails):
            text = text[:lead] + marker + text[lead:]
        return text

    def _id(self, matched: str) -> int:
        """The id of a match, which may have white space around the token."""
        return self.ids[matched] if matched in self.ids else self.ids[matched.strip()]


def _with_spaces(token: AddedToken) -> str:
    """The pattern of a token that may swallow the white space beside it."""
    left, right = r"\s*" if token.lstrip else "", r"\s*" if token.rstrip else ""
    return left + re.escape(token.content) + right
