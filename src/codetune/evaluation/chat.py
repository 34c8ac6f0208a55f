"""Simple, model-free checks of a chat answer: what a reader of a sample should notice.

Qwen2.5-Coder answers tool calls in code blocks rather than in its own tags, so calls are looked
for in every spelling seen; otherwise a base model looks incapable for the wrong reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.S)
_FENCED = re.compile(r"```(?:json|tool_call)?[ \t]*\n(.*?)(?:```|\Z)", re.S)
_OBJECT = re.compile(r"(?:\[\s{0,20})?\{\s{0,20}\"")
_ARGUMENT_KEYS = ("arguments", "parameters", "input")
_SHORTEST_LOOP = 6  # characters: shorter ones are ordinary in code, as in a row of zeros
_LONGEST_LOOP = 16  # lines, or words


def tool_calls(text: str) -> list[dict[str, Any]]:
    """The calls in an answer as `{"name", "arguments"}`: tagged, in code blocks, or bare JSON."""
    for candidates in (_TAGGED.findall(text), _FENCED.findall(text), [text]):
        calls = [call for part in candidates for call in _calls_in(part)]
        if calls:
            return calls
    return []


def remarks(answer: str, expected: str, *, stopped: bool) -> list[str]:
    """What stands out in an answer, as short phrases; empty when nothing does."""
    found = []
    if not answer.strip():
        found.append("empty")
    if not stopped:
        found.append("cut off at the token limit")
    if repeats(answer):
        found.append("repeats itself")
    wanted, called = ([call["name"] for call in tool_calls(text)] for text in (expected, answer))
    if wanted or called:
        found.append(_about_calls(wanted, called))
    return found


def repeats(text: str) -> bool:
    """Whether the text ends in one and the same lines, or run of words, three times over."""
    lines = [line for line in text.split("\n") if line.strip()]
    return any(_ends_in_loop(parts) for parts in (lines, text.split()))


def _ends_in_loop(parts: list[str]) -> bool:
    for width in range(1, min(_LONGEST_LOOP, len(parts) // 3) + 1):
        first, second, third = (parts[-width * k :][:width] for k in (1, 2, 3))
        if first == second == third and sum(map(len, first)) >= _SHORTEST_LOOP:
            return True
    return False


def _about_calls(wanted: list[str], called: list[str]) -> str:
    if not called:
        return "no tool call where one was made"
    if not wanted:
        return "a tool call where none was made"
    return "the right tool" if called == wanted else "another tool"


def _calls_in(text: str) -> Iterator[dict[str, Any]]:
    decoder, position = json.JSONDecoder(), 0
    while opening := _OBJECT.search(text, position):
        try:
            value, position = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            position = opening.start() + 1
            continue
        for item in value if isinstance(value, list) else [value]:
            call = _as_call(item)
            if call:
                yield call


def _as_call(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    value = value["function"] if isinstance(value.get("function"), dict) else value
    name = value.get("name")
    arguments = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": arguments}
