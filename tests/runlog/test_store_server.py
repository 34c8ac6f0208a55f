"""A server that cannot be used, or not yet: one clear line, and never a password anywhere."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy import text

from codetune.errors import UserError
from codetune.runlog.store import database, revision
from codetune.runlog.store.database import Place, locate, transaction
from tests.runlog.asking import list_runs
from tests.runlog.conftest import Server

# Made anew each time, so that no file of the repository can hold it.
WORD = secrets.token_hex(4)
GUARDED, QUOTED = f"{WORD} horse/%", f"{WORD}%20horse%2F%25"


@pytest.fixture
def guarded(postgres_server: Server, postgres_url: str) -> str:
    """Where user `guarded`, who needs a password, would log in; without user and password."""
    with transaction(database.engine(locate(Path(), postgres_url))) as connection:
        connection.execute(text("DROP ROLE IF EXISTS guarded"))
        connection.execute(text(f"CREATE ROLE guarded LOGIN PASSWORD '{GUARDED}'"))
    return f"127.0.0.1:{postgres_server.port}/postgres"


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which a second attempt is made."""

    def sleep(seconds: float) -> None:
        raise AssertionError("waited for what will be no different")

    monkeypatch.setattr(revision.time, "sleep", sleep)


def refused(url: str) -> str:
    with pytest.raises(UserError) as told:
        revision.prepare(locate(Path(), url))
    line = str(told.value)
    assert "\n" not in line
    assert told.value.__suppress_context__, "a traceback of the driver's error would follow"
    return line


@pytest.mark.usefixtures("no_waiting")
def test_each_cause_that_stays_is_told_at_once(guarded: str) -> None:
    wrong = refused(f"postgresql://guarded:hunter2@{guarded}")
    assert "password authentication failed" in wrong
    assert "correct user and password" in wrong
    assert "hunter2" not in wrong
    assert "no password supplied" in refused(f"postgresql://guarded@{guarded}")
    assert "create it on the server" in refused(f"postgresql://me:hunter2@{guarded}2")
    assert 'role "nobody" does not exist' in refused(f"postgresql://nobody@{guarded}")
    assert "correct the host" in refused("postgresql://me:hunter2@no-such-host.invalid/runs")


@pytest.mark.usefixtures("no_waiting")
def test_a_user_who_may_not_make_tables(guarded: str, postgres_url: str) -> None:
    url = f"postgresql://guarded:{QUOTED}@{guarded}"
    unseen = refused(url)
    assert "no schema has been selected" in unseen
    with transaction(database.engine(locate(Path(), postgres_url))) as connection:
        connection.execute(text("GRANT USAGE ON SCHEMA public TO guarded"))
    denied = refused(url)
    assert "permission denied for schema public" in denied
    for line in (unseen, denied):
        assert "lacks a right: ask the keeper" in line
        assert WORD not in line


