"""A lineage drawn as an indented tree of lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from codetune.runlog.reading.disk import OK
from codetune.runlog.reading.figures import SHORT, duration, when
from codetune.runlog.reading.layout import cut, one_line
from codetune.runlog.reading.lineage import LISTED, Artefact, Step
from codetune.runlog.reading.lineage_stack import Call, returned

_LONGEST = 160  # characters of a knob's value


@dataclass(frozen=True)
class _Node:
    lines: list[str]
    below: list[_Node]


def tree_lines(
    found: Step | Artefact, *, forward: bool, everything: bool, width: int | None = None
) -> Iterator[str]:
    """The lines, whole or cut to a terminal of `width`: one that wraps would break the tree.

    Sources of which there are many are counted, unless all are wanted.
    """
    drawing = _Drawing("read by" if forward else "made by", everything)
    call = drawing.step(found, "") if isinstance(found, Step) else drawing.artefact(found)
    for line in _drawn(returned(call)):
        yield line if width is None else cut(line, width)


@dataclass(frozen=True)
class _Drawing:
    verb: str
    everything: bool

    def artefact(self, one: Artefact) -> Call[_Node]:
        file = one.file
        facts = [file.kind, one_line(file.path), (file.sha256 or "no hash")[:SHORT]]
        said = [one.state] if one.state not in ("", OK) else []
        said += [one.doubt] if one.doubt else []
        line = " ".join(filter(None, facts)) + (f" ({'; '.join(said)})" if said else "")
        below = []
        for step in one.runs:
            below.append((yield self.step(step, self.verb)))
        return _Node([one_line(line)], below)

    def step(self, step: Step, verb: str) -> Call[_Node]:
        run = step.run
        name = f"{one_line(run.name)} ({run.id[-SHORT:]})"
        if step.told_above:
            return _Node([f"{verb} {name}, told above".strip()], [])
        facts = f"{run.stage}, {run.status}, {when(run.started or run.created)}, {duration(run)}"
        lines = [f"{verb} {name}: {facts}, {_code(step)}".strip()]
        knobs = [f"{key}={one_line(text)[:_LONGEST]}" for key, text in step.knobs.items()]
        lines += ["with " + " ".join(map(one_line, knobs))] if knobs else []
        below = yield self._files(step)
        return _Node(lines, below)

    def _files(self, step: Step) -> Call[list[_Node]]:
        """Each file; but where many of a kind come from no run, their number and what is gone."""
        sources = Counter(one.file.kind for one in step.files if not one.runs)
        many = {kind for kind, n in sources.items() if n > LISTED and not self.everything}
        nodes = []
        for one in step.files:
            if one.runs or one.file.kind not in many:
                nodes.append((yield self.artefact(one)))
        for kind in sorted(many):
            states = [o.state for o in step.files if not o.runs and o.file.kind == kind]
            wrong = Counter(state for state in states if state not in ("", OK))
            said = "".join(f", {n} of the first {LISTED} {state}" for state, n in wrong.items())
            nodes.append(_Node([f"{sources[kind]:,} x {kind}{said} (--all lists them)"], []))
        return nodes


def _code(step: Step) -> str:
    changes = f" with changes {step.diff_sha256[:SHORT]}" if step.diff_sha256 else ""
    return f"code {step.commit[:12] if step.commit else 'of no commit'}{changes}"


def _drawn(node: _Node) -> Iterator[str]:
    waiting = [(node, "", "")]  # with what stands before its first line, and before the rest
    while waiting:
        node, first, rest = waiting.pop()
        bar = "│  " if node.below else "   "
        for number, line in enumerate(node.lines):
            yield f"{rest}{bar}{line}" if number else f"{first}{line}"
        for number, child in enumerate(reversed(node.below)):
            tip, bar = ("├─ ", "│  ") if number else ("└─ ", "   ")
            waiting.append((child, rest + tip, rest + bar))
