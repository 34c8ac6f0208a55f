"""Runs watched by their journals: where they stand, how they ended, which one comes next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from codetune.artefact import append_record
from codetune.errors import UserError
from codetune.runlog import create_run
from codetune.runlog.events import journal_path
from codetune.runlog.local import read_run
from codetune.runlog.process import current
from codetune.runlog.watch import KINDS, Succession, Watched, as_json, find, heads, newest
from tests.runlog.acting import Actor

Write = Callable[..., Watched]
HOSTILE = [
    "a b",
    "'\"$(touch x)`id`",
    "two\nlines",
    "\x1b[31mred\x07",
    "n" * 4096,
    "%_%",
]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a journal by hand: kinds, with fields where they matter; by default of this process,
    so that a run which was started is alive.
    """

    def made(*records: str | dict[str, object], stage: str = "train", name: str = "full",
             parent: str | None = None) -> Watched:  # fmt: skip
        run_id = create_run(tmp_path, stage=stage, name=name, parent=parent)
        process = {"process": vars(current())}
        for ts, record in enumerate(records, 1):
            fields = {"kind": record} if isinstance(record, str) else record
            extra = process if fields["kind"] == "started" else {}
            append_record(journal_path(tmp_path, run_id), {"ts": ts, **extra, **fields})
        (head,) = [head for head in heads(tmp_path) if head.id == run_id]
        return Watched(head)

    return made


def ended(status: str = "finished", reason: str = "") -> dict[str, object]:
    return {"kind": "finished", "status": status, "reason": reason}


def dead(pid: int = 2**22 - 3) -> dict[str, object]:
    return {"kind": "started", "process": {**vars(current()), "pid": pid}}


class TestStatus:
    def test_it_is_what_the_whole_journal_says(self, write: Write, tmp_path: Path) -> None:
        metric = {"kind": "metric", "key": "a", "value": 1.0}
        for records in (
            [],
            ["started"],
            ["started", metric],
            ["started", metric, ended("failed", "why")],
            [dead(), metric],
            [dead(), ended("up to date")],
            [ended("interrupted", "never started")],
        ):
            run = write(*records)
            whole = read_run(run.head.journal)
            assert whole
            assert (run.status, run.reason) == (whole.status, whole.reason), records
            assert bool(run.ending) == (whole.status not in ("created", "running"))

    def test_notes_made_later_and_damaged_lines_hide_no_end(self, write: Write) -> None:
        notes = [{"kind": "note", "text": "x" * 900}] * 200
        run = write("started", ended("refused", "worse"), *notes)
        with run.head.journal.open("ab") as out:
            out.write(b'{"ts":1,"kind":"no\n{"torn')
        again = Watched(run.head)
        assert (again.status, again.reason) == ("refused", "worse")
        assert again.offset == run.head.journal.stat().st_size - len(b'{"torn')

    def test_records_with_odd_fields_break_nothing(self, write: Write) -> None:
        odd = {"kind": "started", "process": None}
        assert write(odd).status == "running"
        assert write({"kind": "started", "process": {"pid": 1}}, {"kind": "finished"}).ending
        assert write("started", {"kind": "later invention", "ts": None}).status == "running"
        for process in ({"pid": "x"}, {"pid": -1, "started": 1}, {"pid": 1, "started": "y"}, [3]):
            fields = {"machine": current().machine, **process} if process != [3] else process
            run = write({"kind": "started", "process": fields})
            assert run.status in ("running", "crashed")
            list(run.records())

    def test_a_long_journal_is_read_at_its_ends_only(self, write: Write) -> None:
        run = write("started")
        with run.head.journal.open("ab") as out:
            out.truncate(2**31)  # sparse
            out.seek(0, 2)
            out.write(b'\n{"ts":5,"kind":"finished","status":"finished","reason":""}\n')
        assert Watched(run.head).status == "finished"


