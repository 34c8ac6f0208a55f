import json
import random
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.logs.jsonl import Record, parse_line, read_records


def faults(line):
    return [record.fault for record in parse_line(line)]


def values(line):
    return [record.value for record in parse_line(line)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"a":1}\n', [""]),
        (b'{"a":1}', [""]),
        (b"\n", ["blank"]),
        (b"\x00\x00\x00\n", ["blank"]),
        (b'{"a":1}\x00\x00\n', [""]),
        (b'\xef\xbb\xbf{"a":1}\r\n', [""]),
        (b'{"a":\n', ["invalid_json"]),
        (b'{"a":', ["incomplete"]),
        (b'{"a":1}{"a":', ["", "incomplete"]),
        (b"[1]\n", ["not_an_object"]),
        (b'"x"\n', ["not_an_object"]),
        (b'{"a":"\xff"}\n', ["bad_utf8"]),
        (b'{"a":NaN}\n', ["invalid_json"]),
        (b'{"a":1e999}\n', ["invalid_json"]),
        (b'{"a":' + b"1" * 5000 + b"}\n", ["invalid_json"]),
        (b"[" * 100_000 + b"\n", ["too_deep"]),
        (b'{"a":' * 100_000 + b"\n", ["too_deep"]),
        (b'{"a":1}{"b":2}\n', ["", ""]),
        (b'{"a":1} garbage\n', ["", "invalid_json"]),
    ],
)
def test_named_cases(line, expected):
    assert faults(line) == expected


def test_two_objects_on_a_line_are_both_kept():
    assert values(b'{"a":1} {"b":2}\n') == [{"a": 1}, {"b": 2}]


def test_a_lone_surrogate_becomes_writable():
    (value,) = values(b'{"a":"x\\ud800y"}\n')
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    assert value["a"].startswith("x") and value["a"].endswith("y")


def test_integers_that_cannot_be_written_become_floats():
    """Whichever parser reads them: the second line needs the slow one."""
    for line in (b'{"a":1180591620717411303424}', b'{"a":1180591620717411303424,"b":"\\ud800"}'):
        assert values(line)[0]["a"] == 2.0**70
        orjson.dumps(values(line)[0])


def test_a_line_separator_of_unicode_ends_no_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a":"x\u2028y\u0085z"}\n{"b":1}\n', encoding="utf-8")
    assert [record.value for record in read_records(path)] == [{"a": "x\u2028y\u0085z"}, {"b": 1}]


def test_line_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a":1}\n\n{"b":1}{"c":1}\n{"d"')
    found = [(record.line, record.fault) for record in read_records(path)]
    assert found == [(1, ""), (2, "blank"), (3, ""), (3, ""), (4, "incomplete")]


def test_a_long_line_is_left_out_and_the_next_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a":"' + b"x" * 5000 + b'"}\n{"b":1}\n')
    found = list(read_records(path, longest_line=100))
    assert found == [Record(1, None, "line_too_long"), Record(2, {"b": 1})]


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "a.jsonl").touch()
    assert list(read_records(tmp_path / "a.jsonl")) == []


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=5))
def test_what_json_writes_is_read_back(value):
    line = json.dumps(value).encode() + b"\n"
    (record,) = parse_line(line)
    expected = json.loads(json.dumps(value).encode("utf-8"))
    assert json.dumps(record.value).replace("?", "") or expected == {}
    if not any(0xD800 <= ord(c) <= 0xDFFF for c in json.dumps(value, ensure_ascii=False)):
        assert record.value == expected


@given(st.binary(max_size=300))
def test_any_bytes_give_records_and_no_exception(line):
    found = list(parse_line(line.replace(b"\n", b"")))
    assert found
    assert all((record.value is None) == bool(record.fault) for record in found)


def mutated(line, chance):
    """`line` with one kind of damage."""
    line = bytearray(line)
    kind = chance.randrange(5)
    place = chance.randrange(len(line)) if line else 0
    if kind == 0 and line:
        line[place] = chance.randrange(256)
    elif kind == 1:
        del line[place : place + chance.randrange(1, 20)]
    elif kind == 2:
        line[place:place] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 8)))
    elif kind == 3:
        del line[place:]
    else:
        line[place:place] = line[: chance.randrange(200)]
    return bytes(line).replace(b"\n", b" ")


def fuzz(root: Path, number: int, seed: int) -> None:
    lines = [
        line
        for path in sorted((root / "data/staging/claude_logs").rglob("*.jsonl"))
        for line in path.read_bytes().split(b"\n")
        if line
    ]
    chance = random.Random(seed)
    slowest = 0.0
    for _ in range(number):
        line = mutated(chance.choice(lines), chance) + b"\n"
        started = time.perf_counter()
        found = list(parse_line(line))
        slowest = max(slowest, time.perf_counter() - started)
        assert found, f"seed {seed}: {line!r} is unaccounted for"
        assert all((r.value is None) == bool(r.fault) for r in found), f"seed {seed}: {line!r}"
    assert slowest < 1.0, f"seed {seed}"


def test_mutated_lines(root):
    fuzz(root, 20_000, seed=random.SystemRandom().randrange(2**32))


@pytest.mark.slow
def test_a_million_mutated_lines(root):
    fuzz(root, 1_000_000, seed=random.SystemRandom().randrange(2**32))
