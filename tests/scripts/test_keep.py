"""The verbs of `runs` that change something, and lineage, as a person types them."""

from __future__ import annotations

import json
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codetune import artefact
from codetune.artefact import Origin
from codetune.machine.storage import size_on_disk
from codetune.runlog import Run, open_run
from codetune.runlog.local import run_ids
from tests.runlog.example_runs import HOSTILE
from tests.runlog.test_keeping_checkpoints import trained
from tests.scripts.test_runs import on_a_terminal

Script = Callable[..., subprocess.CompletedProcess[str]]
KEEP, RUNS = "runs/keep.py", "runs/runs.py"
ORIGIN = Origin("any", 1, "config")


@pytest.fixture
def mine(tmp_path: Path) -> Run:
    """A finished run that read one file and made another."""
    source = artefact.write_text(tmp_path / "source.txt", "source", ORIGIN)
    made = artefact.write_text(tmp_path / "outputs/made.txt", "m" * 3000, ORIGIN)
    run = open_run(
        tmp_path, stage="train", name="mine", config={"rate": 0.5, "run_name": "mine"},
        differences={"rate": {"default": 0.1, "value": 0.5}},
    )  # fmt: skip
    for step in range(3):
        run.metric("loss", 1.0 / (step + 1), step)
    run.input(source, "train")
    run.output(made, "adapter")
    run.finish("finished", "all is well")
    return run


def answer(done: subprocess.CompletedProcess[str]) -> object:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_lineage_is_a_tree_or_json(mine: Run, run_script: Script) -> None:
    drawn = run_script(KEEP, "lineage", "outputs/made.txt")
    lines = drawn.stdout.splitlines()
    assert (drawn.returncode, drawn.stderr, len(lines)) == (0, "", 4)
    assert lines[0].startswith("adapter outputs/made.txt ")
    assert f"made by mine ({mine.id[-8:]}): train, finished" in lines[1]
    assert "with rate=0.5" in lines[2]
    assert lines[3].strip().startswith("└─ train source.txt ")
    found = answer(run_script(KEEP, "lineage", "outputs/made.txt", "--json"))
    assert isinstance(found, dict)
    assert found["runs"][0]["files"][0]["path"] == "source.txt"
    forward = run_script(KEEP, "lineage", "source.txt", "--forward").stdout
    assert "read by mine" in forward and "outputs/made.txt" in forward


def test_lineage_is_cut_at_the_edge_of_a_terminal(mine: Run, root: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(root / "src"), "TERM": "xterm", "COLUMNS": "50"}
    command = [sys.executable, str(root / "scripts" / KEEP), "lineage", "outputs/made.txt"]
    lines = on_a_terminal(command, {**os.environ, **environment}, tmp_path).splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) == 50
    assert lines[1].endswith("…")


def test_tag_and_note_show_up_in_show(mine: Run, run_script: Script, tmp_path: Path) -> None:
    done = run_script(KEEP, "tag", "mine", "best", "2 words")
    assert done.returncode == 0 and "2 words" in done.stdout
    assert answer(run_script(KEEP, "tag", "mine", "best", "--remove", "--json")) == {
        "run": mine.id, "removed": ["best"],
    }  # fmt: skip
    assert answer(run_script(KEEP, "note", mine.id[:12], "why it worked", "--json")) == {
        "run": mine.id, "note": "why it worked",
    }  # fmt: skip
    shown = json.loads(run_script(RUNS, "show", "mine", "--json").stdout)
    assert shown["tags"] == ["2 words"]
    assert [note["text"] for note in shown["notes"]] == ["why it worked"]
    (row,) = json.loads(run_script(RUNS, "list", "--where", "tag=2 words", "--json").stdout)
    assert row["id"] == mine.id


def piped(root: Path, tmp_path: Path, text: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, str(root / "scripts" / KEEP), "note", "mine", "-"]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    return subprocess.run(command, cwd=tmp_path, env=environment, input=text, capture_output=True)


def test_a_note_from_standard_input(
    mine: Run, root: Path, run_script: Script, tmp_path: Path
) -> None:
    assert piped(root, tmp_path, b"x" * 4096).returncode == 0
    long = piped(root, tmp_path, b"y" * 10_000_000)
    assert long.returncode == 2
    assert long.stderr.startswith(b"error: the note has 4,097 bytes and may have 4,096")
    assert long.stderr.count(b"\n") == 1
    shown = json.loads(run_script(RUNS, "show", "mine", "--json").stdout)
    assert [note["text"] for note in shown["notes"]] == ["x" * 4096]


