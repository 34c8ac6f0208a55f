"""Runs side by side: what each was given and what came out, with only what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from codetune.errors import UserError
from codetune.runlog.reading.details import RunDetails
from codetune.runlog.reading.figures import SHORT, gib, number, seconds_of
from codetune.runlog.reading.layout import Column, cut, drawn, one_line
from codetune.runlog.reading.record import brief

FEWEST, MOST = 2, 8
_NAME = 20  # columns for the name of a run above its values
_FILES = 30  # lines of data that differ; a corpus may have thousands of files
# The value of one batch: its lowest says which batch was easy, not which run is better.
_OF_ONE_BATCH = ("train_loss",)
_SIZES = {"peak memory": "rss", "peak GPU memory": "gpu_memory"}


@dataclass(frozen=True)
class Line:
    """One thing, as it is in each run (None: the run lacks it)."""

    key: str
    values: tuple[Any, ...]
    shown: tuple[str, ...]
    same: bool
    winners: tuple[int, ...] = ()  # places of the runs that are best
    is_long: bool = False  # a command, which says at length what knobs and data say

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"values": list(self.values), "same": self.same, "winners": list(self.winners)}


Sections = Mapping[str, Sequence[Line]]


def check_number(runs: Sequence[object]) -> None:
    """UserError when there are too few or too many to stand side by side."""
    if not FEWEST <= len(runs) <= MOST:
        raise UserError(f"compare takes {FEWEST} to {MOST} runs, not {len(runs)}")


def compared(runs: Sequence[RunDetails]) -> Sections:
    """Everything about the runs, section by section; equal lines say that they are `same`."""
    described = descriptions(runs)
    sections = {title: list(_lines(title, described)) for title in described[0]}
    return {**sections, "metrics": list(_metrics(runs))}  # last: next to the curves


def descriptions(runs: Sequence[RunDetails]) -> list[dict[str, dict[str, Any]]]:
    """`{section: {key: value}}` of each run: what it is, what it was given, and how it went."""
    counts = [Counter(file.kind for file in run.row.inputs) for run in runs]
    single = {kind for count in counts for kind in count if all(c[kind] <= 1 for c in counts)}
    return [
        {
            "run": _run(run),
            "knobs": {param.key: param.value for param in run.params},
            "data": _data(run, single),
            "code": {"commit": run.commit, "changes": run.diff_sha256},
            "environment": dict(_flat(run.environment)),
        }
        for run in runs
    ]


def named(runs: Sequence[RunDetails]) -> list[str]:
    """A name for each run that tells it from the others."""
    names = [one_line(run.row.name) for run in runs]
    ends = [run.row.id[-SHORT:] for run in runs]
    return [n if names.count(n) == 1 else f"{n} {end}" for n, end in zip(names, ends, strict=True)]


def as_json(runs: Sequence[RunDetails], sections: Sections, *, everything: bool) -> dict[str, Any]:
    """`{runs, <section>: {key: {values, same, winners}}}`; equal lines only with `everything`."""
    kept = {
        title: {line.key: line.as_dict() for line in lines if everything or not line.same}
        for title, lines in sections.items()
    }
    return {"runs": [brief(run.row) for run in runs], **kept}


def comparison_lines(
    runs: Sequence[RunDetails], sections: Sections, width: int | None, *, everything: bool
) -> Iterator[Text]:
    """The comparison for a person; sections without a difference are one line."""
    names = named(runs) if width is None else [cut(name, _NAME) for name in named(runs)]
    columns = [Column("", fold=True), *(Column(name, fold=True) for name in names)]
    yield from drawn(columns, [("id", *(run.row.id[-SHORT:] for run in runs))], width)
    for title, lines in sections.items():
        shown = [line for line in lines if everything or not (line.same or line.is_long)]
        hidden = max(0, len(shown) - _FILES) if title == "data" and width is not None else 0
        rows = [(line.key, *line.shown) for line in shown[: len(shown) - hidden]]
        yield Text()
        if rows:
            yield Text(title, style="bold underline")
            yield from drawn([Column("", fold=True), *columns[1:]], rows, width)
        elif any(not line.same for line in lines):
            yield Text(f"{title}: only the command differs; --all shows it", style="dim")
        elif lines:
            yield Text(f"{title}: the same", style="dim")
        else:
            yield Text(f"{title}: none", style="dim")
        if hidden:
            yield Text(f"and {hidden} more; --json tells all", style="dim")
        if title == "metrics" and rows:
            yield Text("* best; in brackets the difference to the first run", style="dim")


def _run(run: RunDetails) -> dict[str, Any]:
    row = run.row
    sizes = {name: getattr(run.peaks, field) for name, field in _SIZES.items()}
    return {
        "stage": row.stage,
        "stage version": run.version,
        "status": row.status,
        "seed": run.seed,
        "command": " ".join(run.argv),
        "seconds": seconds_of(row),
        **sizes,
    }


def _data(run: RunDetails, single: set[str]) -> dict[str, Any]:
    """What was read: one file of a role by the role, several by role and path."""
    files = {}
    for file in run.row.inputs:
        value = {"path": file.path, "sha256": file.sha256}
        files[file.kind if file.kind in single else f"{file.kind} {file.path}"] = value
    return files


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sorted(facts.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, ", ".join(map(str, value)) if isinstance(value, list) else value


def _lines(title: str, described: Sequence[Mapping[str, Mapping[str, Any]]]) -> Iterator[Line]:
    parts = [sections[title] for sections in described]
    keys = dict.fromkeys(key for part in parts for key in part)
    for key in keys if title == "run" else sorted(keys):
        values = tuple(part.get(key) for part in parts)
        shown = tuple(_shown(key, value) for value in values)
        same = len({_identity(value) for value in values}) == 1
        yield Line(key, values, shown, same, is_long=(title, key) == ("run", "command"))


def _identity(value: Any) -> Any:
    """What makes two values the same: of a file its content, where that is known."""
    return (value["sha256"] or value["path"]) if isinstance(value, Mapping) else value


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return f"{(value['sha256'] or '-')[:SHORT]} {value['path']}"
    if key in _SIZES:
        return gib(value)
    return str(value)[:12] if key in ("commit", "changes") else number(value)


def _metrics(runs: Sequence[RunDetails]) -> Iterator[Line]:
    found = [{metric.key: metric for metric in run.metrics} for run in runs]
    for key in sorted({key for metrics in found for key in metrics}):
        metrics = [each.get(key) for each in found]
        known = next(metric for metric in metrics if metric)
        best = tuple(metric.best if metric else None for metric in metrics)
        last = tuple(metric.last if metric else None for metric in metrics)
        if known.direction not in ("lower", "higher") or key in _OF_ONE_BATCH:
            single = all(metric is None or metric.count == 1 for metric in metrics)
            yield _figures(key if single else f"{key}.last", "none", last)
        elif best == last:
            yield _figures(key, known.direction, last)
        else:
            yield _figures(f"{key}.best", known.direction, best)
            yield _figures(f"{key}.last", known.direction, last)


def _figures(key: str, direction: str, values: tuple[float | None, ...]) -> Line:
    same = len(set(values)) == 1
    winners = () if same else _winners(direction, values)
    shown = tuple(_figure(n, values, n in winners) for n in range(len(values)))
    return Line(key, values, shown, same, winners)


def _winners(direction: str, values: Sequence[float | None]) -> tuple[int, ...]:
    """The places of the best of at least two values; none where no direction is better."""
    real = [value for value in values if value is not None]
    if direction not in ("lower", "higher") or len(real) < FEWEST:
        return ()
    best = min(real) if direction == "lower" else max(real)
    return tuple(n for n, value in enumerate(values) if value == best)


def _figure(place: int, values: Sequence[float | None], wins: bool) -> str:
    value, first = values[place], values[0]
    if value is None:
        return "-"
    apart = f" ({value - first:+.3g})" if place and first is not None else ""
    return number(value) + (" *" if wins else "") + apart
