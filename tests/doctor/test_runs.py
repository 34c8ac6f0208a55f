"""Runs whose process was killed, and the run database, on real processes and databases."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from codetune import runlog
from codetune.artefact import append_record
from codetune.doctor.journals import unended_runs
from codetune.doctor.runs import run_database, stale_runs
from codetune.runlog import events
from codetune.runlog.process import current
from codetune.runlog.store.revision import HEAD
from tests.machine.driver import ROOT
from tests.runlog.conftest import postgres_server, postgres_url  # noqa: F401 - fixtures

DYING = """
import os, signal, sys
from pathlib import Path
from codetune import runlog
from codetune.artefact import append_record
log = runlog.open_run(Path.cwd(), stage=sys.argv[1], name=sys.argv[2], config={}, differences={},
                      argv=["x"])
log.define("loss", "nats", "lower", 1)
for step in range(int(sys.argv[3])):
    log.metric("loss", 1.0, step)
print(log.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(root: Path, stage: str = "train", name: str = "full", steps: int = 3) -> str:
    """A run whose process was killed; returns its id."""
    done = subprocess.run(
        [sys.executable, "-c", DYING, stage, name, str(steps)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.strip()


def finished(root: Path) -> str:
    log = runlog.open_run(root, stage="sft", name="done", config={}, differences={}, argv=["sft"])
    log.finish("finished", "")
    return log.id


def test_a_killed_run_is_named_with_what_to_do(tmp_path: Path) -> None:
    finished(tmp_path)
    run_id = killed(tmp_path)
    work, stale = stale_runs(tmp_path)
    assert (work.what, work.found, work.todo) == ("runs at work", "0", "")
    assert stale.found == "full (train)"
    assert stale.meaning.startswith("recorded as running, but pid ")
    again, forget = stale.todo.splitlines()
    assert "from its last checkpoint" in again and again.endswith(f"runs show {run_id[-8:]}")
    assert forget == f"or forget it: ./scripts.sh runs rm {run_id[-8:]}"


def test_a_run_at_work_is_not_stale(tmp_path: Path) -> None:
    log = runlog.open_run(
        tmp_path, stage="train", name="now", config={}, differences={}, argv=["train"]
    )
    (work,) = stale_runs(tmp_path)
    assert work.found == "1"
    log.finish("finished", "")
    (work,) = stale_runs(tmp_path)
    assert work.found == "0"


def test_many_stale_runs_are_summed_up(tmp_path: Path) -> None:
    first = killed(tmp_path, "sft", "one")
    source = events.journal_path(tmp_path, first)
    for number in range(6):
        copy = events.journal_path(tmp_path, f"{first[:-2]}{number:02}")
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(source.read_bytes())
    found = list(stale_runs(tmp_path))
    assert len(found) == 1 + 5 + 1
    assert (found[-1].found, "list --status crashed" in found[-1].todo) == ("2 more", True)
    assert "checkpoint" not in found[1].todo, "only training goes on where it was"


def test_a_long_journal_is_read_at_its_ends(tmp_path: Path) -> None:
    run_id = killed(tmp_path, steps=3000)
    assert events.journal_path(tmp_path, run_id).stat().st_size > 128 * 1024
    (found,) = unended_runs(tmp_path, set())
    assert (found.row.id, found.row.name, found.row.status) == (run_id, "full", "crashed")
    assert found.step == 2999


def test_ended_runs_are_looked_at_once(tmp_path: Path) -> None:
    done, dead = finished(tmp_path), killed(tmp_path)
    ended: set[str] = set()
    assert [run.row.id for run in unended_runs(tmp_path, ended)] == [dead]
    assert ended == {done}
    events.journal_path(tmp_path, done).write_text("not looked at again\n")
    assert [run.row.id for run in unended_runs(tmp_path, ended)] == [dead]


def test_notes_on_an_ended_run_make_it_no_stale_one(tmp_path: Path) -> None:
    log = runlog.open_run(
        tmp_path, stage="train", name="good", config={}, differences={}, argv=["train"]
    )
    for step in range(40):
        log.metric("train_loss", 1.0, step)
    for _ in range(20):
        log.event("started_late")
    journal = events.journal_path(tmp_path, log.id)
    for _ in range(17):
        append_record(journal, {"ts": 1, "kind": "note", "text": "n" * 4000})
    (at_work,) = unended_runs(tmp_path, set())
    assert (at_work.row.status, at_work.step) == ("running", 39)
    log.finish("finished", "")
    for _ in range(17):
        append_record(journal, {"ts": 1, "kind": "note", "text": "n" * 4000})
    (work,) = stale_runs(tmp_path)
    assert work.found == "0"


def test_notes_before_the_start_hide_no_process(tmp_path: Path) -> None:
    run_id = runlog.create_run(tmp_path, stage="train", name="queued")
    for number in range(20):
        append_record(
            events.journal_path(tmp_path, run_id), {"ts": 1, "kind": "tag", "text": f"t{number}"}
        )
    (found,) = unended_runs(tmp_path, set())
    assert found.row.status == "created"
    log = runlog.open_run(tmp_path, stage="train", config={}, argv=["train"], run_id=run_id)
    (found,) = unended_runs(tmp_path, set())
    assert (found.row.status, found.row.process) == ("running", current())
    log.finish("finished", "")


def test_a_journal_that_has_no_beginning_yet_is_looked_at_again(tmp_path: Path) -> None:
    run_id = killed(tmp_path)
    journal = events.journal_path(tmp_path, run_id)
    whole, ended = journal.read_bytes(), set[str]()
    journal.write_bytes(b"")
    assert list(unended_runs(tmp_path, ended)) == []
    journal.write_bytes(whole)
    assert [run.row.id for run in unended_runs(tmp_path, ended)] == [run_id]


def test_a_journal_without_a_beginning_is_no_run(tmp_path: Path) -> None:
    journal = events.journal_path(tmp_path, "01JUNK")
    journal.parent.mkdir(parents=True)
    journal.write_text('{"kind":"metric"\nrubbish\n')
    assert list(unended_runs(tmp_path, set())) == []


def test_the_sqlite_file_answers_or_is_made_later(tmp_path: Path) -> None:
    (before,) = run_database(tmp_path, None)
    assert before.meaning == "no tables yet: the first run makes them" and not before.todo
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
    finished(tmp_path)
    (after,) = run_database(tmp_path, None)
    assert after.found == "SQLite: logs/runs.db"
    assert after.meaning == f"answers; schema revision {HEAD}"


def test_a_database_of_another_version_is_told(tmp_path: Path) -> None:
    finished(tmp_path)
    database = tmp_path / "logs/runs.db"
    for version, told in (
        ("0001", "the next run upgrades it"),
        ("9999", "newer than this version"),
    ):
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        connection.close()
        (finding,) = run_database(tmp_path, None)
        assert told in finding.meaning + finding.todo
    database.write_bytes(b"not a database " * 100)
    (finding,) = run_database(tmp_path, None)
    assert finding.found == "cannot be used" and "not a database" in finding.todo


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://someone:hunter2@127.0.0.1:1/runs", "127.0.0.1"),
        ("postgresql://someone:hunter2@127.0.0.1:1/runs?password=hunter2", "127.0.0.1"),
        ("mysql://someone:hunter2@host/runs", "mysql is not a database we can use"),
        ("hunter2", "is not a database we can use"),
    ],
)
def test_a_server_that_does_not_answer_is_told_without_its_password(
    tmp_path: Path, url: str, told: str
) -> None:
    (finding,) = run_database(tmp_path, url)
    assert finding.found == "cannot be used"
    assert told in finding.todo and "\n" not in finding.todo
    assert "hunter2" not in str(finding) and "someone" not in str(finding)


@pytest.mark.slow
def test_a_server_answers(tmp_path: Path, postgres_url: str) -> None:  # noqa: F811
    (before,) = run_database(tmp_path, postgres_url)
    assert before.meaning == "no tables yet: the first run makes them"
    log = runlog.open_run(
        tmp_path,
        stage="sft",
        name="x",
        config={},
        differences={},
        argv=["sft"],
        database_url=postgres_url,
    )
    log.finish("finished", "")
    (after,) = run_database(tmp_path, postgres_url)
    assert after.meaning == f"answers; schema revision {HEAD}" and not after.todo
    host = postgres_url.rpartition("@")[2]  # without the login
    assert after.found == f"DATABASE_URL: postgresql://{host}"
