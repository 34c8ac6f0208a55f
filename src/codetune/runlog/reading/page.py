"""One run in full, as lines for a person."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from codetune.runlog.local import RunFile, RunRow
from codetune.runlog.reading.details import Peaks, RunDetails, Summary
from codetune.runlog.reading.figures import SHORT, duration, gib, number, when
from codetune.runlog.reading.layout import Column, drawn, facts, status_style, title

# Which figures of a metric a narrow terminal goes without: the best one is the least or highest.
_FIGURES = {"best": 0, "at step": 0, "last": 0, "first": 3, "min": 4, "max": 4, "points": 1}
_EVENTS = 20  # the newest; more of them push the rest off the screen


def page(run: RunDetails, width: int | None, *, everything: bool = False) -> Iterator[Text]:
    """Everything about a run; parts that would be empty are left out.

    With `everything` also the knobs at their defaults and the older events.
    """
    yield from title(f"{run.row.name} ({run.row.stage}, {run.row.id[-SHORT:]})", width)
    yield from facts(_facts(run), width, indent=2)
    yield from _part("notes", [(when(n.ts), n.text) for n in run.notes], [_c("", fold=True)], width)
    yield from _knobs(run, width, everything=everything)
    files = list(_files(run.row.files, everything=everything))
    yield from _part("files", files, [_c("what"), _c("sha256"), _c("path", fold=True)], width)
    yield from metric_lines(run.metrics, width)
    yield from _events(run, width, everything=everything)
    children = [_child(row) for row in run.children]
    columns = [_c("name", cut=True), _c("stage"), Column("status", style=status_style)]
    yield from _part("runs it started", children, [*columns, _c("took")], width)


def metric_lines(metrics: Sequence[Summary], width: int | None) -> Iterator[Text]:
    """A table of metrics, each with its figures over the run."""
    columns = [Column(name, right=True, spare=spare) for name, spare in _FIGURES.items()]
    named = [Column("metric", fold=True), Column("unit", fold=True, spare=2)]
    rows = [_figures(metric) for metric in metrics]
    if rows:
        yield from _titled("metrics", drawn([*named, *columns], rows, width))


def words(fields: Mapping[str, object]) -> str:
    """The fields of an event on one line; sorted, since PostgreSQL keeps no order."""
    return " ".join(f"{key}={number(value)}" for key, value in sorted(fields.items()))


def _c(name: str, *, fold: bool = False, cut: bool = False) -> Column:
    return Column(name, fold=fold, cut=cut)


def _part(
    name: str, rows: Sequence[Sequence[object]], columns: Sequence[Column], width: int | None
) -> Iterator[Text]:
    """A titled table whose first column has no name; nothing when there are no rows."""
    if rows:
        yield from _titled(name, drawn([Column(""), *columns], rows, width))


def _titled(name: str, lines: Sequence[Text]) -> Iterator[Text]:
    yield Text()
    yield Text(name, style="bold underline")
    yield from lines


def _facts(run: RunDetails) -> list[tuple[str, object]]:
    row = run.row
    pairs: list[tuple[str, object]] = [
        ("id", row.id),
        ("stage", row.stage if run.version is None else f"{row.stage}, version {run.version}"),
        ("status", f"{row.status}{': ' if row.reason else ''}{row.reason}"),
        ("when", f"{when(row.started or row.created)}, {duration(row)}"),
        ("steps", _steps(run)),
        ("tags", " ".join(json.dumps(t, ensure_ascii=False) if " " in t else t for t in run.tags)),
        ("command", " ".join(run.argv)),
        ("code", _code(run)),
        ("seed", "" if run.seed is None else run.seed),
        ("started by", row.parent or ""),
        ("peaks", _peaks(run.peaks)),
        *_environment(run.environment),
    ]
    return [(name, value) for name, value in pairs if value != ""]


def _environment(env: Mapping[str, object]) -> list[tuple[str, object]]:
    if not env:  # of a run that was created, but never started
        return []
    packages, gpus = env.get("packages"), env.get("gpus")
    named = packages.items() if isinstance(packages, Mapping) else ()
    listed = gpus if isinstance(gpus, list) else []
    return [
        ("machine", f"{env.get('cpu')}, {env.get('cpu_count')} cores, {env.get('memory_gib')} GiB"),
        ("GPU", ", ".join(map(str, listed)) or "none"),
        ("python", f"{env.get('python')} on {env.get('system')} {env.get('release')}"),
        ("packages", " ".join(f"{name} {version}" for name, version in sorted(named))),
    ]


def _steps(run: RunDetails) -> str:
    """How far training came, where its stage said how far it goes."""
    planned = [event.fields.get("total") for event in run.events if event.kind == "steps_planned"]
    done = max((metric.steps for metric in run.metrics), default=0)
    return f"{done} of {planned[-1]}" if planned else ""


def _code(run: RunDetails) -> str:
    changes = f"changes {run.diff_sha256[:SHORT]}" if run.diff_sha256 else ""
    shown = f" (runs diff {run.row.id[-SHORT:]} shows them)" if changes else ""
    if run.commit is None:
        return f"no commit {changes}{shown}".rstrip()
    return f"{run.commit[:12]}{' with ' if changes else ''}{changes}{shown}"


def _peaks(peaks: Peaks) -> str:
    """What the process and its GPUs were seen to use at most."""
    shown = [
        "" if peaks.cpu_percent is None else f"CPU {peaks.cpu_percent:.0f} %",
        "" if peaks.rss is None else f"memory {gib(peaks.rss)}",
        "" if peaks.gpu_percent is None else f"GPU {peaks.gpu_percent:.0f} %",
        "" if peaks.gpu_memory is None else f"GPU memory {gib(peaks.gpu_memory)}",
        "" if peaks.gpu_temperature is None else f"{peaks.gpu_temperature:.0f} °C",
        "" if peaks.gpu_power is None else f"{peaks.gpu_power:.0f} W",
    ]
    return ", ".join(filter(None, shown))


def _knobs(run: RunDetails, width: int | None, *, everything: bool) -> Iterator[Text]:
    rows = [
        (param.key, param.value, "same" if param.default is None else param.default)
        for param in run.params
        if everything or param.default is not None
    ]
    name = "knobs" if everything else "knobs changed from their defaults"
    yield from _part(name, rows, [_c("value", fold=True), _c("default", fold=True)], width)


def _figures(metric: Summary) -> list[object]:
    best: tuple[object, object] = "", ""  # where no direction is better
    if metric.direction in ("lower", "higher"):
        best = number(metric.best), "-" if metric.best_step is None else metric.best_step
    values = (metric.last, metric.first, metric.min, metric.max)
    return [metric.key, metric.unit, *best, *map(number, values), metric.count]


def _files(files: Sequence[RunFile], *, everything: bool) -> Iterator[tuple[str, ...]]:
    """The files; of the checkpoints that a run made only the newest and their number."""
    made = [file for file in files if (file.role, file.kind) == ("out", "checkpoint")]
    earlier = set() if everything else {id(file) for file in made[:-1]}
    for file in files:
        if id(file) in earlier:
            continue
        many = earlier and file is made[-1]
        more = f" (the newest of {len(made)}; --all lists them)" if many else ""
        yield file.role, file.kind, (file.sha256 or "-")[:SHORT], file.path + more


def _events(run: RunDetails, width: int | None, *, everything: bool) -> Iterator[Text]:
    shown = run.events if everything else run.events[-_EVENTS:]
    rows = [(when(event.ts), event.kind, words(event.fields)) for event in shown]
    hidden = len(run.events) - len(shown)
    name = f"events (the newest {len(shown)} of {len(run.events)})" if hidden else "events"
    yield from _part(name, rows, [_c("what"), _c("", fold=True)], width)


def _child(row: RunRow) -> list[str]:
    return [row.id[-SHORT:], row.name, row.stage, row.status, duration(row)]
