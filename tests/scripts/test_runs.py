"""The verbs of `runs` that only look, as a person types them."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import runpy
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from codetune.artefact import Input
from codetune.runlog import Run, open_run
from codetune.runlog.reading.answers import STAGES
from codetune.runlog.reading.elsewhere import ELSEWHERE
from tests.runlog.example_runs import HOSTILE

Script = Callable[..., subprocess.CompletedProcess[str]]
RUNS = "runs/runs.py"


@pytest.fixture
def training(tmp_path: Path) -> Run:
    """A finished training run in the project folder that the scripts run in."""
    parent = open_run(tmp_path, stage="pipeline", config={}, name="whole")
    run = open_run(
        tmp_path,
        stage="train",
        name="full",
        config={"learning_rate": 0.002, "max_steps": 20},
        differences={"learning_rate": {"default": 0.0001, "value": 0.002}},
        argv=["train_qlora.py", "--learning_rate", "0.002"],
        parent=parent.id,
        seed=42,
    )
    run.define("train_loss", "nats/token", "lower")
    run.define("eval_loss", "nats/token", "lower")
    for step in range(20):
        run.metric("train_loss", 3.0 - step / 10, step)
        if step % 5 == 0:
            run.metric("eval_loss", 3.1 - step / 10, step)
    run.metric("tokens_per_second", 812.5)
    run.input(Input("data/train.jsonl", "ab" * 32), "train")
    run.output(tmp_path, "adapter")
    run.finish("finished", "20 steps, eval loss 1.6")
    parent.finish("interrupted", "Ctrl-C")
    return run


def test_list_shows_the_newest_first(training: Run, run_here: Script) -> None:
    done = run_here(RUNS, "list")
    assert (done.returncode, done.stderr) == (0, "")
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["id", "name", "stage", "status", "when", "took", "result"]
    assert len(lines) == 2
    assert lines[0].split()[:4] == [training.id[-8:], "full", "train", "finished"]
    assert lines[0].endswith("20 steps, eval loss 1.6")
    assert lines[1].split()[1:4] == ["whole", "pipeline", "interrupted"]


def test_list_filters_sorts_and_shows_columns(training: Run, run_here: Script) -> None:
    words = ("--where", "eval_loss<2", "--where", "stage=train", "--sort", "-eval_loss")
    done = run_here(RUNS, "list", *words, "--columns", "eval_loss", "learning_rate")
    header, line = done.stdout.splitlines()
    assert header.split() == ["id", "name", "status", "eval_loss", "learning_rate"]
    assert line.split()[2:] == ["finished", "1.6", "0.002"]
    done = run_here(RUNS, "list", "--status", "crashed")
    assert (done.stdout, done.stderr.strip()) == ("", "no run fits")
    tree = run_here(RUNS, "list", "--tree", "--stage", "train").stdout.splitlines()
    assert ["whole" in tree[1], "└ full" in tree[2]] == [True, True]


def test_list_as_json(training: Run, run_here: Script) -> None:
    done = run_here(RUNS, "list", "--json", "--stage", "train", "--limit", "5")
    (row,) = json.loads(done.stdout)
    assert (row["id"], row["name"], row["status"]) == (training.id, "full", "finished")
    assert row["metrics"]["eval_loss"] == pytest.approx(1.6)
    assert row["files"][0]["path"] == "data/train.jsonl"
    assert row["seconds"] >= 0


def test_show_tells_everything_about_a_run(training: Run, run_here: Script) -> None:
    done = run_here(RUNS, "show", "full")
    assert (done.returncode, done.stderr) == (0, "")
    wanted = [
        training.id,
        "finished: 20 steps, eval loss 1.6",
        "train_qlora.py --learning_rate 0.002",
        "learning_rate  0.002  0.0001",
        "abababab  data/train.jsonl",
        "eval_loss          nats/token",
        "tokens_per_second",
        "train_loss, eval_loss [nats/token] by step",
        ". train_loss   o eval_loss",
        "python",
    ]
    for part in wanted:
        assert part in done.stdout, part
    assert "max_steps  " not in done.stdout  # at its default
    assert "max_steps      20     same" in run_here(RUNS, "show", "full", "--all").stdout
    plot = [line.partition("|")[2] for line in done.stdout.splitlines() if "|" in line]
    firsts = [re.search(r"[.o]", line) for line in plot]
    places = [found.start() for found in firsts if found]
    assert places == sorted(places)
    assert len(places) == 10


def test_show_without_a_name_is_the_newest_run(training: Run, run_here: Script) -> None:
    assert json.loads(run_here(RUNS, "show", "--json").stdout)["id"] == training.id
    assert training.id[-8:] in run_here(RUNS, "show", "whole").stdout


def test_show_draws_a_picture_and_says_where(
    training: Run, run_here: Script, tmp_path: Path
) -> None:
    done = run_here(RUNS, "show", "full", "--png", "--json")
    place = tmp_path / "logs/runs" / training.id / "curves.png"
    assert done.stderr.strip() == f"curves: {place.relative_to(tmp_path)}"
    assert place.read_bytes().startswith(b"\x89PNG")
    assert json.loads(done.stdout)["seed"] == 42
    run_here(RUNS, "show", "full", "--png", "mine.png", "--metric", "train_loss")
    assert (tmp_path / "mine.png").is_file()


def test_metrics_are_a_table_points_or_json(training: Run, run_here: Script) -> None:
    table = run_here(RUNS, "metrics", "full").stdout
    assert re.search(r"eval_loss +nats/token +1\.6 +15 +1\.6 +3\.1", table)
    points = run_here(RUNS, "metrics", "full", "--metric", "eval_loss").stdout.splitlines()
    assert [line.split()[:3] for line in points][:2] == [
        ["eval_loss", "0", "3.1"],
        ["eval_loss", "5", "2.6"],
    ]
    told = json.loads(run_here(RUNS, "metrics", "full", "--json").stdout)
    assert {series["key"]: len(series["points"]) for series in told["series"]} == {
        **{"eval_loss": 4, "tokens_per_second": 1, "train_loss": 20}
    }


def test_compare_diff_and_sql_answer(training: Run, run_here: Script, tmp_path: Path) -> None:
    other = open_run(tmp_path, stage="train", name="other", config={"learning_rate": 0.01})
    for step in range(3):
        other.metric("eval_loss", 2.0 - step, step)
    other.finish("finished")
    told = json.loads(run_here(RUNS, "compare", "full", "other", "--json").stdout)
    assert told["knobs"]["learning_rate"]["values"] == ["0.002", "0.01"]
    assert told["metrics"]["eval_loss"]["winners"] == [1]
    assert "learning_rate  0.002  0.01" in run_here(RUNS, "compare", "full", "other").stdout
    lines = run_here(RUNS, "diff", "full", "other").stdout.splitlines()
    assert {"-knobs.learning_rate: 0.002", "+knobs.learning_rate: 0.01"} <= set(lines)
    assert "+learning_rate: 0.002" in run_here(RUNS, "diff", "full").stdout.splitlines()
    done = run_here(RUNS, "sql", "SELECT count(*) AS n FROM run", "--json")
    assert json.loads(done.stdout) == [{"n": 3}]
    cut = run_here(RUNS, "sql", "SELECT step FROM metric", "--limit", "2")
    assert (len(cut.stdout.splitlines()), cut.stderr) == (
        3,
        "cut after 2 rows; --limit takes more\n",
    )
    assert "metric_key  " in run_here(RUNS, "sql").stdout


def test_looking_is_not_recorded_and_changes_no_run(
    training: Run, run_here: Script, tmp_path: Path
) -> None:
    def kept() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in (tmp_path / "logs/runs").rglob("*.jsonl")}

    before = kept()
    for words in (["list"], ["show"], ["metrics"], ["diff", "full"], ["sql", "SELECT 1"]):
        assert run_here(RUNS, *words).returncode == 0
    assert kept() == before


def test_deleting_the_database_changes_no_answer(
    training: Run, run_here: Script, tmp_path: Path
) -> None:
    asked = (["show", "full", "--json"], ["metrics", "full", "--json"], ["list"], ["show", "full"])
    before = [run_here(RUNS, *words).stdout for words in asked]
    (tmp_path / "logs/runs.db").unlink()
    assert [run_here(RUNS, *words).stdout for words in asked] == before


def test_hostile_names_are_shown_safely(run_here: Script, tmp_path: Path) -> None:
    run = open_run(
        tmp_path,
        stage="sft",
        config={"a": "\x1b]52;c;x\x07[/bold]"},
        name=HOSTILE,
        differences={"a": {"default": "", "value": ""}},
    )
    run.metric("loss\x1b[2J", 1.0, 0)
    run.metric("loss\x1b[2J", 2.0, 1)
    run.finish("failed", "\x1b[31mred")
    asked = (
        ["list"],
        ["show", run.id, "--png"],
        ["diff", run.id],
        ["compare", run.id, run.id, "--all"],
        ["metrics", run.id, "--metric", "loss\x1b[2J"],
        ["sql", "SELECT * FROM run"],
    )
    for words in asked:
        done = run_here(RUNS, *words)
        assert done.returncode == 0, done.stderr
        assert not set(done.stdout) & set("\x1b\x07\u202e"), words
        if words[0] != "metrics":
            assert "evil $(touch x)" in done.stdout, words
    assert "[/bold]" in run_here(RUNS, "show", run.id).stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nothing"], "no run is called 'nothing'"),
        (["show", "full", "--metric", "eval_los"], "did you mean eval_loss"),
        (["show", "full", "--png", "mine"], "ends in .png"),
        (["lst"], "did you mean list"),
        (["list", "--where", "eval_los<1"], "did you mean eval_loss"),
        (["list", "--where", "eval_loss"], "KEY OPERATOR VALUE"),
        (["list", "--limit", "0"], "no number from 1 to 10,000"),
        (["list", "--sort"], "expected one argument"),
        (["list", "--stgae", "x"], "unrecognized arguments"),
        (["compare", "full"], "compare takes 2 to 8 runs, not 1"),
        (["list", "--stage", "trian"], "did you mean train?"),
        (["list", "--stage", "nope"], "there are archive-logs, "),
        ([], "which verb? list, show, metrics, compare, diff, sql, lineage, tag,"),
        (["expot"], "did you mean export?"),
        (["lineag", "x"], "did you mean lineage?"),
        (["export", "--to", "json"], "type ./scripts.sh runs export ..."),
        (["sql", "DELETE FROM run"], "only reading is allowed"),
        (["sql", "SELECT nowhere FROM run"], "no such column"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    training: Run, run_here: Script, words: list[str], said: str
) -> None:
    done = run_here(RUNS, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_an_unreachable_database_is_one_line_without_the_password(run_script: Script) -> None:
    url = "mysql://me:hunter2@127.0.0.1/runs"
    done = run_script(RUNS, "list", env={"DATABASE_URL": url})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


def test_before_the_first_run_it_says_so(run_here: Script, tmp_path: Path) -> None:
    done = run_here(RUNS, "list")
    assert (done.returncode, done.stderr.strip()) == (0, "no runs yet")
    for words in (["show"], ["sql", "SELECT 1"], ["compare", "a", "b"]):
        done = run_here(RUNS, *words)
        assert (done.returncode, done.stderr) == (2, "error: there are no runs here yet\n")
    assert "env_snapshot" in run_here(RUNS, "sql").stdout
    assert json.loads(run_here(RUNS, "list", "--json").stdout) == []
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error(training: Run, root: Path, tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
    for words in (["sql", endless, "--limit", "10000"], ["show", "full"]):
        command = [sys.executable, str(root / "scripts" / RUNS), *words]
        env = {**os.environ, "PYTHONPATH": str(root / "src")}
        with subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 0


def on_a_terminal(command: list[str], env: Mapping[str, str], cwd: Path) -> str:
    """What a command shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=cwd, env=env, stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_everything_fits_and_has_colours(
    training: Run, root: Path, tmp_path: Path, width: int
) -> None:
    open_run(tmp_path, stage="sft", config={}, name=HOSTILE).finish("failed", "why " * 70)
    env = {**os.environ, "PYTHONPATH": str(root / "src"), "TERM": "xterm", "COLUMNS": str(width)}
    env.pop("NO_COLOR", None)
    for words in (["list"], ["show"], ["compare", "full", "whole"], ["show", "full"]):
        command = [sys.executable, str(root / "scripts" / RUNS), *words]
        shown = on_a_terminal(command, env, tmp_path)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert "\x1b" not in plain, words  # of escapes only colours, and those are ours
        assert shown != plain
        assert max(map(len, plain.splitlines())) <= width, words
    listed = on_a_terminal([*command[:2], "list"], env, tmp_path)
    assert "\x1b[31mfailed" in listed
    assert len(listed.splitlines()) == 4
    assert "…" in listed


