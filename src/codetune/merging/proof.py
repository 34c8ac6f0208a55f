"""The proof that a merged folder is the base with the adapter on it, by loading one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codetune import artefact, generic, models, sample, tokens
from codetune.errors import UserError
from codetune.merging.parity import Comparison, compare, logits_of, tolerance

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "float16", "bfloat16"]
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_PROMPTS, _LONGEST = 4, 96
# Weights, one layer's activations, logits of the prompts and what the libraries keep.
_MEMORY_FACTOR = 1.25
_BUILT_IN = (
    "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n    return fib",
    "# Read a CSV file, skip its header and sum the second column.\nimport csv\n\nwith open(",
    "The test fails because the list is changed while it is iterated over. To fix this, ",
    'SELECT name, COUNT(*) FROM orders GROUP BY name HAVING COUNT(*) > 1;\n\n{"status": "ok", ',
)


@dataclass(frozen=True)
class Proof:
    """Distances of the merged model and of others to base plus adapter, and the verdict.

    `learned` is the distance of the base alone; `live` that of the merged model to the 4-bit
    base with the adapter, as it was trained: information, since it is the gap of quantisation.
    """

    merged: Comparison
    learned: Comparison
    live: Comparison | None
    largest_kl: float

    @property
    def holds(self) -> bool:
        """True when the merge lost nothing but rounding."""
        return self.merged.mean_kl <= self.largest_kl

    def as_dict(self) -> dict[str, Any]:
        """As `parity.json` holds it."""
        return {
            "holds": self.holds,
            "largest_mean_kl": self.largest_kl,
            "merged": self.merged.as_dict(),
            "base_without_adapter": self.learned.as_dict(),
            "merged_against_4bit_with_adapter": self.live.as_dict() if self.live else None,
        }


def prompts(base: Path, eval_file: Path | None) -> list[list[int]]:
    """Token ids to compare on: the first rows of `eval_file`, or built-in text."""
    tok = tokens.load(base)
    if eval_file is None:
        return [tok.encode(text) for text in _BUILT_IN]
    found = list(itertools.islice(_row_ids(eval_file, tok), _PROMPTS))
    if not found:
        raise UserError(f"{eval_file}: holds no row that can be tokenised; pass another file")
    return found


def check_memory(facts: models.ModelFacts, precision: Precision) -> None:
    """UserError when one model of this size and precision does not fit into free memory."""
    import psutil

    needed = facts.n_parameters * _BYTES[precision] * _MEMORY_FACTOR
    free = psutil.virtual_memory().available
    if needed > free:
        hint = "free some memory, or pass --parity_dtype bfloat16"
        raise UserError(
            f"the parity check needs {needed / 2**30:.1f} GiB in {precision}, "
            f"{free / 2**30:.1f} GiB are free; {hint}"
        )


def prove(
    base: models.ModelFacts,
    adapter: Path,
    merged: Path,
    ids: Sequence[Sequence[int]],
    precision: Precision = "float32",
    *,
    with_live: bool = True,
) -> Proof:
    """Compares logits on the CPU, with no two models in memory at the same time."""
    reference, learned = _tuned_and_base(base.path, adapter, precision, ids)
    live = _live(base.path, adapter, precision, ids) if with_live else None
    model = models.load_base(merged, "none", precision, "cpu").model
    return Proof(
        merged=compare(reference, model, ids),
        learned=learned,
        live=compare(live, model, ids) if live else None,
        largest_kl=tolerance((base.dtype, precision), learned.mean_kl),
    )


# Each function below lets its model go before the next one is loaded.


def _tuned_and_base(
    base: Path, adapter: Path, precision: str, ids: Sequence[Sequence[int]]
) -> tuple[list[torch.Tensor], Comparison]:
    loaded = models.load_base(base, "none", precision, "cpu")
    model = models.attach_adapter(loaded, adapter)
    reference = [logits_of(model, prompt) for prompt in ids]
    with model.disable_adapter():
        return reference, compare(reference, model, ids)


def _live(
    base: Path, adapter: Path, precision: str, ids: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    loaded = models.load_base(base, "4bit", precision, "cpu")
    model = models.attach_adapter(loaded, adapter)
    return [logits_of(model, prompt) for prompt in ids]


def _row_ids(file: Path, tok: tokens.Tokenizer) -> Iterator[list[int]]:
    for _, line in artefact.read_rows(file):
        try:
            yield tokens.tokenise(generic.read_row(line), tok).input_ids[:_LONGEST]
        except (sample.BadRow, tokens.RowDropped):
            continue
