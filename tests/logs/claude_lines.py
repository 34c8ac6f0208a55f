"""Builds Claude Code session files for tests: what each record means stands in its name."""

import itertools
import json
from pathlib import Path

from codetune.artefact import Counts
from codetune.logs import claude_code
from codetune.logs.discover import LogFile
from codetune.logs.memory import Memory


class Log:
    """A session file under construction; `tip` is the uuid of its last linked record."""

    def __init__(self, session="s-1", cwd="/home/mira/work"):
        self.session, self.cwd, self.lines, self.tip = session, cwd, [], None
        self._ids = itertools.count(1)

    def add(self, record):
        self.lines.append(json.dumps(record))
        return record

    def raw(self, line):
        self.lines.append(line)

    def node(self, kind, **more):
        uuid = more.pop("uuid", f"u{next(self._ids)}")
        record = {"type": kind, "uuid": uuid, "parentUuid": self.tip, "sessionId": self.session}
        self.add({**record, "cwd": self.cwd, "timestamp": "2026-01-01T00:00:00Z", **more})
        self.tip = uuid
        return uuid

    def user(self, content, **more):
        return self.node("user", message={"role": "user", "content": content}, **more)

    def says(self, text, **more):
        return self.block({"type": "text", "text": text}, **more)

    def calls(self, name, call_id, group=None, **arguments):
        block = {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
        return self.block(block, group=group)

    def block(self, block, group=None, model="claude-x", **more):
        group = group or f"msg_{next(self._ids)}"
        message = {"role": "assistant", "id": group, "model": model, "content": [block]}
        return self.node("assistant", message=message, **more)

    def result(self, call_id, content, **more):
        block = {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}
        return self.user([block])

    def write(self, folder, name="a.jsonl", end="\n"):
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.lines) + end, encoding="utf-8")
        return LogFile(name, path)

    def read(self, folder, memory=None):
        """The sessions of this log alone and the memory of the pass."""
        memory = memory or Memory()
        return claude_code.read(self.write(folder), memory), memory


def shape(session):
    """A session as short strings, segment by segment, for asserts that show the whole."""
    return [[_item(item) for item in segment] for segment in session.segments]


def _item(item):
    if hasattr(item, "kind"):
        return f"{item.kind}: {item.text}"
    calls = " ".join(f"{c.name}->{item.results[c.id].text}" for c in item.calls)
    masked = f" [{','.join(sorted(item.masked))}]" if item.masked else ""
    return f"step: {item.text}{' ' if calls and item.text else ''}{calls}{masked}"


def nothing_lost(memory: Memory) -> Counts:
    """The account of records, after a check that it is not empty."""
    assert memory.records.in_ > 0
    return memory.records