class TestRecords:
    def test_only_what_is_new_and_whole_comes(self, write: Write, tmp_path: Path) -> None:
        run = write("started")
        assert list(run.records()) == []
        append_record(run.head.journal, {"ts": 2, "kind": "tag", "text": "a"})
        with run.head.journal.open("ab") as out:
            out.write(b'{"ts":3,"kind":"meta"')
        assert [record.kind for record in run.records()] == ["tag"]
        with run.head.journal.open("ab") as out:
            out.write(b"}\n")
        assert [record.kind for record in run.records()] == ["meta"]
        append_record(run.head.journal, {"ts": 4, **ended("failed", "no")})
        assert [record.kind for record in run.records()] == ["finished"]
        assert (run.status, run.reason) == ("failed", "no")

    def test_from_any_record_on(self, write: Write) -> None:
        run = write("started", "a", "b", ended())
        every = list(Watched(run.head, 0).records())
        assert [record.kind for record in every] == ["created", "started", "a", "b", "finished"]
        for number, record in enumerate(every):
            rest = list(Watched(run.head, record.end).records())
            assert rest == every[number + 1 :]

    @pytest.mark.parametrize("offset", [-1, 1, 10**9])
    def test_an_offset_inside_a_record_is_refused(self, write: Write, offset: int) -> None:
        with pytest.raises(UserError, match="no record of train full .* ends"):
            Watched(write("started").head, offset)

    def test_a_process_that_dies_gives_a_last_record(self, tmp_path: Path) -> None:
        with Actor(tmp_path) as actor:
            run = find(tmp_path, "full")
            actor.do("metric", "loss", 1.5, 1)
            actor.process.kill()
            actor.process.wait()
            kinds = [record.kind for record in run.records()]
        assert kinds[-2:] == ["metric", "crashed"]
        assert (run.status, list(run.records())) == ("crashed", [])

    def test_a_journal_that_is_removed_ends_the_run(self, write: Write) -> None:
        run = write("started")
        shutil.rmtree(run.head.journal.parent)
        assert [record.kind for record in run.records()] == ["removed"]
        assert run.look()
        assert Watched(run.head).status == "removed"


