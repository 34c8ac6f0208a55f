"""Whole conversions for tests of readers, and what must hold of the rows of any source."""

import json
import random
import re

from codetune import sample
from codetune.artefact import Counts
from codetune.logs.convert import Account, convert, survey
from codetune.logs.discover import LogFile, discover
from codetune.logs.documents import records_of
from codetune.logs.memory import Memory
from codetune.logs.rows import RowOptions
from codetune.logs.sources import source_of
from tests.logs.claude_lines import shape
from tests.logs.test_fuzz_sessions import damaged_line, damaged_value

# What programs put into conversations, at the start of a line where they put it.
MARKERS = re.compile(
    r"^(?:<system-reminder>|<command-name>|<local-command-|<bash-input>|<task-notification>"
    r"|\[Request interrupted by user|This session is being continued|<environment_context>"
    r"|<user_instructions>|<permissions instructions>|# AGENTS\.md instructions|<turn_aborted>"
    r"|<INSTRUCTIONS>|<persisted-output>|<antThinking>|System: Please continue)"
    r"|\x1b\[|[\ue200-\ue202]|【\d+†",
    re.M,
)


def converted(*sources, **options):
    """(rows, account, rejected (row, reason)) of logs."""
    account, rejected = Account(), []
    learned = survey(discover(sources, account.files), account.files, subagents=True)
    rows = list(
        convert(
            learned,
            RowOptions(**options),
            account,
            subagents=True,
            reject=lambda row, reason: rejected.append((row, reason)),
        )
    )
    return rows, account, rejected


def check_rows(rows, account):
    """The invariants of every row, and that each kept step is a target exactly once."""
    for row in rows:
        check_row(row)
    trained = sum(m["train"] for row in rows for m in row["messages"])
    assert account.made.steps.kept == trained
    assert len({row["id"] for row in rows}) == len(rows)


def check_row(row):
    assert sample.check(sample.parse(sample.dump(row))) is None
    messages = [m for m in row["messages"] if m["role"] != "system"]
    assert messages[0]["role"] == "user"
    open_calls = {}
    for before, message in zip([None, *messages], messages, strict=False):
        role = message["role"]
        assert role == "tool" or before is None or before["role"] != role
        assert role == "assistant" or not MARKERS.search(message["content"]), message["content"]
        if role == "tool":
            assert open_calls.pop(message["tool_call_id"]) == message["name"]
            continue
        assert not open_calls, "a call has no result"
        calls = message.get("tool_calls", [])
        open_calls = {call["id"]: call["function"]["name"] for call in calls}
        assert len(open_calls) == len(calls)
        for call in calls:
            assert "null" not in json.dumps(call["function"]["arguments"]).split('"')[::2]
    assert not open_calls
    last = [m for m in messages if m["role"] != "tool"][-1]
    assert last["role"] == "assistant" and last["train"]
    shown = {tool["function"]["name"] for tool in row.get("tools", [])}
    assert {m["name"] for m in messages if m["role"] == "tool"} <= shown
    assert row["meta"]["provider"] in ("anthropic", "openai", "google", "unknown")
    assert row["meta"]["model"]


def check_twice(*sources):
    """Rows of logs, made twice with equal bytes and checked."""
    first, account, _ = converted(*sources)
    again, _, _ = converted(*sources)
    assert [sample.dump(row) for row in first] == [sample.dump(row) for row in again]
    check_rows(first, account)
    return first, account


def sessions_of(folder, data, reader, memory=None, name="a.jsonl"):
    """(what `reader` makes of a file with this content, the memory of the pass)."""
    if not isinstance(data, bytes):
        data = "".join(json.dumps(record) + "\n" for record in data).encode()
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    file, memory = LogFile(name, path), memory or Memory()
    assert source_of(file).name == reader.NAME
    return list(reader.read(file, memory)), memory


def shape_of(folder, data, reader, **more):
    """As `sessions_of`, of the only session, as short strings."""
    (session,), memory = sessions_of(folder, data, reader, **more)
    return shape(session), memory


def fuzz_lines(folder, reader, lines, files, seed, *, by_record=True):
    """Files of damaged lines through one reader: every record is accounted for."""
    chance = random.Random(seed)
    path = folder / "a.jsonl"
    for _ in range(files):
        damaged = [damaged_line(line, chance) for line in lines]
        if chance.random() < 0.3:
            chance.shuffle(damaged)
        path.write_bytes(b"\n".join(damaged) + b"x")
        read_and_check(path, reader, seed, by_record=by_record)


def fuzz_document(folder, reader, document, files, seed):
    """Damaged documents through one reader: nothing raises, every row is valid."""
    chance = random.Random(seed)
    path = folder / "a.json"
    for _ in range(files):
        made = document
        for _ in range(chance.randrange(1, 5)):
            made = damaged_value(made, chance)
        data = json.dumps(made).encode()
        if chance.random() < 0.1:
            data = data[: chance.randrange(len(data) + 1)]
        path.write_bytes(data)
        read_and_check(path, reader, seed, by_record=False)


def read_and_check(path, reader, seed, *, by_record):
    file, memory = LogFile(path.name, path), Memory()
    replay = f"seed {seed}"
    sessions = list(reader.read(file, memory))
    held = list(records_of(file))
    if by_record:
        assert memory.records.in_ == len(held), replay
    else:
        assert memory.records.in_ >= sum(record.value is None for record in held), replay
    reader.detect([record.value for record in held if record.value is not None])
    for session in sessions:
        for step in session.steps():
            assert {call.id for call in step.calls} == set(step.results), replay
            assert step.text or step.calls, replay
    if source_of(file) is not None:
        rows, account, _ = converted(path, max_chars=4000)
        for row in rows:
            check_row_shape(row, replay)
        assert account.rows.kept == len(rows), replay


def check_row_shape(row, replay):
    """What holds even of rows of damaged logs: texts of strangers may look like anything."""
    assert sample.check(sample.parse(sample.dump(row))) is None, replay
    roles = [m["role"] for m in row["messages"] if m["role"] != "system"]
    assert roles[0] == "user", replay
    pairs = zip(roles, roles[1:], strict=False)
    assert all(a != b or a == "tool" for a, b in pairs), replay


def counted(memory: Memory) -> Counts:
    """The account of records."""
    return memory.records
