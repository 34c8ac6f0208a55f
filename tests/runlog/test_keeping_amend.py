"""Words, notes and removal: at any time, by any process, and whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codetune import artefact
from codetune.artefact import Origin
from codetune.errors import RefusedError, UserError
from codetune.machine.storage import size_on_disk
from codetune.runlog import Run, capture, create_run, events, open_run
from codetune.runlog.keeping import amend, verbs
from codetune.runlog.keeping.rebuild import writing
from codetune.runlog.keeping.verbs import Place
from codetune.runlog.local import read_run, run_ids
from tests.runlog.asking import get_run, list_runs
from tests.runlog.example_runs import HOSTILE

ROOT = Path(__file__).resolve().parents[2]


def ended(root: Path, name: str = "mine") -> Run:
    run = open_run(root, stage="train", name=name, config={"run_name": name})
    run.metric("loss", 1.0, 1)
    run.output(artefact.write_text(root / f"outputs/{name}.txt", "x" * 5000, Origin("t", 1, "c")))
    run.finish("finished", "done")
    return run


# ---------------------------------------------------------------------------- tags and notes


def test_tags_and_notes_of_a_finished_run(tmp_path: Path) -> None:
    run, at = ended(tmp_path), Place(tmp_path, None)
    before = read_run(events.journal_path(tmp_path, run.id))
    verbs.tag(at, "mine", ["best", "two  words", "best"], remove=False)
    verbs.note(at, run.id[-8:], " first\nline two ")
    verbs.note(at, "mine", "second")
    found = get_run(tmp_path, "mine")
    assert found.tags == ("best", "two words")
    assert [note.text for note in found.notes] == ["first\nline two", "second"]
    verbs.tag(at, "mine", ["best", "never there"], remove=True)
    assert get_run(tmp_path, "mine").tags == ("two words",)
    assert read_run(events.journal_path(tmp_path, run.id)) == before  # no sign of life


def test_reindexing_gives_the_same_tags_and_notes(tmp_path: Path) -> None:
    ended(tmp_path)
    at = Place(tmp_path, None)
    for word, remove in (("a", False), ("b", False), ("a", True), ("c", False), ("b", True)):
        verbs.tag(at, "mine", [word], remove=remove)
        verbs.note(at, "mine", word)
    before = get_run(tmp_path, "mine")
    (tmp_path / "logs/runs.db").unlink()
    assert verbs.reindex(at).data["runs"] == 1
    assert get_run(tmp_path, "mine") == before
    assert before.tags == ("c",)


def test_a_run_of_another_process_is_amended_while_it_runs(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from codetune.runlog import open_run\n"
        "run = open_run(Path(), stage='train', config={}, name='busy')\n"
        "print('up', flush=True)\n"
        "for step in range(20000): run.metric('loss', step, step)\n"
        "sys.stdin.readline(); run.finish('finished')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        for n in range(50):
            amend.tag(tmp_path, run_ids(tmp_path)[0], [f"t{n}"])
        amend.note(tmp_path, run_ids(tmp_path)[0], "x" * 4000)
        process.communicate("\n", timeout=60)
    found = get_run(tmp_path, "busy")
    assert (found.row.status, len(found.tags), len(found.notes)) == ("finished", 50, 1)
    assert found.metrics[0].count == 20_000


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), (" \n\t", "empty"), ("\x1b[2J", "empty"), ("x" * 4097, "4,097 bytes"),
     ("é" * 2049, "4,098 bytes")],
)  # fmt: skip
def test_a_note_that_does_not_fit_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    run = ended(tmp_path)
    size = events.journal_path(tmp_path, run.id).stat().st_size
    with pytest.raises(UserError, match=said) as problem:
        amend.note(tmp_path, run.id, text)
    assert "\n" not in str(problem.value)
    assert events.journal_path(tmp_path, run.id).stat().st_size == size


def test_four_kilobytes_are_a_note(tmp_path: Path) -> None:
    run = ended(tmp_path)
    assert amend.note(tmp_path, run.id, "x" * 4096) == "x" * 4096
    read = iter(["y" * 5000])
    with pytest.raises(UserError, match="may have 4,096"):
        amend.note(tmp_path, run.id, amend.read_note(lambda most: next(read)[:most]))


@pytest.mark.parametrize("word", ["", "  ", "\x1b[31m", "x" * 101])
def test_tags_that_are_none(tmp_path: Path, word: str) -> None:
    run = ended(tmp_path)
    with pytest.raises(UserError, match="a tag"):
        amend.tag(tmp_path, run.id, ["good", word])
    assert get_run(tmp_path, "mine").tags == ()  # none of them, not the first alone


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200))
def test_any_text_is_kept_harmless_or_refused(tmp_path: Path, text: str) -> None:
    if not run_ids(tmp_path):
        ended(tmp_path)
    run_id = run_ids(tmp_path)[0]
    try:
        kept = amend.note(tmp_path, run_id, text)
    except UserError:
        return
    (*_, last) = events.read(events.journal_path(tmp_path, run_id))
    assert last.fields["text"] == kept
    assert "\x1b" not in kept and "\u202e" not in kept


def test_hostile_text_is_data(tmp_path: Path) -> None:
    run = ended(tmp_path)
    amend.tag(tmp_path, run.id, [HOSTILE[:60]])
    amend.note(tmp_path, run.id, HOSTILE[:1000])
    found = get_run(tmp_path, "mine")
    assert "DROP TABLE" in found.notes[0].text and "$(touch x)" in found.tags[0]
    assert "\x1b" not in found.notes[0].text + found.tags[0]
    assert len(list_runs(tmp_path)) == 1


def test_a_lost_database_costs_a_warning_and_no_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended(tmp_path)
    amend.note(tmp_path, run.id, "kept")
    from codetune.runlog.keeping import rebuild

    rebuild.index(tmp_path, run.id, "postgres://me:hunter2@127.0.0.1:1/none")
    said = capsys.readouterr().err
    assert "indexed later" in said and "hunter2" not in said
    assert get_run(tmp_path, "mine").notes[0].text == "kept"


# ---------------------------------------------------------------------------- removal


def test_a_removed_run_is_gone_and_what_it_made_stays(tmp_path: Path) -> None:
    run, other = ended(tmp_path), ended(tmp_path, "other")
    at = Place(tmp_path, None)
    told = verbs.rm(at, verbs.runs_called(at, ["mine"]))
    taken = size_on_disk(tmp_path / "outputs/mine.txt")
    assert taken >= 5000
    assert told.data["removed"] == [run.id]
    assert told.data["stays"] == [{"path": "outputs/mine.txt", "run": run.id, "bytes": taken}]
    assert f"takes {taken / 1024:.1f} KiB" in told.said
    assert (tmp_path / "outputs/mine.txt").exists()
    assert [row.id for row in list_runs(tmp_path)] == [other.id]
    assert run_ids(tmp_path) == [other.id]
    assert [p.name for p in (tmp_path / "logs/runs").iterdir()] == [other.id]
    assert verbs.reindex(at).data["runs"] == 1
    assert tables(tmp_path) == {other.id}


def tables(root: Path) -> set[str]:
    """The runs that any table still has rows of."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(root / "logs/runs.db")) as connection:
        names = ("param", "series", "run_io", "tag", "note", "event", "system_sample")
        found = {row[0] for row in connection.execute("SELECT id FROM run")}
        for name in names:
            found |= {r[0] for r in connection.execute(f"SELECT run_id FROM {name}")}
        points = connection.execute("SELECT count(*) FROM metric").fetchone()[0]
        assert (
            points == connection.execute("SELECT coalesce(sum(count), 0) FROM series").fetchone()[0]
        )
    return found


