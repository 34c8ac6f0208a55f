"""What a run writes into its journal, and how it is read back.

One record a line: `{"ts": ms UTC, "kind": ..., ...}`. Kinds: created, started, define, metric,
input, output, tag, untag, note, system, event, finished. Readers leave out kinds they do not know.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNS = Path("logs/runs")
JOURNAL, CONSOLE = "events.jsonl", "console.log"
# Written by whoever looks at a run, at any time: they say nothing of the run's own life.
AMENDMENTS = frozenset({"tag", "untag", "note"})
_LONGEST_TEXT = 1000  # characters; longer values are texts, and texts stay out of the run log
# A name that ends like this, but not a number of something per token or a token of a tokenizer.
_SECRET_NAME = re.compile(
    r"(^|(?<!per)(?<!eos)(?<!pad)(?<!bos)[._-])(token|password|passwd|secret|api[_-]?key)$",
    re.IGNORECASE,
)
_URL_USER = re.compile(r"://(?:([^/\s:@]*):)?[^/\s]+@")


@dataclass(frozen=True)
class Record:
    """One line of a journal: where it starts and ends, in bytes, and what it says."""

    start: int
    end: int
    fields: dict[str, Any]

    @property
    def kind(self) -> str:
        """What kind of event this is; empty for a line that cannot be read."""
        return str(self.fields.get("kind", ""))


def journal_path(root: Path, run_id: str) -> Path:
    """Where the journal of a run lies."""
    return root / RUNS / run_id / JOURNAL


def console_path(root: Path, run_id: str) -> Path:
    """Where the lines that a run said to people lie, dated and with their level."""
    return root / RUNS / run_id / CONSOLE


def read(journal: Path, start: int = 0) -> Iterator[Record]:
    """The records from byte `start` on. A torn last line is left for later; a damaged line (from
    a disk that was full for a moment) comes as a record without fields.
    """
    with journal.open("rb") as source:
        source.seek(start)
        for line in source:
            if not line.endswith(b"\n"):
                return
            end = start + len(line)
            yield Record(start, end, parsed(line))
            start = end


def finite(value: float) -> float | None:
    """`value`, or None where JSON and SQLite have no number for it (NaN, infinities)."""
    number = float(value)
    return number if math.isfinite(number) else None


def shown_argv(argv: Sequence[str], texts: Collection[str] = ()) -> list[str]:
    """A command line fit for keeping: secrets hidden, texts replaced by their length.

    Texts are long words, and the values of the flags named in `texts`.
    """
    words, flag, many = [], "", False  # the flag whose value comes, or whose values go on
    for word in argv:
        name, equals, value = word.partition("=")
        if flag and not (many and name.startswith("--")):
            words.append(_hidden(flag, word))
            flag, many = (flag, True) if not _SECRET_NAME.search(flag) else ("", False)
            continue
        kept_out = _is_kept_out(name, texts)
        words.append(f"{name}={_hidden(name, value)}" if kept_out and equals else _fit(word))
        flag, many = name if kept_out and not equals else "", False
    return words


def flat_params(
    config: Mapping[str, Any], differences: Mapping[str, Any], texts: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """`{key: {text, num?, default?}}` of a resolved config, nested keys joined by dots.

    `default` is there only where the value differs from it. Of the keys named in `texts` only the
    length is kept.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, value in config.items():
        for name, leaf in _leaves(key, value):
            found[name] = _param(name, _length(leaf) if key in texts else leaf)
            if key in differences:
                default = _part(differences[key].get("default"), name[len(key) + 1 :])
                shown = _param(name, _length(default) if key in texts else default)
                found[name]["default"] = shown["text"]
    return found


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}", part)
    else:
        yield name, value


def _part(value: Any, path: str) -> Any:
    for key in path.split(".") if path else ():
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _param(name: str, value: Any) -> dict[str, Any]:
    if _SECRET_NAME.search(name) and value:
        return {"text": "***"}
    shown = _masked(value)
    text = shown if isinstance(shown, str) else json.dumps(shown, default=str, ensure_ascii=False)
    numeric = isinstance(value, int | float) and finite(value) is not None
    return {"text": _fit(text), **({"num": float(value)} if numeric else {})}


def _masked(value: Any) -> Any:
    """`value` without secrets that stand under their names deeper in it."""
    if isinstance(value, Mapping):
        hidden = {
            key: bool(part) and bool(_SECRET_NAME.search(str(key))) for key, part in value.items()
        }
        return {key: "***" if hidden[key] else _masked(part) for key, part in value.items()}
    return [_masked(part) for part in value] if isinstance(value, list | tuple) else value


def _is_kept_out(flag: str, texts: Collection[str]) -> bool:
    named = flag.startswith("--")
    known = flag.removeprefix("--").replace("-", "_") in texts
    return named and (known or bool(_SECRET_NAME.search(flag)))


def _hidden(flag: str, value: str) -> str:
    return "***" if _SECRET_NAME.search(flag) else str(_length(value))


def _length(value: Any) -> Any:
    if isinstance(value, list):
        return [_length(part) for part in value]
    return f"<{len(value)} characters>" if isinstance(value, str) else value


def _fit(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        return str(_length(text))
    return _URL_USER.sub(_without_password, text)


def _without_password(url: re.Match[str]) -> str:
    """A user beside a password is kept; one that stands alone may be a token."""
    return f"://{url[1]}:***@" if url[1] is not None else "://***@"


def parsed(line: bytes) -> dict[str, Any]:
    """What one line of a journal says; nothing for a damaged one."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
