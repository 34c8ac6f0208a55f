"""Records as rows: amendments, hostile texts, and records that somebody damaged; both engines."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from codetune.artefact import append_record
from codetune.runlog import create_run, events
from codetune.runlog.store import database, index, records, revision, schema
from codetune.runlog.store.database import locate, transaction

STARTED = {
    "ts": 10,
    "kind": "started",
    "version": 1,
    "seed": 7,
    "argv": ["train.py"],
    "params": {"lr": {"text": "0.5", "num": 0.5, "default": "0.1"}, "r": {"text": "8"}},
    "process": {"machine": "m", "pid": 1, "started": 5},
    "commit": "c",
    "diff_sha256": None,
    "environment_hash": "e",
    "environment": {"python": "3.11", "gpus": [], "packages": {"torch": "2"}},
}
SYSTEM = {"cpu_percent": 1.5, "rss": 5, "gpu_percent": 3.0, "gpu_memory": 7, "gpu_power": 1.0}
DEFINE = {"key": "loss", "unit": "nats", "direction": "lower", "version": 1}
SOUND: list[dict[str, Any]] = [
    STARTED,
    {"ts": 11, "kind": "define", **DEFINE},
    {"ts": 12, "kind": "metric", "key": "loss", "version": 1, "step": 3, "value": 0.25},
    {"ts": 13, "kind": "input", "role": "train", "path": "data/a", "sha256": "1" * 64},
    {"ts": 14, "kind": "output", "role": "adapter", "path": "outputs/a", "sha256": None},
    {"ts": 15, "kind": "system", "gpu_temperature": 60.0, **SYSTEM},
    {"ts": 16, "kind": "event", "name": "saved", "fields": {"step": 3}},
    {"ts": 17, "kind": "tag", "text": "good"},
    {"ts": 18, "kind": "untag", "text": "other"},
    {"ts": 19, "kind": "note", "text": "well"},
    {"ts": 20, "kind": "finished", "status": "failed", "reason": "why"},
]
HOSTILE = [
    'it\'s "quoted"; DROP TABLE run; --',
    "$(touch x) `id` | rm\nnext line\ttab",
    "\x1b[31mred\x1b]0;title\x07 \u202ereversed",
    "with \0 inside",
    "half a pair \ud800 and \udfff",
    "x" * 4096,
    "é漢\U0001f600" * 1000,
    "%s %(a)s :name ? {}",
    "",
]


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """A database with empty tables."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    place = locate(tmp_path, url)
    revision.prepare(place)
    return database.engine(place)


def journal_of(root: Path, lines: Iterable[Mapping[str, Any]], **created: Any) -> Path:
    """A new run whose journal goes on with these records."""
    journal = events.journal_path(root, create_run(root, stage="train", **created))
    with journal.open("a", encoding="ascii") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return journal


def held(opened: Engine, name: str) -> list[dict[str, Any]]:
    table = schema.metadata.tables[name]
    with transaction(opened, read_only=True) as connection:
        rows = connection.execute(select(table)).mappings().all()
    return sorted((dict(row) for row in rows), key=repr)


def storable(text: str) -> str:
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def test_sound_records_become_rows(tmp_path: Path, opened: Engine) -> None:
    """Guards the tests below: what they damage is taken in when it is whole."""
    journal = journal_of(tmp_path, SOUND)
    index.index_run(opened, journal)
    (run,) = held(opened, "run")
    assert (run["status"], run["exit_reason"], run["seed"]) == ("failed", "why", 7)
    assert (run["heartbeat_at"], run["indexed"]) == (20, journal.stat().st_size)
    assert [row["text"] for row in held(opened, "tag")] == ["good"]
    (note,) = held(opened, "note")
    assert (note["ts"], note["text"]) == (19, "well")
    (sample,) = held(opened, "system_sample")
    assert sample == {
        **{"run_id": run["id"], "ts": 15, "gpu_temperature": 60.0},
        **SYSTEM,
    }
    assert [len(held(opened, name)) for name in ("param", "run_io", "event")] == [2, 2, 1]
    (series,) = held(opened, "series")
    assert (series["min_step"], series["max_step"], series["count"]) == (3, 3, 1)


