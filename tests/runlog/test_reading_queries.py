"""Which run a name stands for, which runs are gone, and what a reader does when it cannot write."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from codetune.artefact import append_record
from codetune.errors import UserError
from codetune.runlog import Run, create_run, events, open_run, process
from codetune.runlog.keeping.rebuild import reindex
from codetune.runlog.reading import queries
from codetune.runlog.reading.listing import Wanted, listed
from codetune.runlog.reading.queries import find, nothing_ran, reading
from codetune.runlog.reading.rows import crashed_ids, rows_of, tags_of
from codetune.runlog.store import revision, schema
from codetune.runlog.store.database import locate
from tests.runlog.asking import get_run, list_runs
from tests.runlog.example_runs import HOSTILE, crashed, training


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else None


def ended(root: Path, name: str, status: str = "finished", url: str | None = None) -> Run:
    run = open_run(root, stage="sft", config={}, name=name, database_url=url)
    run.finish(status)  # type: ignore[arg-type]
    return run


def found(root: Path, name: str | None, url: str | None = None) -> str:
    with reading(root, url) as connection:
        return find(connection, name)


def test_a_name_stands_for_its_newest_run_that_did_something(
    tmp_path: Path, url: str | None
) -> None:
    ended(tmp_path, "same", url=url)
    did = ended(tmp_path, "same", "failed", url)
    idle = ended(tmp_path, "same", "up to date", url)
    other = ended(tmp_path, "other", "up to date", url)
    assert found(tmp_path, "same", url) == did.id
    assert found(tmp_path, "other", url) == other.id
    assert found(tmp_path, None, url) == other.id
    for spelled in (idle.id, idle.id.lower(), idle.id[-6:], idle.id[-10:].lower()):
        assert found(tmp_path, spelled, url) == idle.id
    with pytest.raises(UserError, match="4 runs have ids like '01'; write more of it"):
        found(tmp_path, "01", url)


@pytest.mark.parametrize("name", ["nothing", "", "%", "_", "' OR 1=1 --", "\udcff", "x" * 4000])
def test_what_is_no_run_is_one_line(tmp_path: Path, url: str | None, name: str) -> None:
    ended(tmp_path, "one", url=url)
    ended(tmp_path, "two", url=url)
    with pytest.raises(UserError, match="no run is called|runs have ids like") as refused:
        found(tmp_path, name, url)
    assert "\n" not in str(refused.value)


def test_a_hostile_name_is_found_as_it_was_given(tmp_path: Path, url: str | None) -> None:
    run = ended(tmp_path, HOSTILE, url=url)
    ended(tmp_path, "other", url=url)
    assert found(tmp_path, HOSTILE, url) == run.id
    assert found(tmp_path, run.name, url) == run.id


def test_where_nothing_ran_there_is_nothing_to_ask_and_nothing_is_made(tmp_path: Path) -> None:
    assert nothing_ran(tmp_path)
    with pytest.raises(UserError, match="there are no runs here yet"), reading(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    revision.prepare(locate(tmp_path, None))
    assert not nothing_ran(tmp_path)
    with pytest.raises(UserError, match="there are no runs here yet"):
        found(tmp_path, None)


def test_runs_that_are_gone_are_known_by_their_process(tmp_path: Path, url: str | None) -> None:
    crashed(tmp_path, "died", url)
    at_work = open_run(tmp_path, stage="train", config={}, name="at work", database_url=url)
    ended(tmp_path, "done", url=url)
    create_run(tmp_path, stage="train", name="later")
    with reading(tmp_path, url) as connection:
        gone = crashed_ids(connection)
        rows = rows_of(connection, select(schema.run))
        assert gone == [row.id for row in rows if row.status == "crashed"]
    assert {row.name: row.status for row in rows} == {
        **{"died": "crashed", "at work": "running", "done": "finished", "later": "created"}
    }
    at_work.finish("interrupted")


@pytest.mark.parametrize(
    ("silence", "status"), [(0, "running"), (process.LEASE_MS + 60_000, "crashed")]
)
def test_a_run_on_another_machine_lives_by_its_last_word(
    tmp_path: Path, silence: int, status: str
) -> None:
    """Shared database: what this machine cannot look up, it judges by the lease."""
    crashed(tmp_path, "far away")
    (row,) = list_runs(tmp_path)
    with closing(sqlite3.connect(tmp_path / "logs/runs.db")) as connection, connection:
        then = process.now_ms() - silence
        connection.execute("UPDATE run SET machine = 'another', heartbeat_at = ?", (then,))
    with reading(tmp_path) as connection:
        assert [run.row.status for run in listed(connection, Wanted())] == [status]
        assert crashed_ids(connection) == ([row.id] if status == "crashed" else [])


def test_tags_and_files_belong_to_their_runs(tmp_path: Path, url: str | None) -> None:
    one, two = training(tmp_path, "one", url=url), training(tmp_path, "two", url=url)
    one.tag("zeta")
    one.tag("alpha")
    one.finish("finished")
    two.finish("finished")
    append_record(events.journal_path(tmp_path, two.id), {"ts": 1, "kind": "untag", "text": "best"})
    with reading(tmp_path, url) as connection:
        assert tags_of(connection, [one.id, two.id]) == {one.id: ("alpha", "best", "zeta")}
        rows = rows_of(connection, select(schema.run).order_by(schema.run.c.id))
    assert [[file.path for file in row.files] for row in rows] == [["data/train.jsonl"]] * 2
    assert list(rows[0].metrics) == ["exact", "tokens_per_second", "train_loss"]


def test_a_locked_database_is_read_as_far_as_it_is_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A writer that holds the lock costs a warning, not the answer."""
    run = training(tmp_path, "one")
    run.finish("finished")
    assert [row.name for row in list_runs(tmp_path)] == ["one"]
    create_run(tmp_path, stage="sft", name="unindexed")
    monkeypatch.setattr(queries, "_PATIENCE", 0.1)
    with closing(sqlite3.connect(tmp_path / "logs/runs.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert [row.name for row in list_runs(tmp_path)] == ["one"]
        writer.execute("ROLLBACK")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "not all runs are up to date" in said
    assert [row.name for row in list_runs(tmp_path)] == ["unindexed", "one"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("lock", "code"), [("IMMEDIATE", 0), pytest.param("EXCLUSIVE", 2, marks=pytest.mark.slow)]
)
def test_another_process_that_holds_the_database_costs_one_line(
    tmp_path: Path, root: Path, lock: str, code: int
) -> None:
    """One that writes lets us read; one that lets nobody read is waited for, and named."""
    ended(tmp_path, "one")
    assert len(list_runs(tmp_path)) == 1
    create_run(tmp_path, stage="sft", name="unindexed")
    hold = (
        "import sqlite3, sys; held = sqlite3.connect('logs/runs.db', isolation_level=None); "
        f"held.execute('PRAGMA journal_mode=TRUNCATE'); held.execute('BEGIN {lock}'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold], cwd=tmp_path, **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        listing = [sys.executable, str(root / "scripts/runs/runs.py"), "list"]
        asked = subprocess.run(listing, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        holder.kill()
    assert asked.returncode == code
    assert asked.stderr.count("\n") == 1
    assert "database is locked" in asked.stderr
    assert ("one" in asked.stdout) == (code == 0)


def test_a_run_that_grows_while_it_is_read_is_read_whole_the_next_time(tmp_path: Path) -> None:
    run = training(tmp_path, "grows", losses=())
    counts = []
    for step in range(3):
        run.metric("train_loss", 1.0, step)
        details = get_run(tmp_path, "grows")
        counts.append({metric.key: metric.count for metric in details.metrics}["train_loss"])
    assert counts == [1, 2, 3]
    run.finish("finished")


@pytest.mark.parametrize("seed", range(3))
def test_sorting_is_that_of_python_on_both_engines(
    tmp_path: Path, url: str | None, seed: int
) -> None:
    """Runs with random, equal and missing values, by a metric and by a knob; the newest first."""
    chance = random.Random(seed)
    values: dict[str, float | None] = {}
    for _ in range(8):
        value = chance.choice([None, 0.0, 1.0, -1.0, chance.random(), 1e9])
        run_id = create_run(tmp_path, stage="train")
        if value is not None:
            point = {"key": "m", "version": 1, "step": 0, "value": value}
            journal = events.journal_path(tmp_path, run_id)
            append_record(journal, {"ts": process.now_ms(), "kind": "metric", **point})
        values[run_id] = value
    newest = sorted(values, reverse=True)
    known = [run_id for run_id in newest if values[run_id] is not None]
    missing = [run_id for run_id in newest if values[run_id] is None]
    rising = [*sorted(known, key=lambda i: values[i] or 0.0), *missing]
    falling = [*sorted(known, key=lambda i: -(values[i] or 0.0)), *missing]
    for sort, expected in (("m", rising), ("-m", falling), ("", newest)):
        if sort and not known:
            continue
        with reading(tmp_path, url) as connection:
            shown = [run.row.id for run in listed(connection, Wanted(sort=sort))]
        assert shown == expected, f"seed {seed}, sorted by {sort!r}"


def test_many_runs_are_listed_in_parts_that_no_engine_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codetune.runlog.reading import listing

    for number in range(7):
        create_run(tmp_path, stage="sft", name=f"run {number}")
    with reading(tmp_path) as connection:
        whole = [run.as_dict() for run in listed(connection, Wanted(columns=("name",)))]
    monkeypatch.setattr(listing, "_AT_ONCE", 2)
    with reading(tmp_path) as connection:
        parts = [run.as_dict() for run in listed(connection, Wanted(columns=("name",)))]
    assert parts == whole
    assert [run["columns"]["name"] for run in whole] == [f"run {n}" for n in range(6, -1, -1)]


def test_a_circle_of_parents_is_drawn_once(tmp_path: Path) -> None:
    """Ids can be chosen, so two runs can name each other as parents."""
    first, second = "01ARZ3NDEKTSV4RRFFQ69G5FAA", "01ARZ3NDEKTSV4RRFFQ69G5FAB"
    create_run(tmp_path, stage="sft", name="a", run_id=first, parent=second)
    create_run(tmp_path, stage="sft", name="b", run_id=second, parent=first)
    create_run(tmp_path, stage="sft", name="orphan", parent="01ARZ3NDEKTSV4RRFFQ69G5FXX")
    with reading(tmp_path) as connection:
        shown = [(run.row.name, run.depth) for run in listed(connection, Wanted(tree=True))]
    assert sorted(name for name, _ in shown) == ["a", "b", "orphan"]
    assert ("orphan", 0) in shown


def test_rebuilding_keeps_runs_of_other_checkouts(tmp_path: Path, postgres_url: str) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        ended(tmp_path / place, place, url=postgres_url)
    assert reindex(tmp_path / "here", database_url=postgres_url) == 1
    names = [row.name for row in list_runs(tmp_path / "here", database_url=postgres_url)]
    assert names == ["there", "here"]
