"""Lineage over hand-made runs: joined by hashes, by paths where it must be, and it always ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from codetune import artefact
from codetune.artefact import Input, Origin
from codetune.errors import UserError
from codetune.runlog import open_run
from codetune.runlog.reading import queries
from codetune.runlog.reading.lineage import Artefact, Step, lineage
from codetune.runlog.reading.lineage_tree import tree_lines
from tests.runlog.example_runs import HOSTILE

ORIGIN = Origin("any", 1, "config")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stage(
    root: Path,
    name: str,
    reads: Sequence[tuple[Path | Input, str]],
    writes: Sequence[tuple[Path, str]],
    *,
    status: Any = "finished",
    **knobs: Any,
) -> str:
    """A run that reads and writes; returns its id."""
    changed = {key: {"default": 0, "value": value} for key, value in knobs.items()}
    run = open_run(root, stage=name, name=name, config=knobs, differences=changed)
    for path, role in reads:
        run.input(path, role)
    for path, kind in writes:
        run.output(path, kind)
    run.finish(status)
    return run.id


def rows(file: Path, text: bytes) -> Path:
    artefact.write_rows(file, [text], ORIGIN)
    return file


def folder(place: Path, text: str = "weights") -> Path:
    with artefact.staged_directory(place, ORIGIN) as staging:
        artefact.write_plain(staging / "adapter_model.safetensors", text)
    return place


def chain(root: Path) -> dict[str, str]:
    """Two sessions and a commit -> rows -> train and eval -> adapter -> report; ids by stage."""
    sessions = [rows(root / f"sessions/{n}.jsonl", b"s%d" % n) for n in range(2)]
    ids = {}
    sft, fim = rows(root / "data/a.sft.jsonl", b"sft"), rows(root / "data/a.fim.jsonl", b"fim")
    ids["sft"] = stage(root, "claude2sft", [(s, "session") for s in sessions], [(sft, "chat")])
    commit = Input(str(root / "repo"), "c" * 40)
    (root / "repo").mkdir()
    ids["fim"] = stage(root, "repo2fim", [(commit, "commit")], [(fim, "fim")])
    train, held = rows(root / "data/train.jsonl", b"t"), rows(root / "data/eval.jsonl", b"e")
    ids["data"] = stage(
        root, "data", [(sft, "rows"), (fim, "rows")], [(train, "train"), (held, "eval")]
    )
    adapter = folder(root / "outputs/a/adapter")
    ids["train"] = stage(
        root, "train", [(train, "train"), (held, "eval")], [(adapter, "adapter")],
        learning_rate=0.002, train_file="data/train.jsonl",
    )  # fmt: skip
    report = rows(root / "outputs/a/report/rows.jsonl", b"r")
    ids["compare"] = stage(
        root, "compare", [(adapter, "adapter"), (held, "eval")], [(report, "report")]
    )
    return ids


def walk(root: Path, what: str, **flags: Any) -> Step | Artefact:
    with queries.reading(root) as connection:
        return lineage(connection, root, what, **flags)


def told(root: Path, what: str, **flags: Any) -> str:
    flags = {"forward": False, "everything": False, **flags}
    return "\n".join(tree_lines(walk(root, what, **flags), **flags))


def test_a_terminal_cuts_the_lines_of_the_tree_and_a_pipe_does_not(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="data", config={}, name="n" * 200)
    run.input(Input("日本/" + "p" * 200, "ab" * 32), "rows")
    run.finish("finished")
    flags = {"forward": False, "everything": False}
    found = walk(tmp_path, run.id, **flags)
    whole, shown = list(tree_lines(found, **flags)), list(tree_lines(found, **flags, width=40))
    assert len(whole) == len(shown) > 1
    assert all(cell_len(line) <= 40 and line.endswith("…") for line in shown)
    assert all(len(line) > 200 for line in whole)
    assert [line[:20] for line in whole] == [line[:20] for line in shown]


def leaves(found: Step | Artefact) -> set[tuple[str, str]]:
    """(kind, path) of everything that no run made."""
    if isinstance(found, Step):
        return {leaf for file in found.files for leaf in leaves(file)}
    if not found.runs:
        return {(found.file.kind, found.file.path)}
    return {leaf for step in found.runs for leaf in leaves(step)}


SOURCES = {("session", "sessions/0.jsonl"), ("session", "sessions/1.jsonl"), ("commit", "repo")}


def test_an_adapter_goes_back_to_sessions_and_a_commit(project: Path) -> None:
    ids = chain(project)
    found = walk(project, "outputs/a/adapter")
    assert isinstance(found, Artefact)
    assert leaves(found) == SOURCES
    assert found.state == "as recorded"
    (step,) = found.runs
    assert step.run.id == ids["train"]
    assert step.knobs == {"learning_rate": "0.002"}  # train_file only names what the tree shows
    assert step.commit and len(step.commit) == 40  # the code of this repository


@pytest.mark.parametrize("way", ["absolute", "inside", "slash", "hash", "run"])
def test_every_way_to_name_it_leads_to_the_same_sources(project: Path, way: str) -> None:
    ids = chain(project)
    adapter = project / "outputs/a/adapter"
    name = {
        "absolute": str(adapter),
        "inside": "outputs/a/adapter/adapter_model.safetensors",
        "slash": "outputs/a/adapter/",
        "hash": artefact.sha256_file(adapter / "manifest.json")[:10].upper(),
        "run": ids["train"][-8:],
    }[way]
    assert leaves(walk(project, name)) == SOURCES


def test_forward_from_a_session_to_the_report(project: Path) -> None:
    ids = chain(project)
    found = walk(project, "sessions/1.jsonl", forward=True)
    assert isinstance(found, Artefact)
    text = json.dumps(found.as_dict())
    for name in ("sft", "data", "train", "compare"):
        assert ids[name] in text
    assert ids["fim"] not in text
    assert "outputs/a/report/rows.jsonl" in text
    lines = told(project, ids["train"], forward=True).splitlines()
    assert "adapter outputs/a/adapter" in lines[2]
    assert "read by compare" in lines[3]


def test_each_run_is_told_once(project: Path) -> None:
    ids = chain(project)
    lines = told(project, "outputs/a/report/rows.jsonl").splitlines()
    data = [line for line in lines if f"data ({ids['data'][-8:]})" in line]
    assert len(data) == 3  # train, eval, and eval again for the comparison
    assert [line.endswith("told above") for line in data] == [False, True, True]


def test_changed_damaged_and_missing_files_are_said(project: Path) -> None:
    chain(project)
    rows(project / "data/a.sft.jsonl", b"other bytes")
    (project / "sessions/1.jsonl").unlink()
    lines = told(project, "outputs/a/adapter")
    assert "rows data/a.sft.jsonl" in lines
    (line,) = [line for line in lines.splitlines() if "a.sft.jsonl" in line]
    assert "(changed since)" in line
    (line,) = [line for line in lines.splitlines() if "sessions/1.jsonl" in line]
    assert "(gone)" in line
    (project / "outputs/a/adapter/adapter_model.safetensors").write_text("broken!")
    first = told(project, "outputs/a/adapter").splitlines()[0]
    assert "damaged: " in first and "differs from the manifest" in first
    assert "adapter data/a.sft.jsonl" not in lines


def test_a_file_that_changed_since_is_found_by_its_path(project: Path) -> None:
    ids = chain(project)
    rows(project / "data/train.jsonl", b"edited by hand")
    found = walk(project, "data/train.jsonl")
    assert isinstance(found, Artefact)
    assert found.state == "changed since"
    assert [step.run.id for step in found.runs] == [ids["data"]]


def test_bytes_that_no_run_wrote_are_a_doubt(project: Path) -> None:
    made = rows(project / "data/train.jsonl", b"made")
    data = stage(project, "data", [], [(made, "train")])
    edited = rows(project / "data/train.jsonl", b"edited")
    train = stage(project, "train", [(edited, "train")], [])
    found = walk(project, train)
    assert isinstance(found, Step)
    (file,) = found.files
    assert [step.run.id for step in file.runs] == [data]
    assert file.doubt == "by its path: the bytes are others than this run wrote"
    assert "by its path" in told(project, train)


def test_a_run_that_found_all_done_leads_to_the_one_that_did_it(project: Path) -> None:
    ids = chain(project)
    adapter = project / "outputs/a/adapter"
    reads = [(project / "data/train.jsonl", "train"), (project / "data/eval.jsonl", "eval")]
    again = stage(project, "train", reads, [(adapter, "adapter")], status="up to date")
    found = walk(project, "outputs/a/adapter")
    assert isinstance(found, Artefact)
    assert found.runs[0].run.id == ids["train"]
    assert leaves(walk(project, again)) == SOURCES  # lineage works from any run


def test_the_only_run_left_may_be_one_that_found_it_done(project: Path) -> None:
    file = rows(project / "a.jsonl", b"a")
    source = rows(project / "s.jsonl", b"s")
    stage(project, "sft", [(source, "session")], [(file, "chat")], status="up to date")
    found = walk(project, "a.jsonl")
    assert isinstance(found, Artefact)
    assert "found it up to date" in found.doubt
    assert leaves(found) == {("session", "s.jsonl")}


def test_a_copy_is_known_by_its_bytes(project: Path) -> None:
    ids = chain(project)
    copy = rows(project / "elsewhere/copy.jsonl", b"t")
    found = walk(project, str(copy))
    assert isinstance(found, Artefact)
    assert (found.file.path, found.runs[0].run.id) == ("elsewhere/copy.jsonl", ids["data"])
    assert found.doubt == "made at another path"


def test_a_circle_of_equal_bytes_ends(project: Path) -> None:
    one, two = rows(project / "one.jsonl", b"1"), rows(project / "two.jsonl", b"2")
    for n in range(3):
        stage(project, f"there{n}", [(one, "rows")], [(two, "rows")])
        stage(project, f"back{n}", [(two, "rows")], [(one, "rows")])
    assert "there0" in told(project, "one.jsonl")
    assert leaves(walk(project, "one.jsonl")) == {("rows", "one.jsonl")}
    forward = told(project, "one.jsonl", forward=True)
    assert forward.count("told above") > 0 and len(forward.splitlines()) < 40


def test_a_run_that_reads_what_it_writes_is_no_source_of_itself(project: Path) -> None:
    file = rows(project / "a.jsonl", b"same")
    run = stage(project, "data", [(file, "rows")], [(file, "train")])
    assert leaves(walk(project, run)) == {("rows", "a.jsonl")}


def test_many_sessions_are_counted_unless_all_are_wanted(project: Path) -> None:
    sessions = [rows(project / f"s/{n}.jsonl", b"%d" % n) for n in range(30)]
    (project / "s/2.jsonl").unlink()
    made = rows(project / "a.jsonl", b"a")
    hashed = [Input(str(s), f"{n:064x}") for n, s in enumerate(sessions)]
    stage(project, "sft", [(h, "session") for h in hashed], [(made, "chat")])
    short = told(project, "a.jsonl").splitlines()
    assert len(short) == 3
    assert "30 x session, 5 of the first 6 changed since, 1 of the first 6 gone" in short[2]
    assert len(told(project, "a.jsonl", everything=True).splitlines()) == 32
    found = walk(project, "a.jsonl")
    assert isinstance(found, Artefact) and len(found.runs[0].files) == 30  # all in the JSON


def test_a_missing_journal_leaves_the_rows_to_walk(project: Path) -> None:
    import shutil

    ids = chain(project)
    with queries.reading(project):  # all journals are indexed
        pass
    shutil.rmtree(project / "logs/runs" / ids["data"])
    assert leaves(walk(project, "outputs/a/adapter")) == SOURCES


def test_hostile_names_are_one_harmless_line(project: Path) -> None:
    made = rows(project / "a.jsonl", b"a")
    run = open_run(project, stage="sft", name=HOSTILE, config={"prompt": HOSTILE},
                   differences={"prompt": {"default": "", "value": HOSTILE}})  # fmt: skip
    run.input(Input(HOSTILE, "d" * 64), HOSTILE)
    run.output(made, "chat")
    run.finish("finished")
    lines = told(project, "a.jsonl").splitlines()
    assert len(lines) == 4
    assert not any(mark in "".join(lines) for mark in ("\x1b", "\u202e", "\r"))
    assert "evil" in lines[1] and "$(touch x)" in lines[1]
    assert leaves(walk(project, "a.jsonl")) == {(HOSTILE, HOSTILE)}
    assert not (project / "x").exists()


@pytest.mark.parametrize("what", ["nothing", "x" * 5000, "a\0b", "../..", "%", "$(touch x)"])
def test_what_is_not_known_is_one_line(project: Path, what: str) -> None:
    chain(project)
    with pytest.raises(UserError) as problem:
        walk(project, what)
    assert "\n" not in str(problem.value)
    with pytest.raises(UserError, match="no recorded run made or read it"):
        (project / "unknown.txt").write_text("")
        walk(project, "unknown.txt")


def test_a_hash_that_is_not_enough_is_refused(project: Path) -> None:
    for n in range(2):
        run = open_run(project, stage="sft", config={})
        run.input(Input(f"{n}", f"{'ab' * 31}{n:02}"), "session")
        run.finish("finished")
    with pytest.raises(UserError, match="more than one hash begins so"):
        walk(project, "abababab")
    assert leaves(walk(project, "ab" * 31 + "01")) == {("session", "1")}


def test_a_server_tells_the_same_tree_and_export(project: Path, postgres_url: str) -> None:
    from codetune.runlog.keeping.rebuild import reindex
    from codetune.runlog.local import run_ids
    from codetune.runlog.reading import export

    chain(project)
    assert reindex(project, database_url=postgres_url) == 5

    def answers(url: str | None) -> list[Any]:
        with queries.reading(project, url) as connection:
            flags = [("outputs/a/adapter", False), ("sessions/0.jsonl", True), ("train", False)]
            trees = [
                lineage(connection, project, what, forward=way).as_dict() for what, way in flags
            ]
            ids = export.chosen(connection, [], run_ids(project))
            forms = [
                "\n".join(export.pieces(connection, project, ids, form))
                for form in ("json", "csv", "html")
            ]
        return [*trees, json.loads(forms[0]), *forms[1:]]  # JSONB orders keys its own way

    assert answers(postgres_url) == answers(None)
