"""How close a generated middle is to the one the developer wrote.

All three scores lie between 0 and 1, higher is better, and ignore trailing white space, which no
editor shows and models end on differently.
"""

from __future__ import annotations

EXACT_MATCH = "fim_exact_match"
EDIT_SIMILARITY = "fim_edit_similarity"
FIRST_LINE_MATCH = "fim_first_line_match"


def scores(generated: str, expected: str) -> dict[str, float]:
    """Exact match, edit similarity (rapidfuzz's normalised Indel) and first-line match."""
    from rapidfuzz import fuzz

    ours, theirs = generated.rstrip(), expected.rstrip()
    return {
        EXACT_MATCH: float(ours == theirs),
        EDIT_SIMILARITY: fuzz.ratio(ours, theirs) / 100,
        FIRST_LINE_MATCH: float(first_line(ours) == first_line(theirs)),
    }


def first_line(text: str) -> str:
    """The first line that holds anything, right-stripped: what an editor shows as ghost text.

    Its indentation counts, since the cursor's column is part of the prompt.
    """
    return next((line.rstrip() for line in text.split("\n") if line.strip()), "")
