"""Points as curves of few that hide no spike, and as all there are; and what a million cost."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codetune.errors import UserError
from codetune.runlog import create_run, events, open_run
from codetune.runlog.reading import answers, points
from codetune.runlog.reading.details import details_of
from codetune.runlog.reading.drawing import drawing_of
from codetune.runlog.reading.points import Bucket, curves_of, points_of, series_of
from codetune.runlog.reading.queries import find, reading
from tests.runlog.example_runs import training

Values = Iterable[tuple[int, float | None]]


def journal_of(root: Path, name: str, series: dict[str, Values], stage: str = "train") -> str:
    """A run that was only written into its journal; returns its id."""
    run_id = create_run(root, stage=stage, name=name)
    lines = [
        json.dumps(
            {"ts": 5, "kind": "metric", "key": key, "version": 1, "step": step, "value": value}
        )
        for key, values in series.items()
        for step, value in values
    ]
    with events.journal_path(root, run_id).open("a") as journal:
        journal.write("".join(line + "\n" for line in lines))
    return run_id


def curve(root: Path, run_id: str, key: str, buckets: int) -> tuple[Bucket, ...]:
    with reading(root) as connection:
        return curves_of(connection, run_id, [key], buckets).get(key, ())


def test_few_points_are_all_drawn(tmp_path: Path) -> None:
    run_id = journal_of(tmp_path, "few", {"m": [(0, 1.0), (7, None), (9, 3.0)]})
    assert curve(tmp_path, run_id, "m", 10) == (Bucket(0, 1.0, 1.0, 1.0), Bucket(9, 3.0, 3.0, 3.0))


def test_one_point_is_no_curve(tmp_path: Path) -> None:
    run_id = journal_of(tmp_path, "one", {"m": [(3, 1.0)], "n": [(0, None), (1, None), (2, 1.0)]})
    assert curve(tmp_path, run_id, "m", 10) == ()
    assert curve(tmp_path, run_id, "n", 10) == ()
    assert curve(tmp_path, run_id, "unknown", 10) == ()


def test_many_points_become_few_buckets_and_every_spike_stays(tmp_path: Path) -> None:
    spikes = {777: 101.0, 4321: -49.0}
    values = [(step, spikes.get(step, 1.0)) for step in range(5000)]
    found = curve(tmp_path, journal_of(tmp_path, "spiky", {"m": values}), "m", 50)
    assert len(found) == 50
    assert (found[0].step, found[-1].step) == (0, 4999)
    assert max(bucket.high for bucket in found) == 101.0
    assert min(bucket.low for bucket in found) == -49.0
    assert sum(bucket.high > 1.0 or bucket.low < 1.0 for bucket in found) == 2
    assert [b.step for b in found] == sorted({b.step for b in found})
    calm = [bucket for bucket in found if bucket.low == bucket.high]
    assert {bucket.mean for bucket in calm} == {1.0}


steps = st.lists(
    st.tuples(st.integers(-1000, 10**12), st.none() | st.floats(-1e6, 1e6)), min_size=1, max_size=60
)


@settings(max_examples=20, deadline=None)
@given(values=steps, buckets=st.integers(1, 8))
def test_buckets_hold_the_extremes_of_any_series(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[tuple[int, float | None]],
    buckets: int,
) -> None:
    root = tmp_path_factory.mktemp("root")
    run_id = journal_of(root, "any", {"m": values})
    last = dict(values)  # the last one logged wins a step
    real = {step: value for step, value in last.items() if value is not None}
    found = curve(root, run_id, "m", buckets)
    if not found:  # fewer than two buckets hold anything
        assert len(real) < 2 or len(values) > points._READ_WHOLE * buckets
        return
    assert max(bucket.high for bucket in found) == max(real.values())
    assert min(bucket.low for bucket in found) == min(real.values())
    assert all(b.low <= b.mean + 1e-6 and b.mean <= b.high + 1e-6 for b in found)
    assert found[0].step == min(real)
    assert len(found) <= max(buckets + 1, points._READ_WHOLE * buckets)


def test_all_points_come_in_order_with_their_time(tmp_path: Path) -> None:
    run_id = journal_of(tmp_path, "all", {"m": [(5, 2.0), (1, None), (3, 0.5)]})
    with reading(tmp_path) as connection:
        (series, count) = series_of(connection, run_id)["m"]
        found = [(p.step, p.value, p.ts) for p in points_of(connection, series)]
    assert (found, count) == ([(1, None, 5), (3, 0.5, 5), (5, 2.0, 5)], 3)


def ask(root: Path, verb: str, url: str | None = None, **flags: Any) -> answers.Answer:
    """The answer of a verb, with everything that needs the database already read."""
    with reading(root, url) as connection:
        answer = answers.QUESTIONS[verb](answers.Log(connection, root), **flags)
        lines, pieces = list(answer.lines(80)), list(answer.pieces())
    return answers.Answer(lambda _: lines, lambda: pieces, answer.notes)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_points_as_text_and_as_one_json_object(
    tmp_path: Path,
    engine: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = request.getfixturevalue("postgres_url") if engine == "postgres" else None
    monkeypatch.setattr(points, "_BATCH", 3)  # so that a few points take several pieces
    losses = [4.0, 3.5, float("nan"), 2.5, 2.0, 1.5, 1.0]
    run = training(tmp_path, "mine", losses=losses, url=url)
    run.finish("finished")
    answer = ask(tmp_path, "metrics", url, run="mine", metric=["train_loss"])
    told = json.loads("".join(answer.pieces()))
    assert (told["run"], told["name"]) == (run.id, "mine")
    (series,) = told["series"]
    assert (series["key"], series["unit"], series["best"], series["best_step"]) == (
        *("train_loss", "nats/token"),
        *(1.0, 6),
    )
    assert [(step, value) for step, value, _ in series["points"]] == [
        (step, None if math.isnan(value) else value) for step, value in enumerate(losses)
    ]
    text = "\n".join(str(line) for line in answer.lines(80)).splitlines()
    assert [line.split()[:3] for line in text][1:4] == [
        ["train_loss", "1", "3.5"],
        ["train_loss", "2", "nan"],
        ["train_loss", "3", "2.5"],
    ]
    every = json.loads("".join(ask(tmp_path, "metrics", url, run=None, metric=[]).pieces()))
    assert [s["key"] for s in every["series"]] == ["exact", "tokens_per_second", "train_loss"]


def test_a_run_without_metrics_says_so(tmp_path: Path) -> None:
    open_run(tmp_path, stage="sft", config={}, name="bare").finish("finished")
    answer = ask(tmp_path, "metrics", run="bare", metric=[])
    assert answer.notes == ["bare recorded no metrics"]
    assert json.loads("".join(answer.pieces()))["series"] == []
    with pytest.raises(UserError, match="no points here; those that have: none"):
        ask(tmp_path, "metrics", run="bare", metric=["loss"])


def drawn(root: Path, names: list[str], metrics: list[str]) -> list[str]:
    with reading(root) as connection:
        runs = [details_of(connection, find(connection, name)) for name in names]
        return list(drawing_of(connection, runs, metrics, 50).curves)


def test_the_losses_are_drawn_unless_others_are_named(tmp_path: Path) -> None:
    two = [(0, 1.0), (1, 2.0)]
    journal_of(tmp_path, "both", {"eval_loss": two, "train_loss": two, "lr": two})
    journal_of(tmp_path, "odd", {"a_rather_long_loss": two, "loss": two, "acc": two})
    journal_of(tmp_path, "none", {"acc": two, "rows": [(0, 5.0)]})
    journal_of(tmp_path, "bare", {"rows": [(0, 5.0)]})
    assert drawn(tmp_path, ["both"], []) == ["train_loss", "eval_loss"]
    assert drawn(tmp_path, ["odd"], []) == ["loss"]
    assert drawn(tmp_path, ["none"], []) == ["acc"]
    assert drawn(tmp_path, ["bare"], []) == []
    assert drawn(tmp_path, ["both"], ["lr"]) == ["lr"]
    assert drawn(tmp_path, ["both", "odd"], []) == ["both"]
    assert drawn(tmp_path, ["none", "odd"], []) == ["none", "odd"]
    assert drawn(tmp_path, ["both", "odd"], ["eval_loss", "acc"]) == ["both eval_loss", "odd acc"]
    with pytest.raises(UserError, match="did you mean eval_loss"):
        drawn(tmp_path, ["both"], ["evalloss"])


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten runs of ten metrics with 10,000 steps each, and one of five metrics with 200,000.

    Their points go straight into the tables: how they come there is measured elsewhere.
    """
    root = tmp_path_factory.mktemp("million")
    keys = ["train_loss", "eval_loss", *(f"metric_{n}" for n in range(8))]
    names = {f"run {n}": (keys, 10_000) for n in range(10)} | {"long": (keys[:5], 200_000)}
    first = {name: {key: [(0, 9.0)] for key in keys_of} for name, (keys_of, _) in names.items()}
    ids = {name: journal_of(root, name, series) for name, series in first.items()}
    with reading(root) as connection:
        series = {name: series_of(connection, run_id) for name, run_id in ids.items()}
    sizes = {series[name][key][0]: n for name, (keys_of, n) in names.items() for key in keys_of}
    rows = ((s, step, math.sin(step), step) for s, n in sizes.items() for step in range(1, n))
    with closing(sqlite3.connect(root / "logs/runs.db")) as database, database:
        database.executemany("INSERT INTO metric VALUES (?, ?, ?, ?)", rows)
        totals = [(n, n - 1, s) for s, n in sizes.items()]
        database.executemany("UPDATE series SET count = ?, steps = ? WHERE id = ?", totals)
    return root


def cpu_seconds(act: Callable[[], object]) -> float:
    """The best of three, after one that imports: a busy machine only ever adds."""
    act()
    spent = []
    for _ in range(3):
        before = time.process_time()
        act()
        spent.append(time.process_time() - before)
    return min(spent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("show", {"run": "long", "everything": True, "metric": [], "png": None}),
        ("show", {"run": "run 3", "everything": True, "metric": [], "png": None}),
        ("compare", {"runs": ["long", "run 1"], "everything": True, "metric": [], "png": None}),
        (
            "compare",
            {"runs": [f"run {n}" for n in range(8)], "everything": True, "metric": [], "png": None},
        ),
    ],
    ids=["show long", "show", "compare long", "compare eight"],
)
def test_a_million_points_cost_less_than_half_a_second(
    million: Path, verb: str, flags: dict[str, Any]
) -> None:
    answer = ask(million, verb, **flags)
    assert any("_loss" in str(line) for line in answer.lines(80))
    seconds = cpu_seconds(lambda: ask(million, verb, **flags))
    print(f"{verb}: {seconds:.3f} s of CPU")
    assert seconds < 0.5
