"""The run log on a real PostgreSQL server that is started for the test; skipped without one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from codetune.errors import UserError
from codetune.runlog import create_run, flusher, open_run
from codetune.runlog.reading.queries import get_run, list_runs, reindex
from codetune.runlog.store import database, revision
from codetune.runlog.store.database import locate, transaction

pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
pytestmark = pytest.mark.slow
PASSWORD = "hunter2"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    """(URL of an empty server on a socket of its own, the pg_ctl command that steers it)."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("no PostgreSQL server here")
    folder = Path(tempfile.mkdtemp(prefix="codetune-pg-", dir="/tmp"))
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        user = "postgres"
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*words: str) -> None:
        subprocess.run(words, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    steer = ["pg_ctl", "-w", "-D", str(folder / "db"), "-l", str(folder / "log")]
    try:
        run("initdb", "-D", str(folder / "db"), "-A", "trust", "-U", "me", "--no-sync")
        with (folder / "db/postgresql.conf").open("a") as settings:
            settings.write(f"port={port}\nlisten_addresses='127.0.0.1'\nfsync=off\n")
            settings.write(f"unix_socket_directories='{folder}'\n")
        run(*steer, "start")
        yield f"postgres://me:{PASSWORD}@127.0.0.1:{port}/postgres", [user or "", *steer]
    finally:
        subprocess.run([*steer, "-m", "immediate", "stop"], user=user, cwd=folder)
        shutil.rmtree(folder)


@pytest.fixture
def url(server: tuple[str, list[str]]) -> str:
    """The URL of the server with nothing in it."""
    opened = database.engine(locate(Path(), server[0]))
    with transaction(opened) as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    return server[0]


def test_a_run_is_recorded_listed_and_reindexed(tmp_path: Path, url: str) -> None:
    run = open_run(tmp_path, stage="train", config={"lr": 1}, database_url=url, seed=2**40)
    run.define("loss", "nats", "lower")
    for step, value in enumerate((3.0, float("nan"), 1.0)):
        run.metric("loss", value, step)
    run.event("saved", step=2)
    run.finish("finished", "done")
    assert not (tmp_path / "logs/runs.db").exists()
    (row,) = list_runs(tmp_path, database_url=url)
    assert (row.id, row.status, row.metrics) == (run.id, "finished", {"loss": 1.0})
    before = get_run(tmp_path, run.name, database_url=url)
    assert (before.seed, before.metrics[0].count) == (2**40, 3)
    reindex(tmp_path, database_url=url)
    assert get_run(tmp_path, run.id, database_url=url) == before
    journal = (tmp_path / "logs/runs" / run.id / "events.jsonl").read_text()
    assert PASSWORD not in journal


def test_migrations_and_tables_agree(url: str) -> None:
    place = locate(Path(), url)
    revision.prepare(place)
    revision.prepare(place)
    with transaction(database.engine(place)) as connection:
        command.check(revision.alembic_config(connection))


def test_two_checkouts_share_a_server_and_reindex_only_their_own(tmp_path: Path, url: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        open_run(tmp_path / name, stage="sft", config={}, database_url=url).finish("finished")
    assert reindex(tmp_path / "a", database_url=url) == 1
    assert len(list_runs(tmp_path / "a", database_url=url)) == 2


def test_two_processes_that_index_one_run_count_each_point_once(tmp_path: Path, url: str) -> None:
    import threading

    from codetune.runlog import events
    from codetune.runlog.store import index

    place = locate(tmp_path, url)
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
    assert get_run(tmp_path, journal.parent.name, database_url=url).metrics[0].count == 5000


def test_a_server_that_is_lost_and_comes_back(
    tmp_path: Path,
    url: str,
    server: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(flusher, "FLUSH_SECONDS", 0.1)
    user, *steer = server[1]

    def pg_ctl(*words: str) -> None:
        subprocess.run(
            [*steer, *words], check=True, user=user or None, cwd="/tmp", stdout=subprocess.DEVNULL
        )

    run = open_run(tmp_path, stage="train", config={}, database_url=url)
    run.metric("loss", 2.0, 0)
    time.sleep(0.5)
    pg_ctl("-m", "immediate", "stop")
    try:
        run.metric("loss", 1.0, 1)
        time.sleep(0.5)
        with pytest.raises(UserError, match="the run database cannot be used") as refused:
            open_run(tmp_path, stage="train", config={}, database_url=url)
        assert PASSWORD not in str(refused.value)
        run.finish("finished")
    finally:
        pg_ctl("start")
    said = capsys.readouterr().err
    assert said.count("warning:") == 1
    assert PASSWORD not in said
    found = get_run(tmp_path, run.id, database_url=url)
    assert (found.row.status, found.metrics[0].count) == ("finished", 2)
