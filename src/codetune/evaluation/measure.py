"""One model over the held-out items: losses of all, completions of some, scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codetune import console, tokens
from codetune.evaluation import chat, fim
from codetune.evaluation.generate import Completion, complete
from codetune.evaluation.items import Item, Scored, prompt_tail, scored, to_generate
from codetune.evaluation.loss import score
from codetune.evaluation.metrics import LOSS

# Enough to read; chat answers are looked at, not counted.
CHAT_SAMPLES = 8


@dataclass(frozen=True)
class Settings:
    """What is generated, and how long it may get."""

    max_length: int
    max_new_tokens: int
    generate_items: int
    seed: int


def measure(
    model: Any, items: Sequence[Item], tok: tokens.Tokenizer, settings: Settings, label: str
) -> list[Scored]:
    """Every item's record under `model`, in order. Progress is shown under `label`."""
    with console.progress(f"{label}: loss", len(items)) as bar:
        losses = score(model, [item.tokens for item in items], done=bar.advance)
    wanted = {"fim": settings.generate_items, "chat": min(CHAT_SAMPLES, settings.generate_items)}
    places = to_generate(items, wanted, settings.seed)
    prompts = [tokens.prompt(items[place].row, tok, settings.max_length) for place in places]
    with console.progress(f"{label}: completions", len(places)) as bar:
        made = complete(
            model, prompts, tok, max_new_tokens=settings.max_new_tokens, done=bar.advance
        )
    answers = dict(zip(places, zip(made, prompts, strict=True), strict=True))
    return [
        _scored(item, losses[place].mean, *answers.get(place, (None, None)))
        for place, item in enumerate(items)
    ]


def _scored(
    item: Item, loss: float, made: Completion | None, prompt: tokens.Prompt | None
) -> Scored:
    if made is None or prompt is None:
        return scored(item, {LOSS: loss})
    shown = {
        "answer": made.text,
        "expected": prompt.target,
        "prompt_tail": prompt_tail(item.row),
        "remarks": chat.remarks(made.text, prompt.target, stopped=made.stopped),
    }
    found = fim.scores(made.text, prompt.target) if item.task == "fim" else {}
    return scored(item, {LOSS: loss, **found}, **shown)
