"""From sessions to chat rows: one row a turn, or several for a long one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from codetune.artefact import Counts
from codetune.logs.messages import PER_MESSAGE, cost, flat, joined, step_messages, with_own_names
from codetune.logs.providers import provider_of
from codetune.logs.session import Prompt, Session, Step
from codetune.logs.tool_schemas import Catalogue, Toolbox
from codetune.logs.turns import Turn, turns_of
from codetune.logs.windows import Unit, Window, windows
from codetune.sample import digest

_PREFIX = {
    **{"claude_code": "cc", "codex": "cx", "claude_ai": "ca", "gemini": "gm", "chatgpt": "cg"},
    "chat_rows": "row",
}
Reject = Callable[[dict[str, Any], str], None]
_WARM_UPS = ("warmup", "warm up")


@dataclass(frozen=True)
class RowOptions:
    """How rows are cut. Sizes are in characters, before redaction."""

    system_prompt: str = ""
    max_chars: int = 24_000
    max_tool_chars: int = 6_000
    reasoning: Literal["drop", "keep"] = "drop"


@dataclass
class RowCounts:
    """One account a unit: turns become rows, steps become targets."""

    turns: Counts = field(default_factory=Counts)
    steps: Counts = field(default_factory=Counts)


class RowMaker:
    """Makes the rows of sessions, given the tools that the whole data set knows."""

    def __init__(
        self, options: RowOptions, catalogue: Catalogue, counts: RowCounts, reject: Reject
    ) -> None:
        self._options, self._counts, self._reject = options, counts, reject
        self._inferred = self._tools = Toolbox(catalogue)

    def rows(self, session: Session, group: str) -> Iterator[dict[str, Any]]:
        """The rows of one session, unredacted, in order."""
        name = digest(session.id, session.agent, session.first)
        stem = f"{_PREFIX.get(session.source, session.source)}-{name}"
        self._tools = self._inferred.with_given(session.tools)
        for number, segment in enumerate(session.segments):
            turns = turns_of(segment, self._counts.turns, self._counts.steps)
            units = [self._units(turn) for turn in turns]
            for place, turn in enumerate(turns):
                shown = _Place(f"{stem}-s{number}-t{place}", group, session, turn, place)
                if turn.prompt.strip().lower() in _WARM_UPS:
                    self._counts.steps.drop("warm_up", len(turn.steps))
                    self._drop(shown, units[place], "warm_up")
                    continue
                yield from self._turn_rows(shown, turns[:place], units[: place + 1])

    def _turn_rows(
        self, place: _Place, before: list[Turn], units: list[list[Unit]]
    ) -> Iterator[dict[str, Any]]:
        own = units[-1]
        budget = self._options.max_chars - len(self._system(place.session))
        budget -= len(place.turn.prompt) + 2 * PER_MESSAGE
        made = 0
        trained: set[int] = set()
        too_long: set[int] = set()
        for window in windows(own, budget, self._size):
            if isinstance(window, int):
                too_long.add(window)
                continue
            history = self._history(before, units[:-1], own, window, budget)
            trained |= {i for i in range(window.start, window.stop) if own[i].trained}
            yield self._row(place, made, history, window, own)
            made += 1
        self._account(own, trained, too_long)
        if made:
            self._counts.turns.keep()
        else:
            self._drop(place, own, "too_long" if too_long else "no_trained_step")

    def _account(self, units: list[Unit], trained: set[int], too_long: set[int]) -> None:
        steps = self._counts.steps
        for number, unit in enumerate(units):
            if unit.masked == "text":
                continue
            if number in trained:
                steps.keep()
            elif unit.masked:
                steps.drop(f"masked:{unit.masked}")
            else:
                steps.drop("too_long" if number in too_long else "not_in_a_window")

    def _drop(self, place: _Place, units: list[Unit], reason: str) -> None:
        self._counts.turns.drop(reason)
        asked = {"role": "user", "content": place.turn.prompt}
        messages = joined([asked, *flat(units, train=False)])
        meta = place.meta(0, units, 0)
        self._reject({"id": place.stem, "task": "chat", "messages": messages, "meta": meta}, reason)

    # -------------------------------------------------------------- units

    def _units(self, turn: Turn) -> list[Unit]:
        return [self._unit(item) for item in turn.items]

    def _unit(self, item: Step | Prompt) -> Unit:
        if isinstance(item, Prompt):
            messages: list[dict[str, Any]] = [{"role": "user", "content": item.text}]
            return Unit(tuple(messages), "text", cost(messages), frozenset())
        messages = step_messages(
            item, self._options.max_tool_chars, reasoning=self._options.reasoning == "keep"
        )
        masked = min(item.masked) if item.masked else ""
        return Unit(tuple(messages), masked, cost(messages), frozenset(c.name for c in item.calls))

    def _system(self, session: Session) -> str:
        return session.system or self._options.system_prompt

    def _names(self, units: Iterable[Unit]) -> frozenset[str]:
        """The tools a row shows: those that were called, and those that were offered."""
        return self._tools.given.union(*(unit.tools for unit in units))

    def _size(self, units: Sequence[Unit]) -> int:
        return sum(unit.cost for unit in units) + self._tools.size(self._names(units))

    def _history(
        self,
        before: list[Turn],
        units: list[list[Unit]],
        own: list[Unit],
        window: Window,
        budget: int,
    ) -> list[tuple[Turn, list[Unit]]]:
        """As many whole turns before this one as fit; none where the turn itself is cut."""
        if window.context or window.start:
            return []
        held = list(own[window.context : window.stop])
        first = len(before)
        while first > 0:
            budget -= len(before[first - 1].prompt) + PER_MESSAGE
            held += units[first - 1]
            if self._size(held) > budget:
                break
            first -= 1
        return list(zip(before[first:], units[first:], strict=True))

    # -------------------------------------------------------------- rows

    def _row(
        self,
        place: _Place,
        number: int,
        history: list[tuple[Turn, list[Unit]]],
        window: Window,
        own: list[Unit],
    ) -> dict[str, Any]:
        messages: list[dict[str, Any]] = []
        if system := self._system(place.session):
            messages.append({"role": "system", "content": system})
        for turn, units in history:
            messages.append({"role": "user", "content": turn.prompt})
            messages += flat(units, train=False)
        messages.append({"role": "user", "content": place.turn.prompt})
        messages += flat(own[window.context : window.start], train=False)
        fresh = own[window.start : window.stop]
        messages += flat(fresh, train=True)
        used = [
            *(unit for _, units in history for unit in units),
            *own[window.context : window.stop],
        ]
        schemas = [self._tools.schema(name) for name in sorted(self._names(used))]
        row = {
            "id": f"{place.stem}-w{number}",
            "task": "chat",
            "messages": joined(messages),
            **({"tools": schemas} if schemas else {}),
            "meta": place.meta(number, fresh, len(history)),
        }
        return with_own_names(row)


@dataclass(frozen=True)
class _Place:
    """Where a turn stands, for its id and meta."""

    stem: str
    group: str
    session: Session
    turn: Turn
    number: int

    def meta(self, window: int, fresh: list[Unit], history: int) -> dict[str, Any]:
        session, steps = self.session, self.turn.steps
        model = next((step.model for step in steps if step.model), "unknown")
        flags = sorted({f"masked:{u.masked}" for u in fresh if u.masked not in ("", "text")})
        if any(" characters omitted] ..." in m["content"] for u in fresh for m in u.messages):
            flags.append("shortened")
        statuses = [result.status for step in steps for result in step.results.values()]
        return {
            "source": session.source,
            "group": self.group,
            "project": digest(session.project),
            "model": model,
            "provider": session.provider or provider_of(model),
            "timestamp": self.turn.timestamp,
            "flags": flags,
            "signals": {
                "calls": len(statuses),
                **{f"calls_{s}": statuses.count(s) for s in ("failed", "error", "rejected")},
            },
            "agent": "subagent" if session.agent else "main",
            "version": session.version,
            "turn": self.number,
            "window": window,
            "history_turns": history,
        }
