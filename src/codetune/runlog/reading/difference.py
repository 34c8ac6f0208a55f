"""What a run was that its commit does not say, and how two runs differ, as lines of a patch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from codetune.console import clean
from codetune.runlog.reading.comparison import descriptions, named
from codetune.runlog.reading.details import RunDetails
from codetune.runlog.reading.figures import number
from codetune.runlog.reading.layout import facts, one_line, title
from codetune.runlog.reading.record import brief, patch_of

_HASH = 12  # characters of a hash, as git shows them
_CONTEXT = 2  # equal lines around a difference
_STYLES = (("+++", "bold"), ("---", "bold"), ("@@", "cyan"), ("+", "green"), ("-", "red"))


def uncommitted(run: RunDetails, root: Path) -> dict[str, Any]:
    """`{run, commit, diff_sha256, file, patch, knobs}`: a run's code beside its commit, and what of
    its configuration was not left at the default. `patch` is None where none was kept.
    """
    file = patch_of(run, root)
    text = None if file is None else (root / file).read_text(encoding="utf-8", errors="replace")
    knobs = {
        param.key: {"value": param.value, "default": param.default}
        for param in run.params
        if param.default is not None
    }
    code = {"commit": run.commit, "diff_sha256": run.diff_sha256}
    return {"run": brief(run.row), **code, "file": file, "patch": text, "knobs": knobs}


def uncommitted_lines(told: dict[str, Any], width: int | None) -> Iterator[Text]:
    """The same for a person: a few facts, then the patch."""
    yield from title(told["run"]["name"], width)
    code: list[tuple[str, object]] = [
        ("commit", told["commit"] or "none"),
        ("changes", _code(told)),
    ]
    yield from facts(code, width, indent=2)
    if told["knobs"]:
        yield Text()
        yield Text("knobs changed from their defaults", style="bold underline")
        for key, knob in told["knobs"].items():
            yield Text(f"-{one_line(key)}: {one_line(knob['default'])}", style="red")
            yield Text(f"+{one_line(key)}: {one_line(knob['value'])}", style="green")
    if told["patch"]:
        yield Text()
        yield from map(_coloured, told["patch"].splitlines())


def differences(runs: Sequence[RunDetails]) -> dict[str, list[Any]]:
    """`{key: [in the first, in the second]}` of everything in which two runs differ."""
    one, other = (_flat(description) for description in descriptions(runs))
    keys = sorted({*one, *other})
    return {key: [one.get(key), other.get(key)] for key in keys if one.get(key) != other.get(key)}


def difference_lines(runs: Sequence[RunDetails]) -> Iterator[Text]:
    """Both records as sorted lines, and the unified difference of these; nothing when equal."""
    one, other = (
        [f"{key}: {value}" for key, value in sorted(_flat(description).items())]
        for description in descriptions(runs)
    )
    before, after = (f"{name} {run.row.id}" for name, run in zip(named(runs), runs, strict=True))
    lines = difflib.unified_diff(one, other, before, after, n=_CONTEXT, lineterm="")
    yield from map(_coloured, lines)


def _flat(description: dict[str, dict[str, Any]]) -> dict[str, str]:
    """A description as `section.key` and one line of text each; how long it took is no difference
    in what was run.
    """
    return {
        f"{section}.{one_line(key)}": _text(value)
        for section, part in description.items()
        for key, value in part.items()
        if value is not None and (section, key) not in _OUTCOMES
    }


_OUTCOMES = {("run", name) for name in ("status", "seconds", "peak memory", "peak GPU memory")}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f"{one_line(value['path'])} sha256:{(value['sha256'] or '-')[:_HASH]}"
    return one_line(number(value))


def _code(told: dict[str, Any]) -> str:
    if told["diff_sha256"] is None:
        return "none: the code was exactly the commit" if told["commit"] else "not known"
    if told["patch"] is None:
        return f"{told['diff_sha256']}, but the patch was not kept here (logs/diffs)"
    return f"{told['file']} (git apply takes it)"


def _coloured(line: str) -> Text:
    style = next((style for start, style in _STYLES if line.startswith(start)), "")
    return Text(clean(line), style=style)
