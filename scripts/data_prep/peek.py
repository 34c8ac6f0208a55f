"""Look at rows; with a model folder, at their tokens and at which of them are trained.

In:  row files (default data/train.jsonl). Out: the terminal, and with --json standard output.
Trained text stands on green, or between ⟦ and ⟧ where there are no colours.

    python scripts/data_prep/peek.py data/train.jsonl --n 2 --task chat --contains pytest
    python scripts/data_prep/peek.py --model_name_or_path models/Qwen2.5-Coder-1.5B-Instruct
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codetune import stage
from codetune.config import Config, knob
from codetune.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from codetune.artefact import Counts
    from codetune.runlog import Run
    from codetune.tokens import Tokenizer

Part = tuple[str, str]  # text and its style
_TRAINED, _UNTRAINED, _HEADING = "black on green", "dim", "bold cyan"


class PeekConfig(Config):
    """Which rows to show, and how."""

    inputs: list[Path] = knob([Path("data/train.jsonl")], "row files", positional=True)
    model_name_or_path: Path | None = knob(
        None, "model folder: show tokens and loss mask", aliases=("base_model",)
    )
    n: int = knob(3, "rows to show", unit="rows", ge=1)
    contains: str | None = knob(None, "only rows with this text", text=True)
    task: Literal["chat", "fim", "text"] | None = knob(None, "only rows of this task")
    max_chars: int = knob(2000, "longest text shown whole", unit="characters", ge=20)
    max_length: int | None = knob(None, "cut or drop rows as training would", unit="tokens", ge=16)


def run(config: PeekConfig, log: Run) -> stage.Report:
    """Shows the first rows that match."""
    from codetune import artefact, console, tokens

    for path in config.inputs:
        log.input(path, "rows")
    tok = tokens.load(config.model_name_or_path) if config.model_name_or_path else None
    counts, screen = artefact.Counts(), console.stderr()
    shown: list[dict[str, Any]] = []
    for where, row in matching(config, counts):
        head = f"── {where} · {row['task']} · {row['id']}"
        if tok is None:
            draw(screen, head, row_parts(row), config.max_chars, "\n")
            shown.append(row)
        else:
            facts = token_facts(row, tok, config.max_length)
            loss = (
                facts.get("dropped") or f"{facts['tokens']:,} tokens, {facts['trained']:,} trained"
            )
            draw(screen, f"{head} · {loss}", token_parts(facts), config.max_chars, "")
            shown.append({"id": row["id"], **facts})
        if len(shown) == config.n:
            break
    if not shown and counts.dropped and not counts.kept:
        raise UserError(f"{config.inputs[0]}: holds no rows ({next(iter(counts.dropped))})")
    headline = f"{len(shown)} of {counts.in_} rows read" if shown else "no row matches"
    return stage.Report(headline, counts={"rows": counts}, details={"rows": shown})


def matching(config: PeekConfig, counts: Counts) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, row) of every valid row that the config asks for."""
    from codetune import artefact, generic, sample

    for path in config.inputs:
        for number, line in artefact.read_rows(path):
            try:
                row = generic.read_row(line)
            except sample.BadRow as problem:
                counts.drop(problem.reason)
                continue
            counts.keep()
            text = "\n".join(text for text, _ in row_parts(row))
            if config.task in (None, row["task"]) and (config.contains or "") in text:
                yield f"{path}:{number}", row


def row_parts(row: Mapping[str, Any]) -> list[Part]:
    """The row for reading: headings, and texts in the style of what is trained."""
    parts: list[Part] = []
    for message in row.get("messages", ()):
        style = _TRAINED if message.get("train") else ""
        parts.append((f"[{message['role']}]", _HEADING))
        parts += [
            (message[key], style) for key in ("reasoning_content", "content") if message.get(key)
        ]
        for call in message.get("tool_calls") or ():
            arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
            parts.append((f"{call['function']['name']}({arguments})", style))
    for file in row.get("context") or ():
        parts += [(f"[{file['path']}]", _HEADING), (file["text"], "")]
    for key in ("prefix", "middle", "suffix", "text"):
        if key in row:
            style = _TRAINED if key in ("middle", "text") else ""
            parts += [(f"[{key}]", _HEADING), (row[key], style)]
    return parts


def token_facts(row: Mapping[str, Any], tok: Tokenizer, max_length: int | None) -> dict[str, Any]:
    """The row's tokens as runs of decoded text that are trained or not."""
    from codetune.tokens import IGNORED, RowDropped, tokenise

    try:
        made = tokenise(row, tok, max_length)
    except RowDropped as problem:
        return {"dropped": str(problem), "runs": []}
    pairs = groupby(zip(made.input_ids, made.labels, strict=True), lambda pair: pair[1] != IGNORED)
    runs = [{"trained": on, "text": tok.decode([i for i, _ in pair])} for on, pair in pairs]
    return {"tokens": len(made.input_ids), "trained": made.trained, "runs": runs}


def token_parts(facts: Mapping[str, Any]) -> list[Part]:
    """The runs in their styles."""
    return [(run["text"], _TRAINED if run["trained"] else _UNTRAINED) for run in facts["runs"]]


def draw(screen: Console, head: str, parts: list[Part], max_chars: int, end: str) -> None:
    """Prints the parts, cleaned and shortened in the middle, each followed by `end`."""
    from rich.text import Text

    from codetune import console

    screen.print(Text(console.clean(head), "bold"))
    for text, style in parts:
        if len(text) > max_chars:
            left_out = f"\n… {len(text) - max_chars:,} characters …\n"
            text = text[: max_chars // 2] + left_out + text[-(max_chars // 2) :]
        if style == _TRAINED and not screen.is_terminal:
            text = f"⟦{text}⟧"
        screen.print(Text(console.clean(text), style), end=end)
    screen.print()


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, PeekConfig, run, stage="peek", version=1))
