"""Where the database is, how it is opened, and that migrations and tables say the same."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text

from codetune.errors import UserError
from codetune.runlog import open_run
from codetune.runlog.store import database, revision, schema
from codetune.runlog.store.database import Place, locate, transaction, wal_is_safe
from codetune.runlog.store.upgrade import alembic_config

SECRET = "hunter2/%"


def sqlite_at(folder: Path) -> Place:
    place = Place(folder / "runs.db")
    revision.prepare(place)
    return place


def ddl(file: Path) -> dict[str, list[str]]:
    """What the SQL of tables and indexes says, in parts: their order means nothing."""
    connection = sqlite3.connect(file)
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ).fetchall()
    connection.close()
    return {name: parts(sql) for name, sql in rows if name != "alembic_version"}


def parts(sql: str) -> list[str]:
    """The columns and constraints of a CREATE statement, and what stands around them."""
    begin, end, depth, cut = sql.index("("), sql.rindex(")"), 0, [sql.index("(")]
    for at in range(begin + 1, end):
        depth += {"(": 1, ")": -1}.get(sql[at], 0)
        if sql[at] == "," and not depth:
            cut.append(at)
    inner = [sql[a + 1 : b] for a, b in zip(cut, [*cut[1:], end], strict=True)]
    return sorted(" ".join(part.split()) for part in [sql[:begin], *inner, sql[end + 1 :]])


def test_the_parts_of_a_statement() -> None:
    found = parts("CREATE TABLE t (a INT, CHECK (a IN (1, 2)),\n b TEXT) WITHOUT ROWID")
    assert found == ["CHECK (a IN (1, 2))", "CREATE TABLE t", "WITHOUT ROWID", "a INT", "b TEXT"]


@pytest.mark.parametrize(
    ("url", "file"),
    [
        (None, "root/logs/runs.db"),
        ("", "root/logs/runs.db"),
        ("sqlite:///my/runs.db", "root/my/runs.db"),
        ("sqlite:////abs/runs.db", "/abs/runs.db"),
    ],
)
def test_sqlite_places(url: str | None, file: str) -> None:
    assert locate(Path("root"), url).file == Path(file)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgres_urls_are_spelled_for_the_driver_and_shown_without_secrets(scheme: str) -> None:
    place = locate(Path(), f"{scheme}://me:hunter2@db.host:5433/runs?password=hunter2")
    assert place.url.startswith("postgresql+psycopg://me:hunter2@db.host:5433/runs")
    assert str(place) == "postgresql://db.host:5433/runs"
    assert "hunter2" not in repr(place)


@pytest.mark.parametrize("end", ["db.host/runs", "[::1]:5433/runs", "[::1]/runs", "/runs"])
def test_host_and_port_are_shown_as_they_were_written(end: str) -> None:
    assert str(locate(Path(), f"postgresql://{end}?password=hunter2")) == f"postgresql://{end}"


@pytest.mark.parametrize(
    "url", ["mysql://me:hunter2@h/d", "hunter2", "sqlite://", "sqlite:runs.db"]
)
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(UserError, match="DATABASE_URL") as refused:
        locate(Path(), url)
    assert "hunter2" not in str(refused.value)


def test_a_drivers_message_loses_the_password() -> None:
    place = Place(None, "postgresql+psycopg://me:hunter2%2F%25@host/db")
    told = revision.unusable(place, f'no login\n for "me" with {SECRET} or hunter2%2F%25')
    assert "hunter2" not in str(told)
    assert "\n" not in str(told)


def test_the_newest_migration_is_the_one_that_the_code_expects(tmp_path: Path) -> None:
    opened = database.engine(sqlite_at(tmp_path))
    with transaction(opened) as connection:
        scripts = ScriptDirectory.from_config(alembic_config(connection))
        assert scripts.get_heads() == [revision.HEAD]
        assert revision.revision(connection) == revision.HEAD


def test_alembic_finds_no_difference_between_migrations_and_tables(tmp_path: Path) -> None:
    opened = database.engine(sqlite_at(tmp_path))
    with transaction(opened) as connection:
        command.check(alembic_config(connection))


def test_migrations_make_the_very_tables_of_the_schema(tmp_path: Path) -> None:
    """Alembic compares neither CHECK constraints nor WITHOUT ROWID; the SQL text does."""
    migrated = sqlite_at(tmp_path)
    direct = Place(tmp_path / "direct.db")
    with transaction(database.engine(direct, create=True)) as connection:
        schema.metadata.create_all(connection)
    assert ddl(migrated.file) == ddl(direct.file)
    assert sum("WITHOUT ROWID" in " ".join(sql) for sql in ddl(direct.file).values()) == 2


def test_going_down_is_refused_with_the_way_back(tmp_path: Path) -> None:
    place = sqlite_at(tmp_path)
    before = ddl(place.file)
    for target in ("-1", "base"):
        with (
            pytest.raises(UserError, match=r"cannot be undone.*copy.*runs reindex"),
            transaction(database.engine(place, foreign_keys=False)) as connection,
        ):
            command.downgrade(alembic_config(connection), target)
    assert ddl(place.file) == before


def test_a_migration_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path / "runs.db")
    upgrade = command.upgrade

    def broken(config: object, target: str) -> None:
        upgrade(config, target)
        raise RuntimeError("killed before the commit")

    monkeypatch.setattr(command, "upgrade", broken)
    with pytest.raises(RuntimeError):
        revision.prepare(place)
    assert ddl(place.file) == {}
    monkeypatch.undo()
    revision.prepare(place)
    assert "run" in ddl(place.file)


def test_a_current_file_is_recognised_without_sqlalchemy(tmp_path: Path, root: Path) -> None:
    place = sqlite_at(tmp_path)
    program = (
        "import sys; from pathlib import Path\n"
        "from codetune.runlog.store import revision, database\n"
        f"revision.prepare(database.Place(Path({str(place.file)!r})))\n"
        "print([m for m in ('sqlalchemy', 'alembic', 'torch', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_another_schema_revision_is_refused(tmp_path: Path) -> None:
    place = sqlite_at(tmp_path)
    connection = sqlite3.connect(place.file)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match=r"revision 9999.*needs 0002"):
        revision.prepare(place)


def test_a_damaged_file_is_one_line_for_the_user(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/runs.db").write_bytes(b"this is no database " * 100)
    with pytest.raises(
        UserError, match=r"runs.db: the run database cannot be used .*not a database"
    ):
        open_run(tmp_path, stage="sft", config={})
    assert not (tmp_path / "logs/runs").exists()


def test_an_unreachable_place_is_one_line_for_the_user(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken"):
        open_run(tmp_path, stage="sft", config={}, database_url="sqlite:///taken/runs.db")


def mounted(folder: Path, *mounts: tuple[Path, str]) -> Path:
    """The kernel's table of mounts."""
    table = folder / "mounts"
    lines = [
        f"x {str(place).replace(' ', chr(92) + '040')} {kind} rw 0 0" for place, kind in mounts
    ]
    table.write_text("".join(f"{line}\n" for line in ["/dev/root / ext4 rw 0 0", *lines]))
    return table


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "runs.db")
    monkeypatch.setattr(database, "_MOUNTS", mounted(tmp_path, (tmp_path, "nfs4")))
    with pytest.raises(UserError, match="lies on nfs4"):
        revision.prepare(place)
    mounted(tmp_path, (tmp_path, "ext4"))
    revision.prepare(place)
    mounted(tmp_path, (tmp_path, "nfs4"))  # as when a checkout was moved there
    with pytest.raises(UserError, match="lies on nfs4"):
        revision.prepare(place)


