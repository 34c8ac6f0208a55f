"""One model over the held-out items: losses of all, completions of some, scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codetune import artefact, console, tokens
from codetune.evaluation import chat, fim
from codetune.evaluation.generate import Completion, complete
from codetune.evaluation.items import (
    NOT_IN_SUBSET,
    Item,
    Scored,
    load,
    prompt_tail,
    scored,
    to_generate,
)
from codetune.evaluation.loss import score
from codetune.evaluation.metrics import LOSS
from codetune.evaluation.settings import MeasureConfig

if TYPE_CHECKING:
    from codetune.models import LoadedModel

# Enough to read; chat answers are looked at, not counted.
CHAT_SAMPLES = 8


def measure(
    model: Any, items: Sequence[Item], tok: tokens.Tokenizer, settings: MeasureConfig, label: str
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


def held_out(settings: MeasureConfig, tok: tokens.Tokenizer) -> tuple[list[Item], artefact.Counts]:
    """The items of the eval file, and their account; a subset is said aloud."""
    items, counts = load(
        settings.eval_file, tok, settings.max_length, settings.max_items, settings.seed
    )
    left_out = counts.dropped.get(NOT_IN_SUBSET, 0)
    if left_out:
        console.say(
            f"{settings.eval_file}: a seeded subset of {len(items):,} rows is measured, "
            f"{left_out:,} are left out (--max_items)"
        )
    return items, counts


def described(settings: MeasureConfig, loaded: LoadedModel) -> dict[str, str]:
    """What a report says about how it was made."""
    return {
        "base": str(loaded.path),
        "quantisation": loaded.quant,
        "computed in": f"{loaded.dtype_name} on {loaded.device}",
        "eval file": str(settings.eval_file),
        "longest row": f"{settings.max_length:,} tokens",
        "rows at most": f"{settings.max_items:,}",
        "completions at most": f"{settings.generate_items} FIM, greedy, "
        f"{settings.max_new_tokens} new tokens",
        "seed": str(settings.seed),
    }


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
