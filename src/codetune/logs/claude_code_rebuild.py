"""From the records of one thread to prompts and steps.

File order is the base: it never puts a result before its call, while links between records are
lost at resumes and parallel calls. Links only say where a branch was abandoned. Lines of one API
message are joined by its id, results find their call by id wherever they stand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from codetune.logs.claude_code_text import Said, read_result, read_user_text, summary, text_of
from codetune.logs.memory import Memory
from codetune.logs.pairing import finished, without_nulls
from codetune.logs.session import Call, Prompt, Result, Segment, Step

EventKind = Literal["user", "assistant", "typed", "cut"]
_NOTHING_SAID = ("(no content)", "No response requested.")


@dataclass(slots=True)
class Event:
    """A record that may belong to a conversation."""

    kind: EventKind
    uuid: str = ""
    parent: str = ""
    timestamp: str = ""
    text: str = ""
    blocks: list[dict[str, Any]] = field(default_factory=list)
    group: str = ""
    model: str = ""
    meta: bool = False
    summary: bool = False
    synthetic: bool = False


def rebuild(
    events: Sequence[Event], parents: Mapping[str, str | None], memory: Memory
) -> list[Segment]:
    """The segments of a thread. Each event is counted in `memory.records`, kept or dropped.

    `parents` maps the uuid of every record of the file, of any kind, to that of its parent.
    """
    thread = _Thread(memory, linked=any(event.parent for event in events))
    abandoned = _abandoned(events, parents)
    for event in events:
        if event.uuid in abandoned:
            memory.records.drop("abandoned_branch")
        else:
            thread.take(event)
    return thread.finish()


class _Thread:
    def __init__(self, memory: Memory, *, linked: bool) -> None:
        self._memory = memory
        self._linked = linked
        self._segments: list[Segment] = [[]]
        self._steps: dict[str, Step] = {}
        self._blocks_seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._results: dict[str, Result] = {}
        self._result_events: list[list[str]] = []
        self._command: tuple[str, Prompt] | None = None

    def take(self, event: Event) -> None:
        reason = self._take(event)
        if reason:
            self._memory.records.drop(reason)

    def _take(self, event: Event) -> str:
        """Takes one event; returns why it is dropped, or nothing when it is kept and counted."""
        if event.kind == "cut":
            self._cut()
        elif event.kind == "typed":
            said = read_user_text(event.text)
            if said.verdict not in ("prompt", "command"):
                return said.text or said.verdict
            self._add(Prompt(said.text, "context", event.timestamp))
        elif event.kind == "assistant":
            return self._assistant(event)
        else:
            return self._user(event)
        self._memory.records.keep()
        return ""

    # -------------------------------------------------------------- assistant

    def _assistant(self, event: Event) -> str:
        if event.synthetic:
            return "synthetic"
        known = self._blocks_seen[event.group]
        fresh = [block for block in event.blocks if block not in known]
        if not fresh:
            return "repeated_block" if event.blocks else "empty"
        known.extend(fresh)
        step = self._steps.get(event.group) if event.group else None
        if step is None:
            step = Step(model=event.model)
            self._steps[event.group] = step
            self._add(step)
        for block in fresh:
            self._block(step, block)
        self._memory.records.keep()
        return ""

    def _block(self, step: Step, block: dict[str, Any]) -> None:
        kind = block.get("type")
        if kind == "text":
            text = str(block.get("text") or "").strip()
            if text and text not in _NOTHING_SAID:
                step.text = f"{step.text}\n\n{text}" if step.text else text
        elif kind == "thinking":
            thought = str(block.get("thinking") or "").strip()
            step.reasoning = f"{step.reasoning}\n\n{thought}".strip()
            self._memory.blocks["thinking" if thought else "thinking:empty"] += 1
        elif kind == "tool_use":
            self._call(step, block)
        else:
            self._memory.blocks["block:other"] += 1

    def _call(self, step: Step, block: dict[str, Any]) -> None:
        name, given = block.get("name"), block.get("input")
        arguments = without_nulls(given) if isinstance(given, dict) else None
        call_id = block.get("id")
        if not isinstance(name, str) or not name or arguments is None or not call_id:
            self._memory.blocks["call:malformed"] += 1
            step.masked.add("malformed_call")
            return
        step.calls.append(Call(str(call_id), name, arguments))

    # -------------------------------------------------------------- user

    def _user(self, event: Event) -> str:
        results = [b for b in event.blocks if b.get("type") == "tool_result"]
        rest = text_of([b for b in event.blocks if b.get("type") != "tool_result"])
        if results:
            self._take_results(results)
        if event.meta and not results:
            return self._expansion(event, rest)
        said = Said("prompt", summary(rest), "summary") if event.summary else read_user_text(rest)
        if said.verdict == "interrupt":
            self._interrupt()
        elif said.verdict in ("prompt", "command") and not event.meta:
            self._prompt(event, said)
        elif not results:
            return said.text
        if not results:
            self._memory.records.keep()
        return ""

    def _prompt(self, event: Event, said: Said) -> None:
        fresh_start = self._linked and not event.parent and said.kind == "human"
        if fresh_start or said.kind == "summary":
            self._cut()
        prompt = Prompt(said.text, said.kind, event.timestamp)
        if said.verdict == "command":
            self._command = (event.uuid, prompt)
        self._add(prompt)

    def _expansion(self, event: Event, text: str) -> str:
        """A hidden text is what a custom command stands for, or nothing the model answers to."""
        if self._command is None or event.parent != self._command[0]:
            return "meta:isMeta"
        said = read_user_text(text)
        if said.verdict != "prompt":
            return "meta:isMeta"
        prompt = self._command[1]
        prompt.text = f"{prompt.text}\n\n{said.text}"
        self._command = None
        self._memory.records.keep()
        return ""

    def _take_results(self, blocks: list[dict[str, Any]]) -> None:
        ids = []
        for block in blocks:
            call_id = str(block.get("tool_use_id") or "")
            raw = text_of(block.get("content"))
            result = read_result(raw, is_error=block.get("is_error") is True)
            self._results.setdefault(call_id, result)
            ids.append(call_id)
        self._result_events.append(ids)

    def _interrupt(self) -> None:
        """The message that was cut short is the last one; the marker itself says nothing."""
        if self._segments[-1] and isinstance(last := self._segments[-1][-1], Step):
            last.masked.add("interrupted")

    # -------------------------------------------------------------- the whole

    def _add(self, item: Prompt | Step) -> None:
        self._segments[-1].append(item)

    def _cut(self) -> None:
        if self._segments[-1]:
            self._segments.append([])

    def finish(self) -> list[Segment]:
        """Pairs calls with results, drops what is empty, joins steps that nothing separates."""
        called = {call.id for step in self._steps.values() for call in step.calls}
        for ids in self._result_events:
            if called.isdisjoint(ids):
                self._memory.records.drop("orphan_result")
            else:
                self._memory.records.keep()
        return finished(self._segments, self._results, self._memory)


def _abandoned(events: Sequence[Event], parents: Mapping[str, str | None]) -> set[str]:
    """The records below a prompt that was taken back: a later prompt has the same parent."""
    last_by_parent: dict[str, str] = {}
    replaced: set[str] = set()
    for event in events:
        if event.parent and event.uuid and _is_human(event):
            before = last_by_parent.get(event.parent)
            replaced |= {before} if before else set()
            last_by_parent[event.parent] = event.uuid
    if not replaced:
        return set()
    children: dict[str, list[str]] = defaultdict(list)
    for uuid, parent in parents.items():
        children[parent or ""].append(uuid)
    below: set[str] = set()
    open_ends = sorted(replaced)
    while open_ends:
        uuid = open_ends.pop()
        if uuid not in below:
            below.add(uuid)
            open_ends.extend(children[uuid])
    return below


def _is_human(event: Event) -> bool:
    if event.kind != "user" or event.meta or event.summary:
        return False
    if any(block.get("type") == "tool_result" for block in event.blocks):
        return False
    said = read_user_text(text_of(event.blocks))
    return said.verdict in ("prompt", "command") and said.kind == "human"