def test_a_right_password_with_special_characters_opens(guarded: str, postgres_url: str) -> None:
    with transaction(database.engine(locate(Path(), postgres_url))) as connection:
        connection.execute(text("GRANT ALL ON SCHEMA public TO guarded"))
    revision.prepare(locate(Path(), f"postgresql://guarded:{QUOTED}@{guarded}"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision, "_WAITS", (0.01, 0.02, 0.04))


def test_the_waits_grow_and_end_after_some_seconds() -> None:
    assert list(revision._WAITS) == sorted(revision._WAITS)
    assert 3 <= sum(revision._WAITS) <= 5


@pytest.mark.usefixtures("quick")
def test_nobody_there_is_one_line_while_waiting_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens on it
        port = taken.getsockname()[1]
        line = refused(f"postgresql://me:hunter2@127.0.0.1:{port}/runs")
    assert line.startswith(f"postgresql://127.0.0.1:{port}/runs: ")
    assert "Connection refused; Is the server running" in line
    assert "check DATABASE_URL and that the server runs" in line
    (said,) = capsys.readouterr().err.splitlines()
    where = f"postgresql://127.0.0.1:{port}/runs"
    assert said.startswith(f"{where}: no answer yet (Connection refused; Is")
    assert "hunter2" not in said + line


@pytest.fixture
def babbling() -> Iterator[tuple[int, list[float]]]:
    """A port where something that is no PostgreSQL answers, and when it was asked."""
    asked: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                asked.append(time.monotonic())
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.usefixtures("quick")
def test_something_else_that_answers_is_asked_four_times(
    babbling: tuple[int, list[float]],
) -> None:
    port, asked = babbling
    assert "cannot be used" in refused(f"postgresql://me:hunter2@127.0.0.1:{port}/runs")
    assert len(asked) >= 4
    assert len(asked) % 4 == 0, "as often each time"


def test_a_server_that_comes_up_while_we_wait(
    postgres_server: Server,
    postgres_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revision, "_WAITS", (0.25,) * 200)  # as a busy machine may need
    place = locate(Path(), postgres_url)
    postgres_server.pg_ctl("-m", "immediate", "stop")
    later = threading.Timer(0.4, postgres_server.pg_ctl, ["start"])
    later.start()
    try:
        revision.prepare(place)
    finally:
        later.join()
    assert len(capsys.readouterr().err.splitlines()) == 1


special = st.text(st.sampled_from("ab1:@/?#%[]&=+ ü$'\"\\\n\x1b*"), max_size=4)


@given(parts=st.lists(special, min_size=3, max_size=3), in_query=st.booleans())
def test_no_piece_of_a_password_is_ever_shown(parts: list[str], in_query: bool) -> None:
    """Written raw, with whatever ends it early in a URL."""
    assume(not (in_query and "&" in "".join(parts)))  # there it begins another option
    secret = f"{parts[0]}hunter{parts[1]}seven{parts[2]}"
    url = f"postgresql://host/runs?password={secret}"
    if not in_query:
        url = f"postgresql://me:{secret}@host/runs"
    try:
        place = locate(Path(), url)
        database.engine(place)
        told = f"{place} {place!r} {revision.unusable(place, f'no login with {secret}')}"
    except UserError as problem:
        told = str(problem)
        assert problem.__suppress_context__ or problem.__context__ is None
    assert "hunter" not in told
    assert "seven" not in told


SHOW = """
import os, sys
from pathlib import Path
from codetune import console, stage
from codetune.errors import UserError
from codetune.runlog import open_run
try:
    run = open_run(Path(sys.argv[1]), stage="train", argv=sys.argv, variables=os.environ,
                   config={"report_to": os.environ["DATABASE_URL"]},
                   database_url=os.environ["DATABASE_URL"])
except UserError as problem:
    console.fail(problem)
else:
    run.metric("loss", 1.0)
    run.finish("failed", "gave up")
"""


def tried(root: Path, folder: Path, url: str) -> str:
    """What a process shows that opens a run with the URL in its environment and on its line."""
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "DATABASE_URL": url}
    words = [sys.executable, "-c", SHOW, str(folder), "--url", url, f"--database={url}"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_no_file_and_no_row_holds_the_password(
    root: Path, tmp_path: Path, guarded: str, postgres_server: Server, postgres_url: str
) -> None:
    with transaction(database.engine(locate(Path(), postgres_url))) as connection:
        connection.execute(text("GRANT ALL ON SCHEMA public TO guarded"))
    urls = {
        "right": f"postgresql://guarded:{QUOTED}@{guarded}",
        "wrong": f"postgresql://guarded:{WORD}@{guarded}",
        "malformed": f"postgresql://guarded:{WORD}/{WORD}@{guarded}",
    }
    said = {name: tried(root, tmp_path / name, url) for name, url in urls.items()}
    assert said["right"] == ""
    assert all(len(said[name].splitlines()) == 1 for name in ("wrong", "malformed")), said
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any('"argv":["-c"' in text for text in kept)
    dump = subprocess.run(
        ["pg_dump", postgres_url], capture_output=True, text=True, check=True
    ).stdout
    assert "gave up" in dump
    for shown in [*said.values(), *kept, dump]:
        assert WORD not in shown


def test_looking_at_a_server_that_is_away_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "_WAITS", ())
    (tmp_path / "logs/runs").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be used"):
        list_runs(tmp_path, database_url="postgresql://me:hunter2@127.0.0.1:1/runs")


def test_a_long_answer_of_a_driver_is_cut() -> None:
    assert len(revision.reason(Place(None, "postgresql://h/d"), "x" * 5000)) == 300
