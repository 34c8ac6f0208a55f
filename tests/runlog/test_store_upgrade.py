"""From every earlier revision to the newest, with data in it, on both engines; and never back."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, event, text

from codetune.errors import UserError
from codetune.runlog.keeping.rebuild import reindex
from codetune.runlog.store import database, revision, schema, upgrade
from codetune.runlog.store.database import Place, locate, transaction
from codetune.runlog.store.revision import HEAD
from codetune.runlog.store.upgrade import Upgraded, alembic_config
from tests.runlog.asking import get_run, list_runs

EARLIER = [number for number in revision.known() if number != HEAD]
KEYED = "FROM {} t JOIN metric_key k ON k.id = t.key_id"
POINTS = {  # how a revision is asked for its points, by run and key
    "0001": f"SELECT t.run_id, k.key, k.version, t.step, t.value, t.ts {KEYED.format('metric')}",
    "0002": f"SELECT t.run_id, k.key, k.version, m.step, m.value, m.ts {KEYED.format('series')} "
    "JOIN metric m ON m.series_id = t.id",
}
ENDS = 'SELECT t.run_id, k.key, k.version, first, last, "min", "max", steps, "count" '
SUMMARIES = {
    "0001": ENDS + KEYED.format("metric_summary"),
    "0002": ENDS + KEYED.format("series"),
}
SAME = {  # tables that a revision took over as they were, with the columns it had then
    "project": "name",
    "env_snapshot": "hash, facts",
    "run": "id, name, task, project, stage, stage_version, status, exit_reason, parent_id, seed, "
    "argv, created_at, started_at, ended_at, heartbeat_at, machine, pid, pid_started, git_commit, "
    "git_diff_sha256, env_hash, indexed",
    "param": "run_id, key, num, text, is_default, default_text",
    "metric_key": "id, key, version, unit, direction",
    "system_sample": "run_id, ts, cpu_percent, rss",
    "run_io": "run_id, seq, role, kind, path, sha256",
    "tag": "run_id, text",
    "event": "run_id, seq, ts, kind, fields",
}
Rows = dict[str, list[tuple[Any, ...]]]


def fixture(root: Path, number: str) -> str:
    return (root / f"tests/data/runlog/{number}.sql").read_text()


def journals(root: Path, number: str, target: Path) -> None:
    """Puts the journals that a revision's rows came from into a project folder."""
    shutil.copytree(root / f"tests/data/runlog/{number}/logs", target / "logs", dirs_exist_ok=True)


def fill(place: Place, number: str, sql: str) -> None:
    """Makes a database as it was at revision `number`; its rows by the plain drivers."""
    opened = database.engine(place, create=True, foreign_keys=False)
    with transaction(opened) as connection:
        command.upgrade(alembic_config(connection), number)
    if place.file is not None:
        with closing_file(place.file) as plain:
            plain.executescript(sql)
        return
    import psycopg

    with psycopg.connect(place.url.replace("+psycopg", "")) as server:
        server.execute(sql.encode())


