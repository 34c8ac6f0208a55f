"""Writes a comparison: JSON for machines, Markdown and HTML for people, one line per row kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from codetune import artefact, console
from codetune.evaluation import page, tables
from codetune.evaluation.comparison import Comparison
from codetune.evaluation.statistics import METHOD

JSON, MARKDOWN, HTML, ROWS = "compare.json", "compare.md", "compare.html", "rows.jsonl"


def write(
    found: Comparison,
    folder: Path,
    title: str,
    origin: artefact.Origin,
    counts: Mapping[str, artefact.Counts],
) -> tuple[Path, ...]:
    """Writes the four files of a report; the JSON comes last, so that its being there means all."""
    rows = (
        orjson.dumps({"base": orjson.Fragment(base.as_line()), "tuned": orjson.Fragment(line)})
        for base, tuned in found.pairs
        for line in (tuned.as_line(),)
    )
    artefact.write_rows(folder / ROWS, rows, origin, counts)
    artefact.write_text(folder / HTML, page.render(found, title), origin)
    artefact.write_text(folder / MARKDOWN, markdown(found, title), origin)
    document = json.dumps(found.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    artefact.write_text(folder / JSON, document + "\n", origin, counts)
    return files(folder)


def files(folder: Path) -> tuple[Path, ...]:
    """The files of a report, the one to open last."""
    return tuple(folder / name for name in (JSON, ROWS, MARKDOWN, HTML))


def markdown(found: Comparison, title: str) -> str:
    """The report as Markdown: verdict, numbers, what was run, then the samples."""
    parts = [
        f"# {found.verdict.capitalize()}: {tables.escaped(title)}",
        page.explanation(found),
        tables.markdown_table(tables.metric_rows(found.metrics)),
        "## By task and by source",
        tables.markdown_table(
            [
                *tables.part_rows(found.per_task, "task"),
                *tables.part_rows(found.per_source, "source"),
            ]
        ),
        "## How this was measured",
        METHOD,
        "\n".join(f"- {tables.escaped(n)}: {tables.escaped(v)}" for n, v in page.facts(found)),
    ]
    if found.samples:
        parts.append("## Samples, the most improved first, then the worst")
        parts += [_sample(sample) for sample in found.samples]
    return "\n\n".join(parts) + "\n"


def _sample(sample: Mapping[str, Any]) -> str:
    losses = f"loss {sample['base_loss']:.3f} -> {sample['tuned_loss']:.3f}"
    blocks = [f"### {tables.escaped(sample['id'])} ({sample['task']}, {losses})"]
    for title, key in (("asked", "prompt_tail"), ("expected", "expected")):
        blocks.append(f"{title}:\n\n{fenced(sample[key])}")
    for side in ("base", "tuned"):
        remarks = tables.escaped(", ".join(sample[f"{side}_remarks"]))
        blocks.append(f"{side}{f' ({remarks})' if remarks else ''}:\n\n{fenced(sample[side])}")
    return "\n\n".join(blocks)


def fenced(text: str) -> str:
    """`text` as a code block that nothing inside it can close."""
    shown = console.clean(text)
    longest = max((len(run) for run in _runs_of_backticks(shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"


def _runs_of_backticks(text: str) -> list[str]:
    return [run for run in "".join(c if c == "`" else " " for c in text).split() if run]
