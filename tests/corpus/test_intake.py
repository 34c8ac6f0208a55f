"""Reading rows: what is kept, what is dropped and why, and that only hashes stay in memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from codetune import sample
from codetune.corpus.intake import Intake, Reject, group_hash, group_of, valid_row
from codetune.errors import UserError


def text_row(name: str, text: str, group: str | None = None, **more: Any) -> dict[str, Any]:
    meta = {"source": "notes", **({"group": group} if group else {})}
    return {"id": name, "task": "text", "text": text, "meta": meta, **more}


def write(path: Path, rows: list[Any]) -> Path:
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows]
    data = b"".join(line + b"\n" for line in lines)
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_reads_plain_and_packed_alike(tmp_path: Path, name: str) -> None:
    rows = [text_row("1", "one", "g"), text_row("2", "two", "h", extra={"deep": [1]})]
    reader = Intake(io.BytesIO())
    assert reader.take_file(write(tmp_path / name, rows)) == 2
    back = [json.loads(line) for line in reader.texts(reader.records())]
    assert back == rows  # unknown keys are kept
    assert reader.kinds == {("text", "notes"): 0}


def test_every_drop_has_a_reason_and_the_account_closes(tmp_path: Path) -> None:
    bad = [b"{", b"[1]", b'"\xff"', {"foo": 1}, text_row("3", " "), {"messages": []}]
    rejects: list[Reject] = []
    reader = Intake(io.BytesIO(), on_reject=rejects.append)
    reader.take_file(write(tmp_path / "a.jsonl", [text_row("1", "one"), b"", *bad, b"  "]))
    account = reader.counts.as_dict()
    assert account["in"] == 7 and account["kept"] == 1
    assert account["dropped"] == {
        "bad_utf8": 1,
        "empty_text": 1,
        "no_messages": 1,
        "not_an_object": 1,
        "not_json": 1,
        "unknown_shape": 1,
    }
    assert [(r.line, r.reason) for r in rejects[:2]] == [(3, "not_json"), (4, "not_an_object")]
    assert json.loads(rejects[2].encode())["row"] == '"\ufffd"'


def test_generic_rows_are_made_ours(tmp_path: Path) -> None:
    reader = Intake(io.BytesIO())
    generic = [
        {"prompt": "p", "completion": "c"},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    ]
    reader.take_file(write(tmp_path / "a.jsonl", generic))
    tasks = {json.loads(line)["task"] for line in reader.texts(reader.records())}
    assert tasks == {"chat"}


def test_a_file_without_one_valid_row_is_an_error_not_an_empty_corpus(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [b"# notes", b"# more"])
    with pytest.raises(
        UserError, match=r"a\.jsonl: not one valid row in 2 lines \(line 1: not_json"
    ):
        Intake(io.BytesIO()).take_file(file)
    assert Intake(io.BytesIO()).take_file(write(tmp_path / "empty.jsonl", [])) == 0


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("damage", ["no archive", "cut off"])
def test_a_damaged_archive_is_a_user_error(tmp_path: Path, name: str, damage: str) -> None:
    file = write(tmp_path / name, [text_row(str(i), f"text {i}") for i in range(50)])
    file.write_bytes(b'{"text": "x"}\n' if damage == "no archive" else file.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be unpacked"):
        Intake(io.BytesIO()).take_file(file)


def test_a_dropped_copy_moves_from_kept_to_dropped(tmp_path: Path) -> None:
    rejects: list[Reject] = []
    reader = Intake(io.BytesIO(), on_reject=rejects.append)
    reader.take_file(write(tmp_path / "a.jsonl", [text_row("1", "x"), text_row("2", "y")]))
    reader.reject(reader.records()[1], "duplicate")
    assert reader.counts.as_dict() == {"in": 2, "kept": 1, "dropped": {"duplicate": 1}}
    assert (rejects[0].line, json.loads(rejects[0].row)["id"]) == (2, "2")


def test_hashes_in_a_record_are_those_of_the_row(tmp_path: Path) -> None:
    reader = Intake(io.BytesIO(), seed=7)
    row = text_row("1", "x", "my group")
    reader.take_file(write(tmp_path / "a.jsonl", [row]))
    record = reader.records()[0]
    assert record["content"].ljust(16, b"\0").hex() == sample.content_sha256(row)[:32]
    assert record["group"].ljust(16, b"\0").hex() == group_hash("my group")
    line = sample.dump(row)
    assert record["line_hash"].ljust(16, b"\0") == hashlib.sha256(line).digest()[:16]
    assert record["draw"] == sample.draw("my group", "split:7")


@pytest.mark.parametrize("group", [None, "", 7, ["x"]])
def test_a_row_without_group_is_its_own(group: Any) -> None:
    assert group_of({"id": "r-1", "meta": {"group": group}}) == "r-1"


def test_memory_does_not_grow_with_text(tmp_path: Path) -> None:
    def peak(size: int) -> int:
        file = tmp_path / f"{size}.jsonl"
        with file.open("wb") as out:
            for i in range(300):
                out.write(json.dumps(text_row(f"r{i}", f"{i}" + "x" * size)).encode() + b"\n")
        with (tmp_path / "scratch").open("w+b") as scratch:
            tracemalloc.start()
            reader = Intake(scratch)
            reader.take_file(file)
            highest = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return highest

    peak(10)  # first-use imports
    assert peak(40_000) - peak(400) < 1_500_000  # 12 MB of text; only a few rows at a time


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "id",
                        "task",
                        "text",
                        "messages",
                        "meta",
                        "role",
                        "content",
                        "group",
                        "conversations",
                        "from",
                        "value",
                        "prompt",
                        "completion",
                        "prefix",
                        "middle",
                        "suffix",
                        "tool_calls",
                        "function",
                        "train",
                        "x",
                    ]
                ),
                inner | st.sampled_from(["chat", "fim", "text", "user", "assistant"]),
                max_size=5,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_line_is_a_row_or_has_a_reason(line: bytes) -> None:
    try:
        row, text = valid_row(line)
    except sample.BadRow as bad:
        assert bad.reason.replace("_", "").isalnum()
    else:
        again, same = valid_row(text)
        assert same == text and sample.content_sha256(again) == sample.content_sha256(row)


def test_trailing_zero_bytes_of_a_hash_survive() -> None:
    column = np.array([b"ab" + b"\0" * 14], dtype="S16")
    assert column.tolist()[0].ljust(16, b"\0") == b"ab" + b"\0" * 14