@pytest.mark.parametrize("name", ["share", "two words", "back\\slash", "\u00e9"])
def test_a_network_file_system_behind_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    share = tmp_path / name
    share.mkdir()
    (tmp_path / "logs").symlink_to(share)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    table = mounted(tmp_path, (share / "other", "cifs"), (share, "autofs"), (share, "nfs"))
    table.write_text(table.read_text().replace("back\\slash", "back\\134slash"))
    monkeypatch.setattr(database, "_MOUNTS", table)
    with pytest.raises(UserError, match="logs/runs.db: lies on nfs,"):
        database.check_filesystem(tmp_path / "logs/runs.db")
    database.check_filesystem(tmp_path / "circle/runs.db")
    database.check_filesystem(tmp_path / f"{name}-2/runs.db")


def test_without_a_table_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [SimpleNamespace(mountpoint=str(tmp_path), fstype="smb3")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    database.check_filesystem(tmp_path / "runs.db")
    monkeypatch.setattr(database, "_MOUNTS", tmp_path / "absent")
    with pytest.raises(UserError, match="lies on smb3"):
        database.check_filesystem(tmp_path / "runs.db")


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 9), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_wal_needs_the_fix(version: tuple[int, int, int], safe: bool) -> None:
    assert wal_is_safe(version) is safe