def test_rm_needs_yes_where_nobody_can_be_asked(
    mine: Run, run_script: Script, tmp_path: Path
) -> None:
    done = run_script(KEEP, "rm", "mine")
    assert done.returncode == 2 and "pass --yes" in done.stderr
    assert run_ids(tmp_path) == [mine.id]
    gone = run_script(KEEP, "rm", "mine", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert "outputs/made.txt" in gone.stdout
    taken = size_on_disk(tmp_path / "outputs/made.txt") / 1024
    assert gone.stderr.startswith("1 removed")
    assert f"; what they made stays and takes {taken:.1f} KiB" in gone.stderr
    assert run_ids(tmp_path) == [] and (tmp_path / "outputs/made.txt").exists()
    assert run_script(KEEP, "rm", "mine", "--yes").returncode == 2


@pytest.mark.parametrize(("typed", "left"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_rm_asks_on_a_terminal(
    mine: Run, root: Path, tmp_path: Path, typed: bytes, left: int
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    command = [sys.executable, str(root / "scripts" / KEEP), "rm", "mine"]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdin=theirs, capture_output=True)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert b"remove 1 from the run log: mine? [y/N]" in done.stderr
    assert len(run_ids(tmp_path)) == left
    assert (b"nothing was removed" in done.stderr) == bool(left)


def test_rm_of_a_run_at_work_is_refused(tmp_path: Path, run_script: Script) -> None:
    run = open_run(tmp_path, stage="sft", name="busy", config={})
    done = run_script(KEEP, "rm", "busy", "--yes")
    run.finish("finished")
    assert done.returncode == 3
    assert done.stderr.startswith("error: refused: run busy") and done.stderr.count("\n") == 1
    assert run_ids(tmp_path) == [run.id]


def test_prune_shows_first_and_frees_on_yes(tmp_path: Path, run_script: Script) -> None:
    run_dir = trained(tmp_path)
    looked = run_script(KEEP, "prune")
    assert looked.returncode == 0, looked.stderr
    assert "these checkpoints stay: the best one" in looked.stderr
    assert "nothing is freed yet: --yes frees" in looked.stderr
    lines = [line.split() for line in looked.stdout.splitlines() if "checkpoint-" in line]
    assert [(line[2], line[5]) for line in lines] == [
        ("outputs/mine/checkpoints/checkpoint-10", "free"),
        ("outputs/mine/checkpoints/checkpoint-20", "keep"),
        ("outputs/mine/checkpoints/checkpoint-30", "free"),
        ("outputs/mine/checkpoints/checkpoint-40", "keep"),
    ]
    assert len(list((run_dir / "checkpoints").iterdir())) == 4
    told = answer(run_script(KEEP, "prune", "--keep_last", 2, "--yes", "--json"))
    assert isinstance(told, dict)
    assert told["freed"] == told["may_go"] > 1000
    assert [c["keep"] for c in told["checkpoints"]] == [False, True, True, True]
    assert len(list((run_dir / "checkpoints").iterdir())) == 3
    assert run_script(KEEP, "prune", "--keep_last", -1).returncode == 2


def test_export_to_standard_output_and_to_files(
    mine: Run, run_script: Script, tmp_path: Path
) -> None:
    (record,) = json.loads(run_script(KEEP, "export", "--to", "json").stdout)
    assert record == json.loads(run_script(RUNS, "show", "mine", "--json").stdout)
    lines = run_script(KEEP, "export", "mine", "--to", "csv").stdout.splitlines()
    assert lines[0] == "run,name,key,unit,step,value,time" and len(lines) == 4
    done = run_script(KEEP, "export", "--to", "html", "--out", "page.html", "--json")
    assert answer(done) == {
        "file": "page.html", "runs": 1, "bytes": (tmp_path / "page.html").stat().st_size,
    }  # fmt: skip
    assert "all is well" in (tmp_path / "page.html").read_text()


def test_reindex_after_the_database_is_gone(mine: Run, run_script: Script, tmp_path: Path) -> None:
    before = run_script(RUNS, "show", "mine", "--json").stdout
    (tmp_path / "logs/runs.db").unlink()
    told = answer(run_script(KEEP, "reindex", "--json"))
    assert told == {"database": "logs/runs.db", "runs": 1}
    assert run_script(RUNS, "show", "mine", "--json").stdout == before


def test_upgrade_says_what_there_was_to_do(mine: Run, run_script: Script) -> None:
    from codetune.runlog.store.revision import HEAD

    done = run_script(KEEP, "upgrade", "--json")
    told = answer(done)
    assert isinstance(told, dict) and (told["before"], told["after"]) == (HEAD, HEAD)
    assert told["backup"] is None
    assert f"already at schema revision {HEAD}" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lineage", "nothing"], "no run is called 'nothing'"),
        (["tag", "nobody", "x"], "no run is called 'nobody'"),
        (["tag", "mine", ""], "a tag is empty"),
        (["note", "mine", ""], "the note is empty"),
        (["rm", "mine", "nobody", "--yes"], "no run is called 'nobody'"),
        (["export", "--to", "html"], "--out"),
        (["export", "--to", "xml"], "--to"),
        (["prune", "--keep_last", "some"], "--keep_last"),
        (["lineage", "x" * 5000], "no run is called"),
        (["export", "--to", "csv", "--out", "outputs"], "outputs"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    mine: Run, run_script: Script, tmp_path: Path, words: list[str], said: str
) -> None:
    done = run_script(KEEP, *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert run_ids(tmp_path) == [mine.id]


@pytest.mark.parametrize(
    "words", [["lineage", "x"], ["tag", "x", "y"], ["rm", "x"], ["export", "--to", "csv"]]
)
def test_before_the_first_run_it_says_so_and_makes_nothing(
    run_script: Script, tmp_path: Path, words: list[str]
) -> None:
    done = run_script(KEEP, *words)
    assert (done.returncode, done.stderr) == (2, "error: there are no runs here yet\n")
    assert list(tmp_path.iterdir()) == []


def test_hostile_words_are_stored_and_shown_harmless(
    mine: Run, run_script: Script, tmp_path: Path
) -> None:
    bad = HOSTILE[:90]
    for words in (["tag", "mine", bad], ["note", "mine", HOSTILE[:3000]]):
        done = run_script(KEEP, *words)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout and "evil" in done.stdout
    assert not (tmp_path / "x").exists()
    assert "\x1b" not in run_script(RUNS, "show", "mine").stdout
    page = run_script(KEEP, "export", "--to", "html", "--out", "p.html")
    assert page.returncode == 0 and "[bold]" in (tmp_path / "p.html").read_text()


def test_help_is_quick(root: Path) -> None:
    """The best of three, since other work on the machine only ever adds."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, str(root / "scripts" / KEEP), "--help"]
        environment = {"PYTHONPATH": str(root / "src")}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3