def test_amendments_are_no_sign_of_life(tmp_path: Path, opened: Engine) -> None:
    journal = journal_of(tmp_path, SOUND[:1])
    index.index_run(opened, journal)
    for number, kind in enumerate(sorted(events.AMENDMENTS)):
        append_record(journal, {"ts": 5000 + number, "kind": kind, "text": "later"})
        index.index_run(opened, journal)
    (run,) = held(opened, "run")
    assert (run["heartbeat_at"], run["status"]) == (10, "running")
    assert run["indexed"] == journal.stat().st_size
    append_record(journal, {"ts": 6000, "kind": "system", "cpu_percent": 1.0, "rss": 1})
    index.index_run(opened, journal)
    assert held(opened, "run")[0]["heartbeat_at"] == 6000


def test_a_damaged_line_moves_no_sign_of_life(tmp_path: Path, opened: Engine) -> None:
    journal = journal_of(tmp_path, SOUND[:1])
    index.index_run(opened, journal)
    with journal.open("a") as file:
        file.write('{"ts":99,"kind":"met\n')
    index.index_run(opened, journal)
    assert held(opened, "run")[0]["heartbeat_at"] == 10


amendment = st.tuples(st.sampled_from(["tag", "untag", "note"]), st.sampled_from("abc"))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(said=st.lists(st.tuples(amendment, st.booleans()), max_size=15))
def test_amendments_in_pieces_give_what_a_set_gives(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[tuple[str, str], bool]]
) -> None:
    root = tmp_path_factory.mktemp("root")
    place = locate(root, None)
    revision.prepare(place)
    opened = database.engine(place)
    journal = journal_of(root, SOUND[:1])
    tags: set[str] = set()
    notes = []
    for (kind, text), then_index in said:
        append_record(journal, {"ts": 100, "kind": kind, "text": text})
        tags = tags | {text} if kind == "tag" else tags - {text} if kind == "untag" else tags
        notes += [text] if kind == "note" else []
        if then_index:
            index.index_run(opened, journal)
    for _ in range(2):
        index.index_run(opened, journal)
        assert {row["text"] for row in held(opened, "tag")} == tags
        rows = sorted(held(opened, "note"), key=lambda row: row["seq"])
        assert [row["text"] for row in rows] == notes
        index.forget_run(opened, journal.parent.name)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_texts_are_stored_everywhere(tmp_path: Path, opened: Engine, number: int) -> None:
    text = HOSTILE[number]
    lines = copy.deepcopy(SOUND)
    lines[0] |= {"argv": [text], "params": {text: {"text": text, "default": text}}}
    lines[0]["environment"] = {text: [text, {"a": text}]}
    lines[1] |= {"key": text, "unit": text}
    lines[2] |= {"key": text}
    lines[3] |= {"role": text, "path": text, "sha256": text}
    lines[6] |= {"name": text, "fields": {text: text}}
    for line in lines[7:10]:
        line["text"] = text
    lines[8] |= {"text": text + "?"}
    lines[10] |= {"reason": text}
    journal = journal_of(tmp_path, lines, name="n", project=text, task=text)
    index.index_run(opened, journal)
    whole, short = storable(text), records.name(text)
    (run,) = held(opened, "run")
    assert (run["exit_reason"], run["argv"], run["task"]) == (whole, [whole], whole)
    assert run["project"] == short
    (param,) = held(opened, "param")
    assert (param["key"], param["text"], param["default_text"]) == (short, whole, whole)
    assert held(opened, "env_snapshot")[0]["facts"] == {whole: [whole, {"a": whole}]}
    assert held(opened, "event")[0]["fields"] == {whole: whole}
    assert {whole, "outputs/a"} == {row["path"] for row in held(opened, "run_io")}
    assert [row["text"] for row in held(opened, "tag")] == [short]
    assert [row["text"] for row in held(opened, "note")] == [whole]
    (key,) = held(opened, "metric_key")
    assert (key["key"], key["unit"]) == (short, whole)
    assert len(held(opened, "metric")) == 1


