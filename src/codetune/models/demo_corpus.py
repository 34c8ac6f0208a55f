"""What the demo model is pre-trained on: the standard library of the Python that runs.

Most of it as plain files; a share with a gap to fill, and a share as short dialogues in which a
docstring asks for its function, so that the model has seen every special token that tuning uses.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codetune.errors import UserError
from codetune.sample import draw

# Tests and data tables are large and unlike the code that people write; packages are not ours.
_LEFT_OUT = {
    *("test", "tests", "idle_test", "idlelib", "lib2to3", "distutils", "turtledemo"),
    *("pydoc_data", "encodings", "ensurepip", "site-packages", "dist-packages", "__pycache__"),
}
_SMALLEST, _LARGEST = 300, 40_000  # bytes; larger files are mostly one-sided tables
_FEWEST_FILES = 50
_GAP_SHARE, _DIALOGUE_SHARE = 0.2, 0.2
_WINDOW_LINES = 40
_LONGEST_ANSWER = 1_200  # characters


@dataclass(frozen=True)
class Source:
    """One file of the corpus: its path below the library, and its text."""

    name: str
    text: str


def standard_library(max_bytes: int) -> list[Source]:
    """About `max_bytes` of Python source, in an order that depends on file names alone.

    Raises UserError when this Python comes without the source of its library.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    names = _names(root)
    if len(names) < _FEWEST_FILES:
        raise UserError(
            f"{root}: only {len(names)} Python source files; this Python comes without the source "
            "of its standard library, use another one"
        )
    found: list[Source] = []
    room = max_bytes
    for name in names:
        if room <= 0:
            break
        raw = (root / name).read_bytes()
        try:
            found.append(Source(name, raw.decode("utf-8")))
        except UnicodeDecodeError:
            continue  # a handful of files in older encodings; none is missed
        room -= len(raw)
    return found


def fingerprint(sources: Sequence[Source]) -> str:
    """A hash over names and texts."""
    joined = hashlib.sha256()
    for source in sources:
        joined.update(f"{source.name}\0{source.text}\0".encode())
    return joined.hexdigest()


def lessons(sources: Sequence[Source]) -> Iterator[dict[str, Any]]:
    """Rows to pre-train on: each file once as it is, with a gap, or as dialogues."""
    for source in sources:
        chance = draw(source.name, "demo-lesson")
        if chance < _GAP_SHARE:
            yield from _gaps(source)
        elif chance < _GAP_SHARE + _DIALOGUE_SHARE:
            yield from _dialogues(source)
        else:
            yield {"id": source.name, "task": "text", "text": source.text, "meta": {}}


def _names(root: Path) -> list[str]:
    found = (file.relative_to(root) for file in root.rglob("*.py") if _fits(file))
    names = [name.as_posix() for name in found if not _LEFT_OUT & set(name.parts)]
    return sorted(names, key=lambda name: draw(name, "demo-order"))


def _fits(file: Path) -> bool:
    return file.is_file() and _SMALLEST <= file.stat().st_size <= _LARGEST


def _gaps(source: Source) -> Iterator[dict[str, Any]]:
    """The file in windows of lines, each with one to four lines taken out of its middle."""
    lines = source.text.splitlines(keepends=True)
    for start in range(0, len(lines), _WINDOW_LINES):
        window = lines[start : start + _WINDOW_LINES]
        row_id = f"{source.name}:{start}"
        size = 1 + int(4 * draw(row_id, "demo-gap-size"))
        gap = int((len(window) - size) * draw(row_id, "demo-gap-place"))
        middle = "".join(window[gap : gap + size])
        if gap > 0 and middle.strip():
            yield {
                "id": row_id,
                "task": "fim",
                "prefix": "".join(window[:gap]),
                "middle": middle,
                "suffix": "".join(window[gap + size :]),
                "meta": {},
            }


def _dialogues(source: Source) -> Iterator[dict[str, Any]]:
    """One question and answer a documented function; every other one is looked up by a tool."""
    try:
        tree = ast.parse(source.text)
    except (SyntaxError, ValueError):
        return
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    for number, function in enumerate(functions):
        asked = (ast.get_docstring(function) or "").split("\n\n")[0]
        answer = ast.get_source_segment(source.text, function) or ""
        if asked and len(answer) <= _LONGEST_ANSWER:
            messages = _written(asked, answer) if number % 2 else _read(source, function, answer)
            yield {
                "id": f"{source.name}:{function.lineno}",
                "task": "chat",
                "messages": [*messages],
                "meta": {},
            }


def _written(asked: str, answer: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": f"Write a function: {asked}"},
        {"role": "assistant", "content": f"```python\n{answer}\n```", "train": True},
    ]


def _read(source: Source, function: ast.FunctionDef, answer: str) -> list[dict[str, Any]]:
    arguments = {"file_path": source.name, "offset": function.lineno}
    call = {"id": "1", "type": "function", "function": {"name": "Read", "arguments": arguments}}
    return [
        {"role": "user", "content": f"Show me {function.name} in {source.name}."},
        {"role": "assistant", "content": "", "tool_calls": [call], "train": True},
        {"role": "tool", "content": answer, "tool_call_id": "1"},
        {"role": "assistant", "content": f"```python\n{answer}\n```", "train": True},
    ]
