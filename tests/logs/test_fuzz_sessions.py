"""Whole files damaged at random: no traceback, and every account adds up."""

import json
import random

import pytest

from codetune import sample
from codetune.logs.convert import Account, convert, survey
from codetune.logs.discover import discover
from codetune.logs.documents import records_of
from codetune.logs.rows import RowOptions


def nested(levels):
    """Lists in lists."""
    value = []
    for _ in range(levels):
        value = [value]
    return value


JUNK = (
    *(2**70, -(2**63), 1e308, nested(70), nested(400), {"a": nested(240)}, "\ud800" * 9),
    *(None, True, -1, 1.5, "", "x", "\x00\x1b[31m", "\ud800", [], {}, [1], ["x"], [None]),
    *([{"type": "text"}], [{"type": ["x"]}], {"type": "tool_use", "input": []}, {"a": {"b": None}}),
    *("<system-reminder>", "<command-name>", "[Request interrupted by user]", "x" * 5000),
)


def damaged_value(value, chance):
    """`value` with one place in it replaced by junk, removed, doubled or swapped."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(sorted(value))
        return {**value, key: damaged_value(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        place = chance.randrange(len(value))
        made = [*value[:place], damaged_value(value[place], chance), *value[place + 1 :]]
        return made if chance.random() < 0.8 else [*made, made[0]]
    return chance.choice(JUNK)


def damaged_line(line, chance):
    kind = chance.random()
    if kind < 0.6:
        return line
    if kind < 0.7:
        return line[: chance.randrange(len(line) + 1)]
    if kind < 0.75:
        return line + line
    try:
        record = json.loads(line)
    except ValueError:
        return line
    for _ in range(chance.randrange(1, 4)):
        record = damaged_value(record, chance)
    return json.dumps(record).encode()


def convert_damaged(root, folder, seed):
    chance = random.Random(seed)
    source = root / "data/staging/claude_logs"
    for path in sorted(source.rglob("*.jsonl")):
        lines = [damaged_line(line, chance) for line in path.read_bytes().split(b"\n")]
        if chance.random() < 0.3:
            chance.shuffle(lines)
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"\n".join(lines) + b"x")
    account = Account()
    files = discover([folder], account.files)
    learned = survey(files, account.files, subagents=True)
    rejected = []
    rows = list(
        convert(
            learned,
            RowOptions(max_chars=4000),
            account,
            subagents=True,
            reject=lambda row, reason: rejected.append(sample.dump(row)),
        )
    )
    held = sum(1 for file, _ in learned.readable for _ in records_of(file))
    assert account.memory.records.in_ == held
    assert account.files.in_ == len(files)
    assert account.rows.kept == len(rows)
    assert all(sample.check(sample.parse(sample.dump(row))) is None for row in rows)


@pytest.mark.parametrize("number", range(6))
def test_damaged_sessions(root, tmp_path, number):
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay: convert_damaged(root, folder, {seed})")
    convert_damaged(root, tmp_path, seed)


@pytest.mark.slow
def test_many_damaged_sessions(root, tmp_path):
    for number in range(150):
        seed = random.SystemRandom().randrange(2**32)
        print(f"replay: convert_damaged(root, folder, {seed})")
        convert_damaged(root, tmp_path / str(number), seed)
