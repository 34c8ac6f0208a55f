"""A segment as turns: what was asked, and what the assistant then did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from codetune.artefact import Counts
from codetune.logs.session import Prompt, Segment, Step


@dataclass(slots=True)
class Turn:
    """From one prompt to before the next; `items` are steps and texts that came in between."""

    prompt: str
    timestamp: str
    items: list[Step | Prompt] = field(default_factory=list)

    @property
    def steps(self) -> list[Step]:
        """The steps of the turn."""
        return [item for item in self.items if isinstance(item, Step)]


def turns_of(segment: Segment, turns: Counts, steps: Counts) -> list[Turn]:
    """The answered turns of a segment.

    A prompt without an answer was still seen by the model, so its text opens the next turn.
    Steps before the first prompt have no visible cause: they are dropped into `steps`, and a last
    prompt without an answer into `turns`.
    """
    made: list[Turn] = []
    for item in segment:
        if isinstance(item, Prompt) and (item.kind != "context" or not made):
            if made and not made[-1].steps:
                made[-1].prompt = f"{_all_text(made[-1])}\n\n{item.text}"
                made[-1].items.clear()
                turns.drop("no_answer_before_next_prompt")
            else:
                made.append(Turn(item.text, item.timestamp))
        elif made:
            made[-1].items.append(item)
        else:
            steps.drop("no_prompt")
    if made and not made[-1].steps:
        made.pop()
        turns.drop("no_answer")
    return made


def _all_text(turn: Turn) -> str:
    return "\n\n".join([turn.prompt, *_texts(turn.items)])


def _texts(items: Iterable[Step | Prompt]) -> list[str]:
    return [item.text for item in items]
