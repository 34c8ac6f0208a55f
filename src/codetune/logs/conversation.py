"""A conversation under construction: what most readers have in common.

Readers tell what happened in order; calls and results find each other by id at the end.
"""

from __future__ import annotations

from codetune.logs.memory import Memory
from codetune.logs.pairing import finished, without_nulls
from codetune.logs.session import Call, Prompt, PromptKind, Result, Segment, Step


class Conversation:
    """Takes prompts, steps and results in order and gives segments."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._segments: list[Segment] = [[]]
        self._results: dict[str, Result] = {}
        self._called: set[str] = set()
        self._open: Step | None = None

    def ask(self, text: str, kind: PromptKind = "human", timestamp: str = "") -> None:
        """Something was said to the assistant."""
        self._open = None
        self._segments[-1].append(Prompt(text, kind, timestamp))

    def step(self, model: str = "") -> Step:
        """The message the assistant is at; a new one after a prompt or a result."""
        if self._open is None:
            self._open = Step(model=model)
            self._segments[-1].append(self._open)
        self._open.model = self._open.model or model
        return self._open

    def say(self, text: str, model: str = "") -> None:
        """The assistant wrote `text`."""
        if text.strip():
            step = self.step(model)
            step.text = "\n\n".join(part for part in (step.text, text.strip()) if part)

    def think(self, text: str, model: str = "") -> None:
        """The assistant thought `text`."""
        self._memory.blocks["thinking" if text.strip() else "thinking:empty"] += 1
        if text.strip():
            step = self.step(model)
            step.reasoning = "\n\n".join(part for part in (step.reasoning, text.strip()) if part)

    def call(self, call_id: str, name: object, arguments: object, model: str = "") -> bool:
        """The assistant called a tool. False, and the step masked, when that is no call."""
        step = self.step(model)
        held = without_nulls(arguments) if isinstance(arguments, dict) else None
        if not isinstance(name, str) or not name or held is None or not call_id:
            self._memory.blocks["call:malformed"] += 1
            step.masked.add("malformed_call")
            return False
        step.calls.append(Call(call_id, name, held))
        self._called.add(call_id)
        return True

    def answer(self, call_id: str, result: Result) -> None:
        """A call came back. The first result of a call is the one that counts."""
        self._results.setdefault(call_id, result)
        self.close()

    def close(self) -> None:
        """What the assistant says next is another message."""
        self._open = None

    def mask_last(self, reason: str) -> None:
        """The last message, if the assistant spoke last, is not to be trained."""
        if self._segments[-1] and isinstance(last := self._segments[-1][-1], Step):
            last.masked.add(reason)
        self.close()

    def cut(self) -> None:
        """What follows did not see what came before."""
        self.close()
        if self._segments[-1]:
            self._segments.append([])

    def take_back(self, prompts: int) -> None:
        """Forgets the last prompts of a person in this segment and all that followed them."""
        segment = self._segments[-1]
        asked = [i for i, it in enumerate(segment) if isinstance(it, Prompt) and it.kind == "human"]
        if prompts > 0 and asked:
            del segment[asked[max(0, len(asked) - prompts)] :]
        self.close()

    def was_called(self, call_id: str) -> bool:
        """Whether a call has this id."""
        return call_id in self._called

    def finish(self) -> list[Segment]:
        """The segments: calls and results paired, empty messages left out, others joined."""
        return finished(self._segments, self._results, self._memory)