class TestFind:
    def test_by_name_and_by_either_end_of_the_id(self, write: Write, tmp_path: Path) -> None:
        run = write("started")
        run_id = run.head.id
        for name in ("full", run_id, run_id.lower(), run_id[:9], run_id[-6:].lower()):
            assert find(tmp_path, name).head == run.head

    def test_of_one_name_the_one_at_work_else_the_newest_that_did_something(
        self, write: Write, tmp_path: Path
    ) -> None:
        write(ended())
        second = write(ended("failed"))
        write(ended("up to date"))
        assert find(tmp_path, "full").head == second.head
        active = write("started")
        write(ended("up to date"))
        write(ended())
        assert find(tmp_path, "full").head == active.head

    def test_none_and_more_than_one_are_told(self, write: Write, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no run is called 'x'"):
            find(tmp_path, "x")
        with pytest.raises(UserError, match="no runs here yet"):
            newest(tmp_path)
        write()
        write()
        with pytest.raises(UserError, match="2 runs have ids like ''"):
            find(tmp_path, "")

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_names_are_only_names(self, write: Write, tmp_path: Path, name: str) -> None:
        run = write("started", name=name)
        assert find(tmp_path, run.head.name).head == run.head
        assert "\n" not in str(run.head) and len(str(run.head)) < 130
        for other in ("../../etc", "/", "\0", name + "x"):
            with pytest.raises(UserError):
                find(tmp_path, other)

    def test_the_newest_at_work_before_newer_ones_that_are_not(
        self, write: Write, tmp_path: Path
    ) -> None:
        write("started")
        active = write("started")
        waiting, _ = write(), write(dead())
        assert newest(tmp_path).head == active.head
        append_record(active.head.journal, {"ts": 9, **ended()})
        (tmp_path / "logs/runs/not-a-run").mkdir()
        (tmp_path / "logs/runs/zzz").write_text("")
        assert newest(tmp_path).head.id < waiting.head.id  # the first one is still at work

    def test_only_new_runs_are_opened(self, write: Write, tmp_path: Path) -> None:
        old = write("started")
        old.head.journal.write_text("never read")
        young = write("started")
        assert [head.id for head in heads(tmp_path, known={old.head.id})] == [young.head.id]
        assert [head.id for head in heads(tmp_path, after=old.head.id)] == [young.head.id]


class TestSuccession:
    def test_the_runs_of_a_pipeline_follow_each_other_also_when_they_were_short(
        self, write: Write, tmp_path: Path
    ) -> None:
        demo = write("started", stage="demo")
        pipeline = write("started", stage="pipeline", parent=demo.head.id)
        first = write("started", name="one", parent=pipeline.head.id)
        runs = Succession(tmp_path, first, alone=False)
        assert runs.top.head == demo.head
        write("started", name="stranger")
        second = write(ended("up to date"), name="two", parent=pipeline.head.id)
        third = write("started", name="three", parent=demo.head.id)
        assert not runs.advance()  # the first is still at work
        append_record(first.head.journal, {"ts": 9, **ended()})
        assert not runs.advance()  # whoever shows it has not seen its end yet
        assert runs.current.look()
        assert runs.advance() and runs.current.head == second.head
        assert runs.advance() and runs.current.head == third.head
        append_record(third.head.journal, {"ts": 9, **ended()})
        assert runs.current.look()
        assert not runs.advance() and not runs.is_over()  # more may come
        append_record(demo.head.journal, {"ts": 9, **ended("failed")})
        assert runs.is_over()
        assert (runs.top.status, runs.current.head) == ("failed", third.head)

    def test_a_pipeline_gives_way_to_its_first_stage(self, write: Write, tmp_path: Path) -> None:
        pipeline = write("started", stage="pipeline")
        runs = Succession(tmp_path, newest(tmp_path), alone=False)
        assert not runs.advance() and not runs.is_over()
        child = write("started", parent=pipeline.head.id)
        assert runs.advance() and runs.current.head == child.head

    def test_a_named_run_stays_alone(self, write: Write, tmp_path: Path) -> None:
        pipeline = write("started", stage="pipeline")
        runs = Succession(tmp_path, pipeline, alone=True)
        write("started", parent=pipeline.head.id)
        assert not runs.advance()
        append_record(pipeline.head.journal, {"ts": 9, **ended()})
        assert not runs.is_over()
        assert runs.current.look()
        assert runs.is_over() and not runs.advance()

    def test_an_ended_or_missing_parent_is_no_pipeline(self, write: Write, tmp_path: Path) -> None:
        over = write("started", ended(), stage="pipeline")
        run = write("started", parent=over.head.id)
        assert Succession(tmp_path, run, alone=False).top is run
        orphan = write("started", parent="01ARZ3NDEKTSV4RRFFQ69G5FAV")
        assert Succession(tmp_path, orphan, alone=False).top is orphan

    def test_parents_in_a_circle_end(self, write: Write, tmp_path: Path) -> None:
        run = write("started")
        text = run.head.journal.read_text().replace('"parent":null', f'"parent":"{run.head.id}"')
        run.head.journal.write_text(text)
        looped = newest(tmp_path)
        runs = Succession(tmp_path, looped, alone=False)
        assert not runs.advance() and not runs.is_over()


def test_a_line_of_json_says_whose_it_is_and_keeps_every_field(write: Write) -> None:
    event = {"kind": "event", "name": "checkpoint", "fields": {"name": "x", "step": 3}}
    run = write(
        "started", event, {"kind": "note", "text": "\x1b[31m\u202e\x9b2J\nünï"}, name="a\nb"
    )
    lines = [as_json(run.head, record) for record in Watched(run.head, 0).records()]
    created, _, checkpoint, note = map(json.loads, lines)
    assert list(created)[:4] == ["run", "name", "stage", "offset"]
    assert (created["run"], created["name"], created["stage"]) == (run.head.id, "a\nb", "train")
    assert (created["kind"], checkpoint["name"]) == ("created", "a\nb")
    assert (checkpoint["event"], checkpoint["fields"]) == ("checkpoint", event["fields"])
    assert note["text"].endswith("ünï")
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert note["offset"] == run.head.journal.stat().st_size
    assert {"created", "started", "event", "note"} <= set(KINDS)