def test_a_run_at_work_is_refused_and_none_is_removed(tmp_path: Path) -> None:
    ended(tmp_path)
    busy = open_run(tmp_path, stage="train", name="busy", config={})
    at = Place(tmp_path, None)
    with pytest.raises(RefusedError, match=r"run busy .* is at work; end it first"):
        verbs.rm(at, verbs.runs_called(at, ["mine", "busy"]))
    busy.finish("finished")
    assert len(list_runs(tmp_path)) == 2
    assert len(verbs.rm(at, verbs.runs_called(at, ["mine", "busy", "mine"])).data["removed"]) == 2
    assert list_runs(tmp_path) == []


def changed(root: Path, name: str, patch: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of code that is not the commit; returns where its patch is kept."""
    code = capture.CodeVersion("c" * 40, patch)
    monkeypatch.setattr(capture, "code_version", lambda: code)
    ended(root, name)
    assert code.diff_sha256
    return capture.patch_path(root, code.diff_sha256)


def test_a_patch_goes_with_the_last_run_that_refers_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Place(tmp_path, None)
    shared = changed(tmp_path, "a", b"diff --git a/x b/x\n+1\n", monkeypatch)
    assert changed(tmp_path, "b", b"diff --git a/x b/x\n+1\n", monkeypatch) == shared
    other = changed(tmp_path, "c", b"diff --git a/x b/x\n+2\n", monkeypatch)
    told = verbs.rm(at, verbs.runs_called(at, ["a"]))
    assert told.data["patches"] == [] and told.said.startswith("1 removed;")
    assert shared.exists() and other.exists()
    told = verbs.rm(at, verbs.runs_called(at, ["b"]))
    assert told.data["patches"] == [f"logs/diffs/{shared.name}"]
    assert told.said.startswith(f"1 removed with logs/diffs/{shared.name};")
    assert list((tmp_path / "logs/diffs").iterdir()) == [other]


def test_a_hash_that_is_none_removes_nothing(tmp_path: Path) -> None:
    run = ended(tmp_path)
    journal = events.journal_path(tmp_path, run.id)
    sha = read_started(journal)["diff_sha256"]
    (tmp_path / "victim.patch").write_text("")
    (tmp_path / "logs/diffs").mkdir(exist_ok=True)
    damaged = journal.read_text().replace(
        f'"diff_sha256":{json.dumps(sha)}', '"diff_sha256":"../../victim"'
    )
    assert "../../victim" in damaged
    journal.write_text(damaged)
    at = Place(tmp_path, None)
    assert verbs.rm(at, verbs.runs_called(at, ["mine"])).data["patches"] == []
    assert (tmp_path / "victim.patch").exists()


def read_started(journal: Path) -> dict[str, Any]:
    return next(r.fields for r in events.read(journal) if r.kind == "started")


def test_a_run_that_began_while_a_person_was_asked_is_refused(tmp_path: Path) -> None:
    other, waiting = ended(tmp_path), create_run(tmp_path, stage="train", name="waiting")
    at = Place(tmp_path, None)
    rows = verbs.runs_called(at, ["mine", "waiting"])
    run = open_run(tmp_path, stage="train", config={}, run_id=waiting)
    with pytest.raises(RefusedError, match=r"run waiting .* is at work; end it first"):
        verbs.rm(at, rows)
    run.metric("loss", 2.0, 2)
    run.finish("finished")
    assert {row.id for row in list_runs(tmp_path)} == {waiting, other.id}


def test_a_run_that_begins_while_others_are_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(tmp_path)
    waiting = create_run(tmp_path, stage="train", name="waiting")
    at = Place(tmp_path, None)
    rows = verbs.runs_called(at, ["mine", "waiting"])
    begun: list[Run] = []
    rename = Path.rename

    def slow(self: Path, target: Path) -> Path:
        begun.append(open_run(tmp_path, stage="train", config={}, run_id=waiting))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    with pytest.raises(RefusedError, match="run waiting"):
        verbs.rm(at, rows)
    begun[0].finish("finished")
    assert [row.id for row in list_runs(tmp_path)] == [waiting]
    assert [p.name for p in (tmp_path / "logs/runs").iterdir()] == [waiting]


@pytest.mark.crash
@pytest.mark.parametrize("dies_in", ["forget_run", "rmtree"])
def test_a_removal_that_was_killed_is_completed_next_time(
    tmp_path: Path, dies_in: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = ended(tmp_path), ended(tmp_path, "other")
    code = (
        "import os, shutil; from pathlib import Path\n"
        "from codetune.runlog.keeping import verbs\n"
        "from codetune.runlog.store import index\n"
        "at = verbs.Place(Path(), None); rows = verbs.runs_called(at, ['mine'])\n"
        f"{'shutil' if dies_in == 'rmtree' else 'index'}.{dies_in} = lambda *a, **k: os._exit(9)\n"
        "verbs.rm(at, rows)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert done.returncode == 9
    assert run_ids(tmp_path) == [other.id]  # a run no more, whatever is left of it
    with writing(tmp_path, None):
        pass
    assert f"run {run.id}: its removal, which was cut short, is done now" in capsys.readouterr().err
    assert tables(tmp_path) == {other.id}
    assert [p.name for p in (tmp_path / "logs/runs").iterdir()] == [other.id]


def test_looking_while_runs_are_removed_never_stumbles(tmp_path: Path) -> None:
    """A reader that saw a journal a moment ago finds it gone when it opens it."""
    for n in range(12):
        ended(tmp_path, f"run{n}")
    code = (
        "from pathlib import Path; from codetune.runlog.keeping import verbs\n"
        "at = verbs.Place(Path(), None)\n"
        "for n in range(12): verbs.rm(at, verbs.runs_called(at, [f'run{n}']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) as process:
        while process.poll() is None:
            assert len(list_runs(tmp_path)) <= 12
    assert process.returncode == 0
    assert list_runs(tmp_path) == []
    run = ended(tmp_path, "last")
    from codetune.runlog.reading import queries

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(queries, "lagging", lambda *_: [tmp_path / "logs/runs/none/events.jsonl"])
        assert [row.id for row in list_runs(tmp_path)] == [run.id]


# ---------------------------------------------------------------------------- a shared database


def test_a_run_of_another_checkout_is_left_alone(tmp_path: Path, postgres_url: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for root, name in ((here, "own"), (there, "foreign")):
        root.mkdir()
        open_run(root, stage="sft", name=name, config={}, database_url=postgres_url).finish(
            "finished"
        )
    at = Place(here, postgres_url)
    for act in (
        lambda: verbs.tag(at, "foreign", ["x"], remove=False),
        lambda: verbs.note(at, "foreign", "x"),
        lambda: verbs.runs_called(at, ["foreign"]),
    ):
        with pytest.raises(UserError, match="its journal is not in this checkout"):
            act()
    verbs.tag(at, "own", ["x"], remove=False)
    assert get_run(there, "own", database_url=postgres_url).tags == ("x",)
    verbs.rm(at, verbs.runs_called(at, ["own"]))
    assert [row.name for row in list_runs(there, database_url=postgres_url)] == ["foreign"]
    assert verbs.reindex(at).data["runs"] == 0
    assert [row.name for row in list_runs(here, database_url=postgres_url)] == ["foreign"]