@pytest.mark.parametrize("safe", [True, False])
def test_the_journal_mode_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe: bool
) -> None:
    monkeypatch.setattr(database, "wal_is_safe", lambda version: safe)
    with transaction(database.engine(sqlite_at(tmp_path)), read_only=True) as connection:
        mode = connection.execute(text("PRAGMA journal_mode")).scalar()
    assert mode == ("wal" if safe else "truncate")


def test_here_the_mode_fits_the_linked_sqlite(tmp_path: Path) -> None:
    with transaction(database.engine(sqlite_at(tmp_path))) as connection:
        mode = connection.execute(text("PRAGMA journal_mode")).scalar()
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    assert mode == ("wal" if wal_is_safe(sqlite3.sqlite_version_info) else "truncate")


def test_a_writer_that_reads_first_waits_for_its_turn(tmp_path: Path) -> None:
    """With a plain BEGIN both would read, and the first to write would fail at once."""
    opened = database.engine(sqlite_at(tmp_path))
    count, insert = text("SELECT count(*) FROM project"), text("INSERT INTO project VALUES (:name)")
    seen = []

    def second() -> None:
        with transaction(opened) as connection:
            seen.append(connection.execute(count).scalar())
            connection.execute(insert, {"name": "second"})

    thread = threading.Thread(target=second)
    with transaction(opened) as connection:
        assert connection.execute(count).scalar() == 0
        thread.start()
        time.sleep(0.3)
        connection.execute(insert, {"name": "first"})
    thread.join()
    assert seen == [1]


def test_a_file_that_a_newer_sqlite_made_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in WAL mode, which an older one leaves; while others read, it has to wait."""
    monkeypatch.setattr(database, "wal_is_safe", lambda version: True)
    place = sqlite_at(tmp_path)
    monkeypatch.setattr(database, "wal_is_safe", lambda version: False)
    reader = sqlite3.connect(place.file)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM run").fetchone() == (0,)
    done = []

    def write(name: str) -> None:
        with transaction(database.engine(place)) as connection:
            connection.execute(text("INSERT INTO project VALUES (:name)"), {"name": name})
        done.append(name)

    threads = [threading.Thread(target=write, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert done == []
    reader.close()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    with transaction(database.engine(place)) as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "truncate"


def test_readers_take_no_lock(tmp_path: Path) -> None:
    opened = database.engine(sqlite_at(tmp_path))
    with transaction(opened, read_only=True), transaction(opened, read_only=True) as reader:
        assert reader.execute(text("SELECT count(*) FROM project")).scalar() == 0


def test_a_removed_file_is_not_made_anew_by_a_writer(tmp_path: Path) -> None:
    place = sqlite_at(tmp_path)
    opened = database.engine(place)
    place.file.unlink()
    with pytest.raises(Exception, match="unable to open"), transaction(opened):
        pass
    assert not place.file.exists()
