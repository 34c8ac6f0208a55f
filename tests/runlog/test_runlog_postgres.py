"""The run log on a real PostgreSQL server that is started for the test; skipped without one."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy.exc import DBAPIError

from codetune.artefact import append_record
from codetune.errors import UserError
from codetune.runlog import create_run, events, flusher, open_run
from codetune.runlog.keeping.rebuild import reindex
from codetune.runlog.store import database, index, revision
from codetune.runlog.store.database import locate, transaction
from codetune.runlog.store.upgrade import alembic_config
from tests.runlog.asking import get_run, list_runs
from tests.runlog.conftest import PASSWORD, Server


def test_a_run_is_recorded_listed_and_reindexed(tmp_path: Path, postgres_url: str) -> None:
    run = open_run(tmp_path, stage="train", config={"lr": 1}, database_url=postgres_url, seed=2**40)
    run.define("loss", "nats", "lower")
    for step, value in enumerate((3.0, float("nan"), 1.0)):
        run.metric("loss", value, step)
    run.event("saved", step=2)
    run.finish("finished", "done")
    assert not (tmp_path / "logs/runs.db").exists()
    (row,) = list_runs(tmp_path, database_url=postgres_url)
    assert (row.id, row.status, row.metrics) == (run.id, "finished", {"loss": 1.0})
    before = get_run(tmp_path, run.name, database_url=postgres_url)
    assert (before.seed, before.metrics[0].count) == (2**40, 3)
    reindex(tmp_path, database_url=postgres_url)
    assert get_run(tmp_path, run.id, database_url=postgres_url) == before
    journal = (tmp_path / "logs/runs" / run.id / "events.jsonl").read_text()
    assert PASSWORD not in journal


def test_migrations_and_tables_agree(postgres_url: str) -> None:
    place = locate(Path(), postgres_url)
    revision.prepare(place)
    revision.prepare(place)
    with transaction(database.engine(place)) as connection:
        command.check(alembic_config(connection))


def test_two_checkouts_share_a_server_and_reindex_only_their_own(
    tmp_path: Path, postgres_url: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        open_run(tmp_path / name, stage="sft", config={}, database_url=postgres_url).finish(
            "finished"
        )
    assert reindex(tmp_path / "a", database_url=postgres_url) == 1
    assert len(list_runs(tmp_path / "a", database_url=postgres_url)) == 2


def test_two_processes_that_index_one_run_count_each_point_once(
    tmp_path: Path, postgres_url: str
) -> None:
    place = locate(tmp_path, postgres_url)
    revision.prepare(place)
    journal = events.journal_path(tmp_path, create_run(tmp_path, stage="train"))
    point = '{"ts":1,"kind":"metric","key":"loss","version":1,"step":%d,"value":1.0}\n'
    with journal.open("a") as file:
        file.write("".join(point % n for n in range(5000)))
    threads = [
        threading.Thread(target=index.index_run, args=(database.engine(place), journal))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        get_run(tmp_path, journal.parent.name, database_url=postgres_url).metrics[0].count == 5000
    )


def test_runs_at_work_and_a_reader_that_catches_up_never_wait_for_each_other(
    tmp_path: Path, postgres_url: str
) -> None:
    """Runs share the names of metrics, which each transaction locks until its end."""
    place = locate(tmp_path, postgres_url)
    revision.prepare(place)
    journals = []
    for n in range(40):
        journal = events.journal_path(tmp_path, create_run(tmp_path, stage="train"))
        for key in sorted(("b", "a", "c"), reverse=n % 2 == 0)[: 1 + n % 3]:
            said = {"key": key, "version": 1, "unit": "nats", "direction": "lower"}
            append_record(journal, {"ts": 1, "kind": "define", **said})
        journals.append(journal)
    failed: list[Exception] = []

    def work(index_them: Callable[[], object]) -> None:
        try:
            index_them()
        except DBAPIError as problem:
            failed.append(problem)

    opened = database.engine(place)
    jobs: list[Callable[[], object]] = [lambda: sum(index.index_runs(opened, journals[::2]))]
    jobs += [functools.partial(index.index_run, opened, one) for one in journals[1::2]]
    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert index.lagging(opened, tmp_path) == []


def test_a_server_that_is_lost_and_comes_back(
    tmp_path: Path,
    postgres_url: str,
    postgres_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(flusher, "FLUSH_SECONDS", 0.1)
    run = open_run(tmp_path, stage="train", config={}, database_url=postgres_url)
    run.metric("loss", 2.0, 0)
    time.sleep(0.5)
    postgres_server.pg_ctl("-m", "immediate", "stop")
    try:
        run.metric("loss", 1.0, 1)
        time.sleep(0.5)
        with pytest.raises(UserError, match="the run database cannot be used") as refused:
            open_run(tmp_path, stage="train", config={}, database_url=postgres_url)
        assert PASSWORD not in str(refused.value)
        run.finish("finished")
    finally:
        postgres_server.pg_ctl("start")
    said = capsys.readouterr().err
    assert said.count("warning:") == 1
    assert PASSWORD not in said
    found = get_run(tmp_path, run.id, database_url=postgres_url)
    assert (found.row.status, found.metrics[0].count) == ("finished", 2)
