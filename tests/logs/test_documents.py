"""Arrays, objects and members of archives as records."""

import json
import random
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.artefact import Counts
from codetune.errors import UserError
from codetune.logs.discover import LogFile, discover
from codetune.logs.documents import records_of
from codetune.logs.jsonl import read_records


def records(path, data, **more):
    path.write_bytes(data)
    return list(records_of(LogFile(path.name, path), **more))


def told(path, data, **more):
    return [r.value if r.value is not None else r.fault for r in records(path, data, **more)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.json"


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'[{"a":1},{"b":2}]', [{"a": 1}, {"b": 2}]),
        (b'\xef\xbb\xbf [\r\n {"a":1} ,\r\n {"b":2}\r\n]\r\n', [{"a": 1}, {"b": 2}]),
        (b'[{"a":1},2,"x",[3],null]', [{"a": 1}, *["not_an_object"] * 4]),
        (b'[{"a":1},]', [{"a": 1}]),
        (b'[{"a":1}]\n{"b":2}\n', [{"a": 1}, "after_the_array"]),
        (b'[{"a":1},{"b":', [{"a": 1}, "incomplete"]),
        (b'[{"a":1}', [{"a": 1}, "incomplete"]),
        (b'[{"a":1} {"b":2}]', [{"a": 1}, "invalid_json"]),
        (b'[{"a":1},{"b":NaN}]', [{"a": 1}, "invalid_json"]),
        (b'[{"a":1},{"b":"\xff"}]', ["bad_utf8"]),
        (b'[{"a":1},' + DEEP + b"]", [{"a": 1}, "too_deep"]),
        (b'[{"a":"\\ud800"}]', [{"a": "?"}]),
        (b'{\n "a": 1\n}\n', [{"a": 1}]),
        (b'{\r\n\t"a": 1\r\n}', [{"a": 1}]),
        (b"{\n}\n", [{}]),
        (b'{\n "a": 1\n}\n{\n "b": 2\n}\n', [{"a": 1}, {"b": 2}]),
        (b'{\n "a": \n', ["incomplete"]),
        (b'{"a":1}\n{"b":2}\n', [{"a": 1}, {"b": 2}]),
        (b'{\n{"a":1}\n', ["invalid_json", {"a": 1}]),
        (b'[]\n{"a":1}\n', ["not_an_object", {"a": 1}]),
        (b"", []),
    ],
)
def test_named_cases(path, data, expected):
    assert told(path, data) == expected


def test_what_is_too_long_is_left_out(path):
    assert told(path, b'[{"a":1},{"b":"' + b"x" * 5_000_000 + b'"}]', longest=100) == [
        {"a": 1},
        "document_too_long",
    ]
    assert told(path, b'{\n"b":"' + b"x" * 500 + b'"}', longest=100) == ["document_too_long"]


def test_a_fault_far_from_the_end_is_found_without_reading_on(path):
    data = b'[{"a" 1},' + b'{"b":2},' * 1_000_000 + b"{}]"
    assert told(path, data) == ["invalid_json"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=4), max_size=6))