@pytest.mark.parametrize("script", ["runs", "tensorboard"])
def test_help_is_quick(root: Path, script: str) -> None:
    """The best of three, since other work on the machine only ever adds."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, str(root / f"scripts/runs/{script}.py"), "--help"]
        subprocess.run(
            command, check=True, capture_output=True, env={"PYTHONPATH": str(root / "src")}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3


def test_help_names_the_verbs_of_other_pages(root: Path) -> None:
    command = [sys.executable, str(root / "scripts" / RUNS), "--help"]
    env = {**os.environ, "PYTHONPATH": str(root / "src")}
    shown = subprocess.run(command, capture_output=True, text=True, env=env).stdout
    for verb in ("tag", "note", "rm", "prune", "export", "reindex", "upgrade", "lineage", "watch"):
        assert re.search(rf"^    {verb} +{re.escape(ELSEWHERE[verb])}$", shown, re.M), verb
    assert shown.startswith("usage: ./scripts.sh runs ")


def test_every_verb_of_the_other_script_is_named(root: Path) -> None:
    parser = runpy.run_path(str(root / "scripts/runs/keep.py"))["_parser"]()
    (verbs,) = (a for a in parser._actions if a.dest == "verb")
    assert {*verbs.choices, "watch"} == set(ELSEWHERE)
    assert verbs.choices["tag"].prog == "./scripts.sh runs tag"


def test_the_stages_are_those_of_the_scripts(root: Path) -> None:
    texts = [path.read_text() for path in (root / "scripts").rglob("*.py")]
    stages = {
        name for text in texts for name in re.findall(r'stage\.main\([^)]*stage="([^"]+)"', text)
    }
    assert stages == set(STAGES)
