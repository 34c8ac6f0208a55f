"""From what was said in order to segments in which every call has its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codetune.logs.memory import Memory
from codetune.logs.session import Result, Segment, Step

# Deeper arguments are no call a tool ever took, and would exhaust the stack of later readers.
_DEEPEST = 64


def finished(
    segments: Sequence[Segment], results: Mapping[str, Result], memory: Memory
) -> list[Segment]:
    """The segments with calls and results paired by id, empty steps and segments left out.

    Steps that nothing stands between are joined. What is left out is counted in `memory.blocks`.
    """
    made = [_finished(segment, results, memory) for segment in segments]
    return [segment for segment in made if segment]


def _finished(segment: Segment, results: Mapping[str, Result], memory: Memory) -> Segment:
    done: Segment = []
    for item in segment:
        if isinstance(item, Step):
            _pair(item, results, memory)
            if not item.text and not item.calls:
                memory.blocks["step:empty"] += 1
                continue
            if done and isinstance(last := done[-1], Step) and not last.calls:
                _join(last, item)
                continue
        done.append(item)
    return done


def _pair(step: Step, results: Mapping[str, Result], memory: Memory) -> None:
    calls = {call.id: call for call in step.calls if call.id in results}
    if len(calls) < len(step.calls):
        memory.blocks["call:without_result"] += len(step.calls) - len(calls)
        step.masked.add("call_without_result")
    step.calls = list(calls.values())
    step.results = {call_id: results[call_id] for call_id in calls}
    endings = {result.status for result in step.results.values()}
    step.masked |= {"rejected"} & endings
    step.masked |= {"tool_use_error"} if "error" in endings else set()


def _join(first: Step, second: Step) -> None:
    """Two messages that nothing stands between are one: templates know no other."""
    first.text = "\n\n".join(text for text in (first.text, second.text) if text)
    first.reasoning = "\n\n".join(t for t in (first.reasoning, second.reasoning) if t)
    first.calls, first.results = second.calls, second.results
    first.masked |= second.masked


def without_nulls(value: Any) -> Any:
    """`value` without null members and items; None for one that is nested too deep."""
    return _pruned(value) if is_shallow(value) else None


def is_shallow(value: Any, levels: int = _DEEPEST) -> bool:
    """Whether `value` can be written, read and walked by everything that comes later."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(is_shallow(item, levels - 1) for item in inner)


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        cleaned = {key: _pruned(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item is not None}
    if isinstance(value, list):
        items = [_pruned(item) for item in value]
        return [item for item in items if item is not None]
    return value
