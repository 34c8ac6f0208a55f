"""From journal to tables: the same whatever the pieces, the order and the number of times."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codetune import console
from codetune.artefact import Input, append_record
from codetune.errors import UserError
from codetune.machine import Load
from codetune.runlog import create_run, events, open_run
from codetune.runlog.keeping.rebuild import reindex
from codetune.runlog.reading import queries
from codetune.runlog.store import database, index, revision, series
from codetune.runlog.store.database import Place
from tests.runlog.asking import get_run, list_runs

# Points and summaries are compared by key, since key ids follow the order of registration.
TABLES = (
    *("project", "run", "env_snapshot", "param", "system_sample"),
    *("run_io", "tag", "note", "event"),
)
SUMMARY = 'first, last, "min", "max", min_step, max_step, steps, "count"'


def contents(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    connection = sqlite3.connect(file)
    found = {name: sorted(connection.execute(f"SELECT * FROM {name}")) for name in TABLES}
    keyed = (
        "SELECT s.run_id, k.key, k.version, k.unit, k.direction, {} "
        "FROM series s JOIN metric_key k ON k.id = s.key_id"
    )
    points = keyed.format("m.step, m.value, m.ts") + " JOIN metric m ON m.series_id = s.id"
    found["metric"] = sorted(connection.execute(points))
    found["series"] = sorted(connection.execute(keyed.format(SUMMARY)))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    return found


def example_run(root: Path, seed: int) -> str:
    """A run with some of everything; returns its id."""
    chance = random.Random(seed)
    run = open_run(root, stage=chance.choice(["train", "sft"]), config={"a": seed}, seed=seed)
    run.define(f"loss{seed % 2}", "nats", "lower")
    for step in range(chance.randrange(40)):
        run.metric(f"loss{seed % 2}", chance.choice([chance.random(), float("nan")]), step)
        run.metric("undefined", step)
    run.sample(Load(12.5, 1000, gpu_percent=seed * 10.0, gpu_memory=2**35))
    run.event("saved", step=3)
    run.tag("a")
    run.tag("a")
    run.input(Input(f"data/{seed}.jsonl", f"{seed:064x}"), "train")
    run.finish(chance.choice(["finished", "failed", "up to date"]), "because")
    journal = events.journal_path(root, run.id)
    for number in range(chance.randrange(6)):
        said = {"kind": chance.choice(["tag", "untag", "note"]), "text": chance.choice("abc")}
        append_record(journal, {"ts": 2 * 10**12 + number, **said})
    return run.id


def answers(root: Path) -> list[object]:
    """What a person is told of every run."""
    rows = list_runs(root)
    return [rows, *(get_run(root, row.id) for row in rows)]


def test_reindexing_gives_equal_tables(tmp_path: Path) -> None:
    for seed in range(12):
        example_run(tmp_path, seed)
    told = answers(tmp_path)  # brings in what "up to date" runs left, and what was added later
    before = contents(tmp_path / "logs/runs.db")
    assert len(before["run"]) == 12
    assert all(before.values())
    assert reindex(tmp_path) == 12
    assert contents(tmp_path / "logs/runs.db") == before
    (tmp_path / "logs/runs.db").unlink()
    assert reindex(tmp_path) == 12
    assert contents(tmp_path / "logs/runs.db") == before
    assert answers(tmp_path) == told


def test_a_deleted_database_fills_itself_again(tmp_path: Path) -> None:
    for seed in range(3):
        example_run(tmp_path, seed)
    told = answers(tmp_path)
    before = contents(tmp_path / "logs/runs.db")
    (tmp_path / "logs/runs.db").unlink()
    assert answers(tmp_path) == told
    assert contents(tmp_path / "logs/runs.db") == before


value = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)
points = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), value), max_size=30)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(points=points, cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_summaries_do_not_depend_on_the_pieces(
    tmp_path_factory: pytest.TempPathFactory,
    points: list[tuple[str, int, float | None]],
    cuts: list[int],
) -> None:
    """Indexed while it grows, in pieces of any size, a run gives what plain Python says."""
    root = tmp_path_factory.mktemp("root")
    place = Place(root / "runs.db")
    revision.prepare(place)
    opened = database.engine(place)
    journal = events.journal_path(root, create_run(root, stage="train"))
    lines = [
        {"ts": n, "kind": "metric", "key": key, "version": 1, "step": step, "value": number}
        for n, (key, step, number) in enumerate(points)
    ]
    with journal.open("a") as file:
        for n, line in enumerate(lines):
            file.write(json.dumps(line) + "\n")
            file.flush()
            if n % cuts[n % len(cuts)] == 0:
                index.index_run(opened, journal)
    index.index_run(opened, journal)
    assert index.index_run(opened, journal) == 0

    expected = {}
    for key in {key for key, _, _ in points}:
        seen = [(step, number) for k, step, number in points if k == key]
        real = [number for _, number in seen if number is not None]
        low, high = min(real, default=None), max(real, default=None)
        at = [next((s for s, n in seen if n is not None and n == end), None) for end in (low, high)]
        ends = (seen[0][1], seen[-1][1], low, high, *at)
        expected[key] = (*ends, max(step for step, _ in seen), len(seen))
    found = contents(place.file)
    assert {row[1]: row[5:] for row in found["series"]} == expected
    last = {(key, step): number for key, step, number in points}
    assert {(row[1], row[5]): row[6] for row in found["metric"]} == last


def test_batches_smaller_than_a_journal_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        example_run(tmp_path, seed)
    reindex(tmp_path)
    before = contents(tmp_path / "logs/runs.db")
    monkeypatch.setattr(index, "_BATCH", 7)
    reindex(tmp_path)
    assert contents(tmp_path / "logs/runs.db") == before


def left_behind(root: Path, runs: int, points: int) -> list[Path]:
    """Journals that no database knows; each run names its metrics in another order."""
    journals = []
    for n in range(runs):
        journal = events.journal_path(root, create_run(root, stage="train", name=f"run {n}"))
        keys = [f"key {(n + k) % 3}" for k in range(points)]
        for step, key in enumerate(keys):
            point = {"key": key, "version": 1, "step": step, "value": 1.0}
            append_record(journal, {"ts": 1, "kind": "metric", **point})
        journals.append(journal)
    return journals


@pytest.mark.parametrize(("runs", "records"), [(200, 20_000), (3, 20_000), (200, 5), (2, 4)])
def test_many_runs_are_indexed_in_few_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int, records: int
) -> None:
    """Each waits for the disk; and none is larger than it may be, since others wait for it."""
    journals = left_behind(tmp_path, 12, 3)  # with its beginning each has four records
    place = Place(tmp_path / "logs/runs.db")
    revision.prepare(place)
    opened = database.engine(place)
    monkeypatch.setattr(index, "_RUNS", runs)
    monkeypatch.setattr(index, "_BATCH", records)
    commits: list[object] = []
    sqlalchemy.event.listen(opened, "commit", commits.append)
    assert sum(index.index_runs(opened, journals)) == 12
    assert len(commits) <= max(-(-12 // runs), -(-12 * 4 // records)) + 1
    assert index.lagging(opened, tmp_path) == []
    several = contents(tmp_path / "logs/runs.db")
    for journal in journals:
        index.forget_run(opened, journal.parent.name)
        index.index_run(opened, journal)
    assert contents(tmp_path / "logs/runs.db") == several


def test_a_run_that_goes_while_many_are_indexed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = left_behind(tmp_path, 3, 3)
    place = Place(tmp_path / "logs/runs.db")
    revision.prepare(place)
    insert_run = index._insert_run

    def removed_meanwhile(connection: Any, journal: Path) -> bool:
        inserted = insert_run(connection, journal)
        if journal == journals[1]:
            shutil.rmtree(journal.parent)
        return inserted

    monkeypatch.setattr(index, "_insert_run", removed_meanwhile)
    assert list(index.index_runs(database.engine(place), journals)) == [3]
    assert [row.name for row in list_runs(tmp_path)] == ["run 2", "run 0"]


def test_a_long_way_to_catch_up_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left_behind(tmp_path, 6, 1)
    monkeypatch.setattr(index, "_RUNS", 2)
    monkeypatch.setattr(queries, "_SILENCE", 0.0)
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_LINES", 0.0)
    assert len(list_runs(tmp_path)) == 6
    shown = [f"indexing runs: {done} of 6" for done in (2, 4, 6)]
    assert capsys.readouterr().err.splitlines() == shown
    left_behind(tmp_path, 6, 1)
    monkeypatch.setattr(queries, "_SILENCE", 60.0)
    assert len(list_runs(tmp_path)) == 12
    assert capsys.readouterr().err == ""


def test_a_transaction_that_fails_moves_no_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = example_run(tmp_path, 1)
    reindex(tmp_path)
    before = contents(tmp_path / "logs/runs.db")
    opened = database.engine(Place(tmp_path / "logs/runs.db"))
    index.forget_run(opened, run_id)
    assert contents(tmp_path / "logs/runs.db")["metric"] == []

    def broken(self: object, connection: object) -> None:
        raise RuntimeError("lost half-way")

    write: Callable[..., None] = series.Points.write
    monkeypatch.setattr(series.Points, "write", broken)
    with pytest.raises(RuntimeError):
        index.index_run(opened, events.journal_path(tmp_path, run_id))
    monkeypatch.setattr(series.Points, "write", write)
    index.index_run(opened, events.journal_path(tmp_path, run_id))
    assert contents(tmp_path / "logs/runs.db") == before


def test_damaged_and_unknown_records_are_passed_over(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="sft", config={})
    journal = events.journal_path(tmp_path, run.id)
    with journal.open("ab") as file:
        file.write(b'{"kind":"met{"kind":"tag"}\n{"kind":"of_the_future","ts":1,"x":[2]}\n')
    run.tag("after")
    run.finish("finished")
    assert get_run(tmp_path, run.id).tags == ("after",)


def test_a_journal_without_a_beginning_is_no_run(tmp_path: Path) -> None:
    journal = events.journal_path(tmp_path, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    journal.parent.mkdir(parents=True)
    journal.write_text('{"kind":"tag","ts":1,"text":"x"}\n')
    assert list_runs(tmp_path) == []


def test_runs_are_found_by_id_name_and_ends(tmp_path: Path) -> None:
    ids = []
    for name in ("a", "same", "same"):
        run = open_run(tmp_path, stage="sft", config={}, name=name)
        run.finish("finished")
        ids.append(run.id)
    for wanted, run_id in [("a", ids[0]), ("same", ids[2]), (ids[1].lower(), ids[1])]:
        assert get_run(tmp_path, wanted).row.id == run_id
    assert get_run(tmp_path, ids[1][-8:]).row.id == ids[1]
    with pytest.raises(UserError, match="3 runs have ids like"):
        get_run(tmp_path, ids[0][:3])
    for unknown in ("nothing", "%", "_"):
        with pytest.raises(UserError, match="no run is called"):
            get_run(tmp_path, unknown)


def test_details_hold_what_a_person_asks_for(tmp_path: Path) -> None:
    parent = open_run(tmp_path, stage="pipeline", config={})
    child = open_run(
        tmp_path,
        stage="train",
        config={"lr": 2, "r": 8},
        differences={"lr": {"default": 1, "value": 2}},
        argv=["train.py"],
        parent=parent.id,
        seed=11,
    )
    child.define("loss", "nats", "lower")
    child.define("exact", "%", "higher")
    for step in range(1000):
        child.metric("loss", 1 / (step + 1), step)
    for number in (5.0, 9.0, 7.0):
        child.metric("exact", number, int(number))
    child.sample(Load(50.0, 3_000_000))
    time.sleep(0.002)  # samples are told apart by their millisecond
    child.sample(Load(50.0, 2_000_000))
    child.finish("finished")
    parent.finish("finished")
    found = get_run(tmp_path, child.id)
    assert {p.key: (p.value, p.default) for p in found.params} == {
        "lr": ("2", "1"),
        "r": ("8", None),
    }
    metrics = {m.key: m for m in found.metrics}
    assert metrics["loss"].best == metrics["loss"].min == 0.001
    assert (metrics["exact"].best, metrics["exact"].last) == (9.0, 7.0)
    assert (found.seed, found.argv, found.peak_rss) == (11, ["train.py"], 3_000_000)
    assert found.environment["python"]
    assert [row.id for row in get_run(tmp_path, parent.id).children] == [child.id]
    assert found.row.parent == parent.id


def test_a_definition_reaches_a_key_that_was_used_before_it(tmp_path: Path) -> None:
    early = open_run(tmp_path, stage="train", config={})
    early.metric("score", 1.0)
    early.finish("finished")
    assert get_run(tmp_path, early.id).metrics[0].direction == "none"
    later = open_run(tmp_path, stage="train", config={})
    later.define("score", "nats", "lower")
    later.finish("finished")
    (metric,) = get_run(tmp_path, early.id).metrics
    assert (metric.unit, metric.direction) == ("nats", "lower")


def test_lists_are_newest_first_and_can_be_narrowed(tmp_path: Path) -> None:
    for stage in ("sft", "fim", "sft"):
        open_run(tmp_path, stage=stage, config={}).finish("finished")
    rows = list_runs(tmp_path)
    assert [row.stage for row in rows] == ["sft", "fim", "sft"]
    assert [row.created for row in rows] == sorted((r.created for r in rows), reverse=True)
    assert len(list_runs(tmp_path, stage="sft")) == 2
    assert len(list_runs(tmp_path, limit=1)) == 1


def test_looking_where_nothing_ran_creates_nothing(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []
    with pytest.raises(UserError, match="no runs here yet"):
        get_run(tmp_path, "x")
    assert list(tmp_path.iterdir()) == []