def test_long_names_stay_different_and_short_ones_the_same() -> None:
    assert records.name("a" * 500) == "a" * 500
    one, two = records.name("a" * 501), records.name("a" * 502)
    assert one != two
    assert max(len(one), len(two)) <= 500
    assert records.name("a" * 501) == one
    assert len(records.name("\U0001f600" * 4096).encode()) < 2600


JUNK: list[Any] = [None, True, -1, 2**31, 2**63, 1e308, "x", "", [], [1], {}, {"a": [None]}]


def damaged() -> Iterator[dict[str, Any]]:
    """Every record, with each of its fields missing or something else."""
    for line in SOUND:
        for key in line:
            yield {name: value for name, value in line.items() if name != key}
            for junk in JUNK:
                yield {**line, key: junk}
    for key in STARTED["process"]:
        for junk in JUNK:
            yield {**STARTED, "process": {**STARTED["process"], key: junk}}
    for junk in JUNK:
        yield {**STARTED, "params": {"lr": junk}}
        for key in ("text", "num", "default"):
            yield {**STARTED, "params": {"lr": {"text": "a", key: junk}}}


def test_damaged_records_stop_nothing(tmp_path: Path, opened: Engine) -> None:
    journal = journal_of(tmp_path, damaged())
    index.index_run(opened, journal)
    for line in SOUND:
        append_record(journal, line)
    assert index.index_run(opened, journal) == len(SOUND)
    (run,) = held(opened, "run")
    assert (run["status"], run["heartbeat_at"]) == ("failed", 20)
    assert run["indexed"] == journal.stat().st_size
    assert "well" in [row["text"] for row in held(opened, "note")]


@pytest.mark.parametrize(
    "change",
    [{"kind": "tag"}, {"id": "another"}, {"id": 7}, {"name": None}, {"ts": "now"}, {"parent": []}],
)
def test_a_beginning_that_is_none_makes_no_run(
    tmp_path: Path, opened: Engine, change: dict[str, Any]
) -> None:
    journal = journal_of(tmp_path, SOUND)
    head, rest = journal.read_text().split("\n", 1)
    journal.write_text(json.dumps(json.loads(head) | change) + "\n" + rest)
    assert index.index_run(opened, journal) == 0
    assert held(opened, "run") == []


def test_a_run_that_was_removed_is_skipped(
    tmp_path: Path, opened: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = (journal_of(tmp_path, SOUND) for _ in range(2))
    monkeypatch.setattr(index, "run_ids", lambda root: [gone.parent.name, kept.parent.name])
    gone.unlink()
    assert index.lagging(opened, tmp_path) == [kept]


def test_several_that_index_one_run_count_each_point_once(
    tmp_path: Path, opened: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_BATCH", 300)
    point = {"ts": 1, "kind": "metric", "key": "loss", "version": 1, "value": 1.0}
    notes = ({"ts": 1, "kind": "note", "text": str(n)} for n in range(100))
    journal = journal_of(tmp_path, [*({**point, "step": n} for n in range(3000)), *notes])
    read = []
    threads = [
        threading.Thread(target=lambda: read.append(index.index_run(opened, journal)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(read) == 3101, "and the first record, created"
    assert (len(held(opened, "metric")), len(held(opened, "note"))) == (3000, 100)
    assert held(opened, "series")[0]["count"] == 3000


def test_forgetting_a_run_leaves_nothing_of_it(tmp_path: Path, opened: Engine) -> None:
    one, two = (journal_of(tmp_path, SOUND) for _ in range(2))
    for journal in (one, two):
        index.index_run(opened, journal)
    index.forget_run(opened, one.parent.name)
    for name, table in schema.metadata.tables.items():
        if "run_id" in table.c:
            assert {row["run_id"] for row in held(opened, name)} == {two.parent.name}, name
    assert len(held(opened, "metric")) == 1