def test_an_array_is_read_as_json_reads_it(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "array.json"
    plain = [v for v in values if not any(0xD800 <= ord(c) <= 0xDFFF for c in repr(v))]
    for indent in (None, 1):
        text = json.dumps([{"first": 1}, *plain], indent=indent, ensure_ascii=False)
        assert told(path, text.encode()) == [{"first": 1}, *plain]


@pytest.mark.parametrize("number", range(4))
def test_cut_anywhere_gives_all_elements_before_the_cut(path, number):
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    whole = [{"n": n, "t": "é" * chance.randrange(40)} for n in range(30)]
    data = json.dumps(whole, ensure_ascii=False).encode()
    for _ in range(100):
        place = chance.randrange(3, len(data))
        found = told(path, data[:place])
        good = [value for value in found if isinstance(value, dict)]
        assert good == whole[: len(good)], f"seed {seed}"
        done = data[:place].count(b"}")
        assert len(good) == done or found[-1] == "bad_utf8", f"seed {seed}"


def test_elements_larger_than_a_chunk(path):
    whole = [{"n": n, "t": "x" * 3_000_000} for n in range(3)]
    assert told(path, json.dumps(whole).encode()) == whole


def test_memory_follows_the_largest_element_and_not_the_file(path):
    line = json.dumps({"t": "x" * 100_000})
    with path.open("w") as out:
        out.write("[" + ",".join([line] * 400) + "]")
    tracemalloc.start()
    assert sum(1 for _ in records_of(LogFile("a", path))) == 400
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 40e6 and peak < 12e6


@given(st.binary(max_size=300))
def test_any_bytes_give_records_and_no_exception(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.json"
    for start in (b"", b"[{", b"{\n"):
        assert all((r.value is None) == bool(r.fault) for r in records(path, start + data))


def test_lines_are_read_as_before(root):
    for path in sorted((root / "data/staging/claude_logs").rglob("*.jsonl"))[:6]:
        assert list(records_of(LogFile("x", path))) == list(read_records(path))


# ------------------------------------------------------------------ archives


def archive(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return path


def test_members_are_read_in_place(tmp_path):
    made = archive(
        tmp_path / "export.zip",
        {
            "conversations.json": '[{"a":1}]',
            "x/b.jsonl": '{"b":2}\n',
            "photo.png": "x",
            "e.json": "",
        },
    )
    counts = Counts()
    found = discover([made], counts)
    assert [f.name.split("/", 1)[1] for f in found] == [
        "export.zip/conversations.json",
        "export.zip/x/b.jsonl",
    ]
    assert [r.value for file in found for r in records_of(file)] == [{"a": 1}, {"b": 2}]
    assert counts.dropped == {"empty": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export.zip"]


def test_hostile_names_are_only_labels(tmp_path):
    names = ("../../etc/x.json", "/abs/y.json", "a\x1b[31m\n$(touch z).jsonl")
    made = archive(tmp_path / "e.zip", dict.fromkeys(names, '{"a":1}'))
    found = discover([made], Counts())
    assert len(found) == 3 and all(f.name.isprintable() for f in found)
    assert [r.value for file in found for r in records_of(file)] == [{"a": 1}] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.zip"]


def test_a_bomb_is_refused(tmp_path):
    made = archive(tmp_path / "e.zip", {"a.json": b" " * 3_000_000, "b.json": '{"a":1}'})
    counts = Counts()
    assert len(discover([made], counts)) == 1
    assert counts.dropped == {"zip_bomb": 1}


def test_sizes_in_sum_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("codetune.logs.discover._LARGEST_ARCHIVE", 10)
    made = archive(tmp_path / "e.zip", {"a.json": "{" + " " * 20 + "}"})
    counts = Counts()
    assert discover([made], counts) == []
    assert counts.dropped == {"archive_too_large": 1}


def test_a_size_that_lies_gives_no_more_than_it_says(tmp_path):
    """A member that says 12 bytes and unpacks to megabytes is cut at 12 and fails its checksum."""
    made = archive(tmp_path / "e.zip", {"a.jsonl": b'{"a":1}\n' * 400_000})
    data = made.read_bytes()
    true = (8 * 400_000).to_bytes(4, "little")
    assert data.count(true) == 2
    made.write_bytes(data.replace(true, (12).to_bytes(4, "little")))
    found = list(records_of(LogFile("a", made, member="a.jsonl")))
    assert len(found) <= 3 and found[-1].fault in ("damaged_archive", "incomplete")


def test_encrypted_and_unknown_members_are_counted(tmp_path):
    made = archive(tmp_path / "e.zip", {"a.json": '{"a":1}'})
    data = bytearray(made.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    made.write_bytes(data)
    other = archive(tmp_path / "l.zip", {"a.json": '{"a":1}'}, zipfile.ZIP_LZMA)
    counts = Counts()
    assert discover([made, other], counts) == []
    assert counts.dropped == {"encrypted": 1, "unknown_compression": 1}


def test_a_damaged_archive_is_one_line_or_a_count(tmp_path):
    broken = tmp_path / "logs" / "e.zip"
    broken.parent.mkdir()
    broken.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UserError, match="no readable zip archive"):
        discover([broken], Counts())
    counts = Counts()
    assert discover([broken.parent], counts) == []
    assert counts.dropped == {"damaged_archive": 1}


@pytest.mark.parametrize("number", range(60))
def test_damage_inside_an_archive_is_a_fault(tmp_path, number):
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    text = b"".join(b'{"n":%d,"t":"%d"}\n' % (n, chance.randrange(10**9)) for n in range(500))
    made = archive(tmp_path / "e.zip", {"a.jsonl": text})
    data = bytearray(made.read_bytes())
    for _ in range(chance.randrange(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    made.write_bytes(data)
    try:
        found = discover([made], Counts())
    except UserError:
        return
    for file in found:
        assert all((r.value is None) == bool(r.fault) for r in records_of(file)), f"seed {seed}"


def test_zlib_faults_are_among_them(tmp_path):
    made = archive(tmp_path / "e.zip", {"a.jsonl": '{"a":1}\n' * 50})
    data = bytearray(made.read_bytes())
    start = data.index(b"a.jsonl") + 7
    data[start : start + 8] = b"\xff" * 8
    made.write_bytes(data)
    with pytest.raises(zlib.error), zipfile.ZipFile(made) as opened:
        opened.read("a.jsonl")
    (record,) = records_of(LogFile("a", made, member="a.jsonl"))
    assert record.fault == "damaged_archive"
