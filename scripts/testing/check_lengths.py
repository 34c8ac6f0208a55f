"""Measure rows in a model's tokens before any training: lengths, drops, masks, packing.

In:  the row files, and the folder of the model that will be trained (its tokenizer alone is read).
Out: <output_dir>/lengths.json and lengths.png. Refuses (exit 3) when a row has no trained token
     or when no row fits into --max_length.

    python scripts/testing/check_lengths.py --model_name_or_path models/Qwen2.5-Coder-1.5B-Instruct
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import stage
from codetune.config import Config, knob

if TYPE_CHECKING:
    from codetune.artefact import Counts
    from codetune.console import Table
    from codetune.runlog import Run
    from codetune.tokens import Tokenizer
    from codetune.tokens.lengths import Measured

_LISTED = 20
_NO_LOSS = ("no_trained_token", "no_trained_message")
_SHOWN = ("0.5", "0.95", "1")


class LengthsConfig(Config):
    """What to measure, and against which limit."""

    train_file: Path = knob(Path("data/train.jsonl"), "rows to train on")
    eval_file: Path | None = knob(Path("data/eval.jsonl"), "held-out rows; none to leave out")
    model_name_or_path: Path = knob(None, "model folder", required=True, aliases=("base_model",))
    max_length: int = knob(
        4096, "longest row", unit="tokens", aliases=("cutoff_len", "sequence_len"), ge=16
    )
    output_dir: Path = knob(Path("outputs/check-lengths"), "results", aliases=("output",))


def run(config: LengthsConfig, log: Run) -> stage.Report:
    """Measures every row of both sides and writes the results."""
    from codetune import artefact, tokens
    from codetune.tokens import histogram

    sides = {"train": config.train_file, **({"eval": e} if (e := config.eval_file) else {})}
    inputs = [log.input(path, side) for side, path in sides.items()]
    tok = tokens.load(config.model_name_or_path)
    log.input(artefact.Input(str(config.model_name_or_path), tok.fingerprint), "tokenizer")
    origin = log.origin(config, [*inputs, artefact.Input("tokenizer", tok.fingerprint)])
    result, picture = config.output_dir / "lengths.json", config.output_dir / "lengths.png"
    if artefact.is_current(result, origin) and artefact.is_current(picture, origin):
        return report(log, json.loads(result.read_bytes()), "up to date", (result, picture))
    counts = {side: artefact.Counts() for side in sides}
    unlearnt: list[str] = []
    rows = {
        side: list(measured(path, tok, config.max_length, counts[side], unlearnt))
        for side, path in sides.items()
    }
    found = findings(config, rows, unlearnt)
    found |= {"tokenizer": tok.fingerprint, "counts": {s: c.as_dict() for s, c in counts.items()}}
    artefact.save_figure(picture, histogram.draw(rows, config.max_length), origin)
    artefact.write_text(result, json.dumps(found, indent=1) + "\n", origin, counts)
    return report(log, found, "done", (result, picture))


def measured(
    path: Path, tok: Tokenizer, max_length: int, counts: Counts, unlearnt: list[str]
) -> Iterator[Measured]:
    """Every row that can be read, counted; those without anything to learn are listed too."""
    from codetune import artefact, console, generic, sample
    from codetune.tokens.lengths import measure

    with console.progress(f"{path}: rows measured") as bar:
        for number, line in artefact.read_rows(path):
            bar.advance()
            try:
                yield (one := measure(generic.read_row(line), tok, max_length))
                reason = one.dropped
            except sample.BadRow as problem:
                reason = problem.reason
            counts.drop(reason) if reason else counts.keep()
            if reason in _NO_LOSS:
                unlearnt.append(f"{path}, line {number}")


def findings(
    config: LengthsConfig, rows: dict[str, list[Measured]], unlearnt: list[str]
) -> dict[str, Any]:
    """What the lengths say about training, and why it should not start, if it should not."""
    from codetune.tokens import lengths

    limit = config.max_length
    packed = {side: lengths.packed(ones, limit) for side, ones in rows.items()}
    train, refused = packed["train"], None
    empty = [side for side in packed if not packed[side]["rows"]]
    if unlearnt:
        more = f" and {len(unlearnt) - 1:,} more" if len(unlearnt) > 1 else ""
        refused = f"no trained token in {unlearnt[0]}{more}; drop such rows or mark what to train"
    elif empty:
        refused = (
            f"no {empty[0]} row fits into {limit:,} tokens; raise --max_length or cut the rows"
        )
    headline = (
        f"{train['rows']:,} train rows fit into {limit:,} tokens; "
        f"{train['trained_share']:.0%} of their {train['tokens']:,} tokens are trained; "
        f"{train['sequences']:,} packed sequences, {train['fill']:.1%} full"
    )
    return {
        "headline": headline,
        "refused": refused,
        "max_length": limit,
        "packing": packed,
        "lengths": {side: lengths.by_group(ones) for side, ones in rows.items()},
        "no_trained_token": unlearnt[:_LISTED],
    }


def report(log: Run, found: dict[str, Any], status: Any, outputs: tuple[Path, ...]) -> stage.Report:
    """The findings for a person; what was refused stays refused when nothing has changed."""
    from codetune import artefact

    for path in outputs:
        log.output(path, "lengths")
    counts = {side: artefact.Counts.from_dict(c) for side, c in found["counts"].items()}
    metrics = {f"{s}_{k}": v for s, facts in found["packing"].items() for k, v in facts.items()}
    told, refused, shown = found["headline"], found["refused"], (length_table(found),)
    return stage.Report(told, status, outputs, counts, metrics, shown, found, refused)


def length_table(found: dict[str, Any]) -> Table:
    """Lengths per side, task and source."""
    from codetune import console

    rows = []
    for side, groups in found["lengths"].items():
        for group in groups:
            quantiles = (group["quantiles"].get(share, 0) for share in _SHOWN)
            numbers = [group["rows"], *quantiles, group["cut"], group["dropped"]]
            name = f"{side} {group['task']} {group['source']}"
            rows.append([name, *(f"{n:,}" for n in numbers), f"{group['trained_share']:.0%}"])
    columns = ["rows", "count", "p50", "p95", "max", "cut", "dropped", "trained"]
    return console.table("tokens per row", columns, rows)


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, LengthsConfig, run, stage="check-lengths", version=1))