@contextmanager
def closing_file(file: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(file)
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


def rows(place: Place, number: str) -> Rows:
    """Everything that a database at revision `number` holds, in an order of its own."""
    asked = {name: f"SELECT {columns} FROM {name}" for name, columns in SAME.items()}
    asked |= {"points": POINTS[number], "summaries": SUMMARIES[number]}
    with transaction(database.engine(place), read_only=True) as connection:
        found = {name: connection.execute(text(sql)).all() for name, sql in asked.items()}
    return {name: sorted(map(tuple, lines), key=repr) for name, lines in found.items()}


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place without a database, on either engine."""
    if request.param == "sqlite":
        return locate(tmp_path, None)
    return locate(tmp_path, request.getfixturevalue("postgres_url"))


@pytest.fixture(params=EARLIER)
def number(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def older(empty: Place, root: Path, number: str) -> Place:
    """A database of an earlier revision with four runs in it."""
    fill(empty, number, fixture(root, number))
    return empty


@pytest.fixture
def file(tmp_path: Path, root: Path) -> Path:
    """A SQLite file of the earliest revision with four runs in it."""
    place = locate(tmp_path, None)
    fill(place, "0001", fixture(root, "0001"))
    assert place.file is not None
    return place.file


def copies(file: Path) -> list[Path]:
    return sorted(file.parent.glob("runs.*-*.db"))


def test_every_revision_but_the_newest_has_a_fixture(root: Path) -> None:
    """Who adds a revision first dumps rows that the code wrote until then."""
    assert revision.known()[-1] == HEAD
    assert EARLIER
    for number in EARLIER:
        assert "INSERT INTO run " in fixture(root, number), number
        assert list((root / f"tests/data/runlog/{number}").rglob("events.jsonl")), number
    assert set(POINTS) == set(SUMMARIES) == set(revision.known())


def test_every_row_is_there_afterwards(older: Place, number: str) -> None:
    before = rows(older, number)
    assert all(before.values())
    done = upgrade.upgrade(older)
    assert (done.before, done.after) == (number, HEAD)
    assert rows(older, HEAD) == before
    with transaction(database.engine(older)) as connection:
        command.check(alembic_config(connection))
    assert upgrade.upgrade(older) == Upgraded(HEAD, HEAD, None)


def test_it_gives_what_the_journals_give(
    older: Place, number: str, root: Path, tmp_path: Path
) -> None:
    """The upgraded rows answer as rows that today's code makes of the same journals."""
    upgrade.upgrade(older)
    journals(root, number, tmp_path)
    url = older.url or None
    listed = list_runs(tmp_path, database_url=url)
    shown = details(tmp_path, url)
    assert len(shown) == 4
    assert reindex(tmp_path, database_url=url) == 4
    assert list_runs(tmp_path, database_url=url) == listed
    assert details(tmp_path, url) == shown


def details(root: Path, url: str | None) -> list[object]:
    """What is told of each run, without the metric of which the older rows knew less."""
    found = [get_run(root, row.id, database_url=url) for row in list_runs(root, database_url=url)]
    known = [tuple(m for m in run.metrics if m.key != "again") for run in found]
    return [replace(run, metrics=metrics) for run, metrics in zip(found, known, strict=True)]


def ends(place: Place, key: str) -> list[tuple[Any, ...]]:
    asked = (
        f'SELECT s."min", s.min_step, s."max", s.max_step FROM series s '
        f"JOIN metric_key k ON k.id = s.key_id WHERE k.key = '{key}' ORDER BY s.run_id"
    )
    with transaction(database.engine(place), read_only=True) as connection:
        return [tuple(row) for row in connection.execute(text(asked))]


def test_0002_finds_the_steps_of_the_extremes(empty: Place, root: Path, tmp_path: Path) -> None:
    fill(empty, "0001", fixture(root, "0001"))
    upgrade.upgrade(empty)
    assert ends(empty, "exact") == [(5.0, 9, 9.0, 19)]  # the first of two equal ones
    assert ends(empty, "never_finite") == [(None, None, None, None)]
    assert ends(empty, "train_loss")[1] == (2.25, 1, 2.5, 0)
    # The lowest was logged over: only the journal still knows at which step it was.
    assert ends(empty, "again") == [(-1.0, None, 5.0, 2)]
    journals(root, "0001", tmp_path)
    reindex(tmp_path, database_url=empty.url or None)
    assert ends(empty, "again") == [(-1.0, 3, 5.0, 2)]


def test_an_upgraded_database_takes_new_rows(older: Place, number: str, tmp_path: Path) -> None:
    from codetune.runlog import open_run

    upgrade.upgrade(older)
    url = older.url or None
    run = open_run(tmp_path, stage="train", config={}, database_url=url)
    run.define("new", "nats", "lower")
    for step in range(3):
        run.metric("new", step, step)
        run.metric("train_loss", step, step)
    run.finish("finished")
    counts = {m.key: m.count for m in get_run(tmp_path, run.id, database_url=url).metrics}
    assert counts == {"new": 3, "train_loss": 3}
    assert len(list_runs(tmp_path, database_url=url)) == 5


def test_a_stage_upgrades_a_file_and_says_so_in_one_line(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(Place(file), "0001")
    revision.prepare(Place(file))
    (copy,) = copies(file)
    assert copy.name.startswith("runs.0001-2")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    (line,) = capsys.readouterr().err.splitlines()
    assert f"from schema revision 0001 to {HEAD}" in line
    assert str(copy) in line
    assert rows(Place(copy), "0001") == before
    left = {path.name for path in file.parent.iterdir()} - {"runs.db-journal"}
    assert left == {file.name, copy.name}
    revision.prepare(Place(file))
    assert copies(file) == [copy]


def test_the_copy_put_back_is_the_older_database(file: Path) -> None:
    before = rows(Place(file), "0001")
    revision.prepare(Place(file))
    (copy,) = copies(file)
    copy.replace(file)
    assert rows(Place(file), "0001") == before
    upgrade.upgrade(Place(file))
    assert rows(Place(file), HEAD) == before


def test_a_file_under_a_name_with_wildcards_and_quotes(tmp_path: Path, root: Path) -> None:
    place = Place(tmp_path / "a 'b' %41 #?[x] é" / "my.runs.db")
    fill(place, "0001", fixture(root, "0001"))
    revision.prepare(place)
    assert len(list(place.file.parent.glob("my.runs.0001-*.db"))) == 1


def in_a_child(work: Callable[[], None]) -> int:
    """Runs `work` in a forked process, with the libraries loaded; returns its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    return os.waitpid(pid, 0)[1]


def statements(place: Place) -> int:
    """How many statements an upgrade executes."""
    n = 0

    def count(*_: object) -> None:
        nonlocal n
        n += 1

    with listening(count):
        upgrade.upgrade(place)
    return n


@contextmanager
def listening(heard: Callable[..., None]) -> Iterator[None]:
    from sqlalchemy import Engine

    event.listen(Engine, "before_cursor_execute", heard)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", heard)


def killed_at(place: Place, n: int) -> int:
    """Upgrades in a child that is killed before its n-th statement; returns its wait status."""

    def work() -> None:
        left = n

        def kill(*_: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        with listening(kill):
            upgrade.upgrade(place)

    return in_a_child(work)


strides = pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])


@pytest.mark.crash
@strides
def test_killed_at_any_statement_it_leaves_the_old_or_the_new(file: Path, stride: int) -> None:
    before = rows(Place(file), "0001")
    original = file.read_bytes()
    total = statements(Place(file))
    assert total > 15
    for n in [*range(0, total, stride), total]:
        for leftover in file.parent.iterdir():
            leftover.unlink()
        file.write_bytes(original)
        status = killed_at(Place(file), n)
        assert status == (signal.SIGKILL if n < total else 0), n
        with closing_file(file) as plain:
            (now,) = plain.execute("SELECT version_num FROM alembic_version").fetchone()
            assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert now == ("0001" if n < total else HEAD)
        assert rows(Place(file), now) == before
        revision.prepare(Place(file))  # whoever comes next
        assert rows(Place(file), HEAD) == before
        assert not list(file.parent.glob(".*")), "what the killed one left is cleared up"


@pytest.mark.crash
def test_killed_in_the_middle_of_the_copy(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = upgrade._copied

    def half(source: Path, target: Path) -> str:
        copied(source, target)
        os.kill(os.getpid(), signal.SIGKILL)
        return "ok"

    monkeypatch.setattr(upgrade, "_copied", half)
    assert in_a_child(lambda: upgrade.upgrade(Place(file)) and None) == signal.SIGKILL
    monkeypatch.undo()
    assert copies(file) == []
    assert list(file.parent.glob(".runs.0001-*"))
    revision.prepare(Place(file))
    assert len(copies(file)) == 1
    assert not list(file.parent.glob(".runs.0001-*"))


@pytest.mark.crash
@strides
def test_a_client_killed_at_any_statement_leaves_the_server_as_it_was(
    postgres_url: str, root: Path, stride: int
) -> None:
    place = locate(Path(), postgres_url)
    fill(place, "0001", fixture(root, "0001"))
    before, n = rows(place, "0001"), 0
    while killed_at(place, n) == signal.SIGKILL:
        assert rows(place, "0001") == before, n
        assert schemas(place) == []
        n += stride
    assert n > 25
    assert rows(place, HEAD) == before
    assert len(schemas(place)) == 1


def schemas(place: Place) -> list[str]:
    asked = text("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'codetune_backup_%'")
    with transaction(database.engine(place), read_only=True) as connection:
        return list(connection.execute(asked).scalars())


def test_a_server_is_upgraded_only_on_request(
    postgres_url: str, root: Path, tmp_path: Path
) -> None:
    place = locate(tmp_path, postgres_url)
    fill(place, "0001", fixture(root, "0001"))
    for look in (revision.prepare, lambda place: list_runs(tmp_path, database_url=postgres_url)):
        with pytest.raises(UserError, match=r"0001.*needs 0002; run `./scripts.sh runs upgrade`"):
            look(place)
    before = rows(place, "0001")
    done = upgrade.upgrade(place)
    assert [done.backup] == schemas(place)
    revision.prepare(place)
    assert rows(place, HEAD) == before


def test_rows_of_a_servers_copy_can_be_put_back(postgres_url: str, root: Path) -> None:
    """The way back that the documentation names."""
    place = locate(Path(), postgres_url)
    fill(place, "0001", fixture(root, "0001"))
    before = rows(place, "0001")
    backup = upgrade.upgrade(place).backup
    with transaction(database.engine(place)) as connection:
        schema.metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        command.upgrade(alembic_config(connection), "0001")
        for table in [*SAME, "metric", "metric_summary"]:
            connection.execute(text(f'INSERT INTO {table} SELECT * FROM "{backup}".{table}'))
        number = "pg_get_serial_sequence('metric_key', 'id')"
        connection.execute(text(f"SELECT setval({number}, max(id)) FROM metric_key"))
    assert rows(place, "0001") == before
    with transaction(database.engine(place)) as connection:
        values = "('new', 1, '', 'none')"
        insert = f"INSERT INTO metric_key (key, version, unit, direction) VALUES {values}"
        connection.execute(text(insert))


def test_tables_of_others_on_the_server_are_left_alone(postgres_url: str, root: Path) -> None:
    place = locate(Path(), postgres_url)
    with transaction(database.engine(place)) as connection:
        connection.execute(text("CREATE TABLE customers AS SELECT 1 AS id"))
    fill(place, "0001", fixture(root, "0001"))
    backup = upgrade.upgrade(place).backup
    with transaction(database.engine(place)) as connection:
        assert connection.execute(text("SELECT id FROM customers")).scalar() == 1
        copied = connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = :s"), {"s": backup}
        )
        assert sorted(copied.scalars()) == sorted(
            [*SAME, "metric", "metric_summary", "alembic_version"]
        )


UPGRADE = """
import sys
from pathlib import Path
from codetune.runlog.store import revision, upgrade
from codetune.runlog.store.database import locate
sys.stdin.readline()
place = locate(Path(sys.argv[1]), sys.argv[2])
upgrade.upgrade(place) if sys.argv[2] else revision.prepare(place)
"""


def test_of_two_that_start_at_once_exactly_one_upgrades(
    older: Place, number: str, root: Path, tmp_path: Path
) -> None:
    before = rows(older, number)
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    words = [sys.executable, "-c", UPGRADE, str(tmp_path), older.url.replace("+psycopg", "")]
    both = [
        subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for child in both:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate()[1] for child in both]
    assert [child.returncode for child in both] == [0, 0], said
    assert rows(older, HEAD) == before
    if older.file is None:
        assert len(schemas(older)) == 1
    else:
        assert len(copies(older.file)) == 1
        assert "".join(said).count("upgraded from") == 1


def losing(table: str) -> Callable[[object, str], None]:
    migrate = command.upgrade

    def work(config: Any, target: str) -> None:
        migrate(config, target)
        connection: Connection = config.attributes["connection"]
        connection.execute(text(f"DELETE FROM {table} WHERE run_id LIKE '%B'"))

    return work


@pytest.mark.parametrize("table", ["series", "event"])
def test_an_upgrade_that_would_lose_rows_is_taken_back(
    older: Place, number: str, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """Deleting a series without foreign keys leaves points that point at nothing."""
    before = rows(older, number)
    monkeypatch.setattr(command, "upgrade", losing(table))
    with pytest.raises(UserError, match="would have lost rows of .*nothing was changed"):
        upgrade.upgrade(older)
    assert rows(older, number) == before


def test_rows_that_point_at_nothing_are_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing_file(file) as plain:
        plain.execute("UPDATE tag SET run_id = 'nobody'")
    with pytest.raises(UserError, match="lost rows of tag"):
        upgrade.upgrade(Place(file))


def test_a_damaged_file_is_not_upgraded(file: Path) -> None:
    pages = bytearray(file.read_bytes())
    pages[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    file.write_bytes(pages)
    with pytest.raises(UserError, match="cannot be used .*may be deleted"):
        revision.prepare(Place(file))
    assert file.read_bytes() == bytes(pages)
    assert not list(file.parent.glob(".*"))


def test_a_copy_that_finds_no_room_changes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> str:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(upgrade, "_copied", full)
    before = file.read_bytes()
    with pytest.raises(UserError, match="disk is full"):
        revision.prepare(Place(file))
    assert file.read_bytes() == before
    assert copies(file) == []


def newer(place: Place) -> None:
    revision.prepare(place)
    with transaction(database.engine(place)) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))


def test_a_database_newer_than_the_code_is_refused(empty: Place, tmp_path: Path) -> None:
    newer(empty)
    for use in (revision.prepare, upgrade.upgrade):
        with pytest.raises(UserError, match=r"revision 9999.*needs 0002.*runs reindex") as refused:
            use(empty)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="9999"):
        list_runs(tmp_path, database_url=empty.url or "sqlite:///logs/runs.db")


def test_the_copy_to_go_back_to_is_named(tmp_path: Path) -> None:
    place = locate(tmp_path, None)
    newer(place)
    for moment in ("20250101T000000Z", "20260101T000000Z"):
        (place.file.parent / f"runs.{HEAD}-{moment}.db").touch()
    with pytest.raises(UserError, match=rf"put back its copy .*runs.{HEAD}-2026.*or delete it"):
        revision.prepare(place)


def test_a_hostile_revision_is_shown_safely(tmp_path: Path) -> None:
    place = locate(tmp_path, None)
    revision.prepare(place)
    with closing_file(place.file) as plain:
        plain.execute("UPDATE alembic_version SET version_num = ?", ("\x1b[31m" + "9" * 5000,))
    with pytest.raises(UserError) as refused:
        revision.prepare(place)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 500


def described(connection: Connection, name: str) -> dict[str, list[tuple[Any, ...]]]:
    """Columns, constraints and indexes of a schema of the server, as it words them itself."""
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable, "
        "replace(column_default, :s || '.', '') FROM information_schema.columns "
        "WHERE table_schema = :s AND table_name <> 'alembic_version'"
    )
    constraints = (
        "SELECT conname, replace(pg_get_constraintdef(c.oid), :s || '.', '') "
        "FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace "
        "WHERE nspname = :s AND conname <> 'alembic_version_pkc'"
    )
    indexes = (
        "SELECT indexname, replace(indexdef, :s || '.', '') FROM pg_indexes "
        "WHERE schemaname = :s AND tablename <> 'alembic_version'"
    )
    asked = {"columns": columns, "constraints": constraints, "indexes": indexes}
    return {
        key: sorted(map(tuple, connection.execute(text(sql), {"s": name})), key=repr)
        for key, sql in asked.items()
    }


def test_on_a_server_migrations_make_the_very_tables_of_the_schema(postgres_url: str) -> None:
    place = locate(Path(), postgres_url)
    revision.prepare(place)
    with transaction(database.engine(place)) as connection:
        connection.execute(text("CREATE SCHEMA codetune_backup_fresh"))
        connection.execute(text("SET LOCAL search_path = codetune_backup_fresh"))
        schema.metadata.create_all(connection)
        fresh = described(connection, "codetune_backup_fresh")
        assert described(connection, "public") == fresh
        assert all(fresh.values())
