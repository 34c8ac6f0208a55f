"""One run as a person sees it, as its JSON record, and as a picture."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from codetune.artefact import Input, append_record
from codetune.errors import UserError
from codetune.machine.sampler import Load
from codetune.runlog import RunFile, RunRow, capture, events, open_run, process
from codetune.runlog.keeping.rebuild import reindex
from codetune.runlog.reading.details import Event, Note, Param, Peaks, RunDetails, Summary
from codetune.runlog.reading.figures import duration, seconds_of, when, when_short
from codetune.runlog.reading.page import metric_lines, page
from codetune.runlog.reading.picture import save_picture
from codetune.runlog.reading.points import Bucket
from codetune.runlog.reading.record import as_record
from tests.runlog.asking import get_run
from tests.runlog.example_runs import HOSTILE, training

ROW = RunRow(
    id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
    name="full",
    stage="train",
    status="finished",
    reason="20 steps",
    created=1_700_000_000_000,
    started=1_700_000_000_000,
    ended=1_700_000_012_340,
    files=(RunFile("in", "train", "data/train.jsonl", "ab" * 32), RunFile("out", "log", "l", None)),
    metrics={"loss": 1.23456},
)
LOSS = Summary("loss", 1, "nats", "lower", 3.0, 2.0, 1.0, 3.5, 7, 4, 9, 10)


def details(**more: Any) -> RunDetails:
    facts: dict[str, Any] = {
        "row": ROW,
        "version": 2,
        "seed": 0,
        "argv": ["train.py", "--x"],
        "commit": "c" * 40,
        "diff_sha256": None,
        "environment": {"python": "3.11", "packages": {"torch": "2.13+cpu"}, "gpus": []},
        "params": (Param("lr", "2", "1"), Param("r", "8", None)),
        "metrics": (LOSS,),
        "tags": ("best", "kept"),
        "notes": (Note(1_700_000_000_000, "look again"),),
        "events": (Event(1_700_000_000_000, "saved", {"step": 3, "at": 0.123456}),),
        "peaks": Peaks(cpu_percent=180.4, rss=2**31),
        "children": (),
    }
    return RunDetails(**{**facts, **more})


def shown(run: RunDetails, width: int | None = None, *, everything: bool = False) -> list[str]:
    return [line.plain for line in page(run, width, everything=everything)]


def fact(run: RunDetails, name: str) -> str | None:
    found = [line for line in shown(run) if line.startswith(f"  {name} ")]
    return found[0].removeprefix(f"  {name} ").strip() if found else None


def part(run: RunDetails, title: str, **more: Any) -> list[list[str]]:
    """The cells of a titled table, header first."""
    lines = shown(run, **more)
    start = lines.index(title) + 1
    end = lines.index("", start) if "" in lines[start:] else len(lines)
    return [line.split() for line in lines[start:end]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "12.3 s"),
        ({"ended": 1_700_000_060_000}, "0:01:00"),
        ({"ended": 1_700_000_000_000 + 3_723_000}, "1:02:03"),
        ({"started": None}, "-"),
        ({"status": "crashed", "ended": None, "heartbeat": 1_700_000_005_000}, "5.0 s"),
    ],
)
def test_durations(changes: dict[str, Any], words: str) -> None:
    assert duration(RunRow(**{**vars(ROW), **changes})) == words


def test_a_running_run_lasts_until_now() -> None:
    begun = int(time.time() * 1000) - 30_000
    row = RunRow(**{**vars(ROW), "status": "running", "started": begun, "ended": None})
    assert 30.0 <= (seconds_of(row) or 0) < 31.0


def test_moments_are_local_and_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    moment = 1_700_000_000_000
    assert when(moment) == "2023-11-14 22:13"
    assert when_short(moment, moment + 3_600_000) == "22:13"
    assert when_short(moment, moment + 86_400_000) == "11-14"
    assert when_short(moment, moment + 300 * 86_400_000) == "2023-11-14"
    monkeypatch.undo()
    time.tzset()


def test_facts_of_a_run() -> None:
    run = details()
    assert shown(run)[0] == "full (train, Q69G5FAV)"
    assert fact(run, "id") == ROW.id
    assert fact(run, "stage") == "train, version 2"
    assert fact(run, "status") == "finished: 20 steps"
    assert fact(run, "seed") == "0"
    assert fact(run, "command") == "train.py --x"
    assert fact(run, "peaks") == "CPU 180 %, memory 2.00 GiB"
    assert fact(run, "GPU") == "none"
    assert fact(run, "packages") == "torch 2.13+cpu"
    assert fact(run, "tags") == "best kept"
    assert fact(details(tags=("best", 'in "two" words')), "tags") == r'best "in \"two\" words"'
    assert fact(run, "steps") is None
    assert fact(details(seed=None), "seed") is None


def test_gpu_peaks_are_told_where_there_were_gpus() -> None:
    peaks = Peaks(10.0, 2**30, 97.6, 9 * 2**30, 67.0, 215.4)
    assert fact(details(peaks=peaks), "peaks") == (
        "CPU 10 %, memory 1.00 GiB, GPU 98 %, GPU memory 9.00 GiB, 67 °C, 215 W"
    )
    assert fact(details(peaks=Peaks()), "peaks") is None


def test_the_steps_planned_are_told_beside_those_done() -> None:
    planned = Event(0, "steps_planned", {"total": 40, "done": 0})
    assert fact(details(events=(planned,)), "steps") == "9 of 40"


@pytest.mark.parametrize(
    ("commit", "diff", "code"),
    [
        ("c" * 40, None, "c" * 12),
        ("c" * 40, "d" * 64, f"{'c' * 12} with changes {'d' * 8} (runs diff Q69G5FAV shows them)"),
        (None, None, "no commit"),
        (None, "d" * 64, f"no commit changes {'d' * 8} (runs diff Q69G5FAV shows them)"),
    ],
)
def test_the_code_is_named(commit: str | None, diff: str | None, code: str) -> None:
    assert fact(details(commit=commit, diff_sha256=diff), "code") == code


def test_only_changed_knobs_are_shown_unless_all_are_asked_for() -> None:
    run = details()
    title = "knobs changed from their defaults"
    assert part(run, title) == [["value", "default"], ["lr", "2", "1"]]
    assert part(run, "knobs", everything=True)[1:] == [["lr", "2", "1"], ["r", "8", "same"]]


def test_best_follows_the_direction_and_names_its_step() -> None:
    for direction, best in (("lower", ["1", "7"]), ("higher", ["3.5", "4"]), ("none", [])):
        metric = Summary("m", 1, "", direction, 3.0, 2.0, 1.0, 3.5, 7, 4, 9, 10)
        rows = part(details(metrics=(metric,)), "metrics")
        assert rows[0] == [
            "metric",
            "unit",
            "best",
            "at",
            "step",
            "last",
            "first",
            "min",
            "max",
            "points",
        ]
        assert rows[1] == ["m", *best, "2", "3", "1", "3.5", "10"]


def test_a_number_that_was_not_finite_is_nan() -> None:
    metric = Summary("m", 1, "%", "lower", None, None, None, None, None, None, 9, 1)
    lines = [line.plain for line in metric_lines([metric], None)]
    assert lines[-1].split() == ["m", "%", "nan", "-", "nan", "nan", "nan", "nan", "1"]


def test_a_narrow_terminal_goes_without_figures_before_names_break() -> None:
    values = (1.2345, 2.3456, 1.2345, 3.4567, 12345, 1, 20000, 4000)
    keys = ("eval_loss", "train_loss", "tokens_per_second_at_rank_0")
    metrics = [Summary(key, 1, "nats/token", "lower", *values) for key in keys]
    heads = {}
    for width in (None, 200, 80, 72, 60):
        lines = [line.plain for line in metric_lines(metrics, width)]
        assert [line.split()[0] for line in lines[3:]] == list(keys), width
        heads[width] = lines[2].replace("at step", "at_step").split()
    assert heads[None] == heads[200]
    assert heads[200][-5:] == ["last", "first", "min", "max", "points"]
    assert heads[80] == ["metric", "unit", "best", "at_step", "last", "first", "points"]
    assert heads[72] == ["metric", "unit", "best", "at_step", "last", "points"]
    assert heads[60] == ["metric", "best", "at_step", "last", "points"]


def test_of_the_checkpoints_a_run_made_the_newest_is_shown() -> None:
    made = [RunFile("out", "checkpoint", f"c/checkpoint-{n}", f"{n}" * 64) for n in (1, 2, 2)]
    files = (
        RunFile("in", "checkpoint", "before", None),
        *made,
        RunFile("out", "adapter", "a", None),
    )
    run = details(row=RunRow(**{**vars(ROW), "files": files}))
    rows = [" ".join(row[3:]) for row in part(run, "files")[1:]]
    assert rows == ["before", "c/checkpoint-2 (the newest of 3; --all lists them)", "a"]
    assert len(part(run, "files", everything=True)) == 6
    single = details(row=RunRow(**{**vars(ROW), "files": tuple(made[:1])}))
    assert part(single, "files")[1][3:] == ["c/checkpoint-1"]


def test_files_notes_and_events_are_told() -> None:
    run = details()
    assert part(run, "files")[1:] == [
        ["in", "train", "abababab", "data/train.jsonl"],
        ["out", "log", "-", "l"],
    ]
    assert part(run, "events")[1][2:] == ["saved", "at=0.1235", "step=3"]
    assert part(run, "notes")[0][2:] == ["look", "again"]


def test_of_many_events_the_newest_are_shown() -> None:
    many = tuple(Event(n, "saved", {"step": n}) for n in range(50))
    title = "events (the newest 20 of 50)"
    assert [row[-1] for row in part(details(events=many), title)[1:]] == [
        f"step={n}" for n in range(30, 50)
    ]
    assert len(part(details(events=many), "events", everything=True)) == 51


def test_children_are_listed() -> None:
    rows = part(details(children=(ROW,)), "runs it started")
    assert rows[1] == ["Q69G5FAV", "full", "train", "finished", "12.3", "s"]


def test_a_run_that_never_started_has_few_facts() -> None:
    bare = RunRow(id=ROW.id, name="later", stage="train", status="created", created=ROW.created)
    empty: dict[str, Any] = dict.fromkeys(("params", "metrics", "tags", "notes", "events"), ())
    empty |= {"environment": {}, "argv": [], "commit": None, "version": None, "seed": None}
    run = details(row=bare, peaks=Peaks(), **empty)
    lines = shown(run)
    assert "None" not in "\n".join(lines)
    assert [line.split()[0] for line in lines[1:]] == ["id", "stage", "status", "when", "code"]


def test_everything_fits_eighty_columns() -> None:
    small = Summary("m" * 60, 1, "tokens/s", "none", *([1.2345e-5] * 4), 1, 2, 3, 10**5)
    long = RunRow(**{**vars(ROW), "name": HOSTILE, "reason": "y" * 300})
    run = details(
        row=long,
        argv=[HOSTILE],
        params=tuple(Param(f"knob_{n}", "v" * 300, "d" * 300) for n in range(3)),
        metrics=(LOSS, small),
    )
    lines = list(page(run, 80))
    assert all(line.cell_len <= 80 for line in lines)
    assert len(lines) < 120
    assert not any(set(line.plain) & set("\x1b\n\u202e") for line in lines)
    assert "$(touch x)" in "\n".join(line.plain for line in lines)


def recorded(root: Path) -> str:
    """A training run with a parent, a child, notes, tags and samples; returns its id."""
    parent = open_run(root, stage="pipeline", config={}, name="whole")
    run = training(root, "mine", losses=[3.0, 2.0, float("nan"), 1.0], parent=parent.id)
    child = open_run(root, stage="compare", config={}, name="child", parent=run.id)
    child.finish("refused", "worse")
    run.event("saved", step=2)
    run.sample(Load(55.0, 3_000_000, gpu_power=215.0))
    run.output(root, "adapter")
    run.finish("finished", "done")
    parent.finish("finished")
    journal = events.journal_path(root, run.id)
    for fields in ({"kind": "note", "text": "good"}, {"kind": "tag", "text": "kept"}):
        append_record(journal, {"ts": process.now_ms(), **fields})
    return run.id


RECORD = {
    "id", "name", "stage", "status", "reason", "created", "started", "ended", "seconds",
    "stage_version", "task", "project", "parent", "children", "command", "seed", "code",
    "environment", "knobs", "files", "metrics", "events", "tags", "notes", "peaks",
}  # fmt: skip


def test_the_record_holds_everything_in_a_shape_that_stays(tmp_path: Path) -> None:
    run = get_run(tmp_path, recorded(tmp_path))
    record = json.loads(json.dumps(as_record(run, tmp_path), allow_nan=False))
    assert set(record) == RECORD
    assert (record["name"], record["status"], record["seed"]) == ("mine", "finished", 42)
    assert record["tags"] == ["best", "kept"]
    assert [note["text"] for note in record["notes"]] == ["good"]
    assert {"key": "learning_rate", "value": "0.001", "default": "0.0001"} in record["knobs"]
    assert {"key": "max_steps", "value": "20", "default": None} in record["knobs"]
    assert record["files"][0] == {
        **{"role": "in", "kind": "train", "path": "data/train.jsonl"},
        "sha256": "ab" * 32,
    }
    assert (record["peaks"]["rss"], record["peaks"]["gpu_power"]) == (3_000_000, 215.0)
    loss = next(metric for metric in record["metrics"] if metric["key"] == "train_loss")
    assert loss == {
        **{"key": "train_loss", "version": 1, "unit": "nats/token", "direction": "lower"},
        **{"first": 3.0, "last": 1.0, "min": 1.0, "max": 3.0, "min_step": 3, "max_step": 0},
        **{"steps": 3, "count": 4, "best": 1.0, "best_step": 3},
    }
    assert [child["name"] for child in record["children"]] == ["child"]
    assert [event["kind"] for event in record["events"]] == ["not_finite", "not_finite", "saved"]


def test_deleting_or_rebuilding_the_database_changes_no_record(tmp_path: Path) -> None:
    run_id = recorded(tmp_path)
    before = as_record(get_run(tmp_path, run_id), tmp_path)
    (tmp_path / "logs/runs.db").unlink()
    assert as_record(get_run(tmp_path, run_id), tmp_path) == before
    reindex(tmp_path)
    assert as_record(get_run(tmp_path, run_id), tmp_path) == before


def test_both_engines_give_one_record(tmp_path: Path, postgres_url: str) -> None:
    run_id = recorded(tmp_path)
    file = as_record(get_run(tmp_path, run_id), tmp_path)
    server = as_record(get_run(tmp_path, run_id, database_url=postgres_url), tmp_path)
    assert server == file
    width = 80
    pages = [shown(get_run(tmp_path, run_id, database_url=u), width) for u in (None, postgres_url)]
    assert pages[0] == pages[1]


def test_the_patch_is_named_where_it_was_kept(tmp_path: Path) -> None:
    run = details(diff_sha256="d" * 64)
    assert as_record(run, tmp_path)["code"]["patch"] is None
    patch = capture.patch_path(tmp_path, "d" * 64)
    patch.parent.mkdir(parents=True)
    patch.write_text("diff")
    assert as_record(run, tmp_path)["code"]["patch"] == f"logs/diffs/{'d' * 64}.patch"


CURVE = tuple(Bucket(n, 1.0, 1.5, 2.0) for n in range(20))
PNG = b"\x89PNG\r\n\x1a\n"


def test_a_picture_is_a_png_without_a_manifest_and_the_same_each_time(tmp_path: Path) -> None:
    curves = {"train_loss": CURVE, "eval_loss": tuple(Bucket(n, 1.0, 1.0, 1.0) for n in (0, 19))}
    first = save_picture(tmp_path / "new/a.png", curves, "mine", "nats").read_bytes()
    second = save_picture(tmp_path / "new/b.png", curves, "mine", "nats").read_bytes()
    assert first.startswith(PNG)
    assert first == second
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.png", "b.png"]


@pytest.mark.filterwarnings("error")
def test_names_in_a_picture_are_neither_formulas_nor_commands(tmp_path: Path) -> None:
    curves = {"$\\frac{1}{": CURVE, "_hidden": CURVE, "日本\x1b[2J" + "x" * 500: CURVE}
    file = save_picture(tmp_path / "a.png", curves, "$x_{", "${")
    assert file.read_bytes().startswith(PNG)


def test_no_picture_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to draw"):
        save_picture(tmp_path / "a.png", {}, "mine", "")
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_shown_by_their_place(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="data", config={}, name="n")
    run.input(Input("a file with 'blanks' \n.jsonl", "cd" * 32), "rows")
    run.finish("finished")
    rows = part(get_run(tmp_path, "n"), "files")
    assert rows[1] == ["in", "rows", "cdcdcdcd", "a", "file", "with", "'blanks'", ".jsonl"]
