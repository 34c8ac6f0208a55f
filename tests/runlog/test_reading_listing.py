"""Runs found by any fact, knob or metric, on both engines."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from codetune.artefact import append_record
from codetune.errors import UserError
from codetune.runlog import create_run, events, open_run, process
from codetune.runlog.reading.listing import Listed, Wanted, list_lines, listed, wanted_of
from codetune.runlog.reading.queries import reading
from codetune.runlog.store import database
from codetune.runlog.store.database import locate
from tests.runlog.example_runs import HOSTILE, crashed, training


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    """The URL of an empty database: none for the file of the project."""
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else None


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A pipeline with two children, a failed and a running training run, and one that died."""
    root = tmp_path_factory.mktemp("journals")
    pipeline = open_run(root, stage="pipeline", config={}, name="whole")
    rows = open_run(root, stage="sft", config={"seed": 7}, name="rows", parent=pipeline.id)
    rows.finish("up to date")
    training(root, "low", rate=0.001, parent=pipeline.id).finish("finished", "done")
    pipeline.finish("finished", "better than base")
    failed = training(root, "high", rate=0.004, losses=(3.0, 1.5, 2.5), seed=7)
    failed.finish("failed", "CUDA out of memory")
    crashed(root, "died")
    at_work = training(root, "at work", losses=())
    yield root
    at_work.finish("interrupted")


@pytest.fixture
def project(journals: Path, tmp_path: Path, url: str | None) -> tuple[Path, str | None]:
    """A copy of these runs, whose database is filled by whoever asks first."""
    shutil.copytree(journals / "logs/runs", tmp_path / "logs/runs")
    return tmp_path, url


def found(project: tuple[Path, str | None], *where: str, **more: Any) -> list[Listed]:
    flags = {"stage": None, "status": None, "sort": "", "reverse": False, **more}
    with reading(project[0], project[1]) as connection:
        return listed(connection, wanted_of(where=where, **flags))


def names(project: tuple[Path, str | None], *where: str, **more: Any) -> list[str]:
    return [run.row.name for run in found(project, *where, **more)]


ALL = ["at work", "died", "high", "low", "rows", "whole"]


def test_every_kind_of_condition(project: tuple[Path, str | None]) -> None:
    expected = {
        "name=low": ["low"],
        "name!=low": ["at work", "died", "high", "rows", "whole"],
        "name~O": ["at work", "low", "rows", "whole"],
        "stage=train": ["at work", "high", "low"],
        "status=finished": ["low", "whole"],
        "status=crashed": ["died"],
        "status=running": ["at work"],
        "status!=crashed": ["at work", "high", "low", "rows", "whole"],
        "status='up to date'": ["rows"],
        "result~MEMORY": ["high"],
        "result=none": ["at work", "died", "rows"],
        "seed=7": ["high"],
        "seed=none": ["died", "rows", "whole"],
        "seed!=none": ["at work", "high", "low"],
        "param.seed=7": ["rows"],
        "tag=best": ["at work", "low"],
        "tag!=best": ["died", "high", "rows", "whole"],
        "tag~oth": ["high"],
        "tag=none": ["died", "rows", "whole"],
        "parent=whole": ["low", "rows"],
        "parent!=none": ["low", "rows"],
        "parent=none": ["at work", "died", "high", "whole"],
        "seconds<1h": ALL,
        "seconds>2d": [],
        "created>1h": ALL,
        "created<1h": [],
        "created>=2020-01-01": ALL,
        "created=2020-01-01": [],
        "created!=2020-01-01": ALL,
        "ended=none": ["at work", "died"],
        "learning_rate<0.002": ["at work", "low"],
        "learning_rate=1e-3": ["at work", "low"],
        "learning_rate!=0.001": ["high"],
        "learning_rate~004": ["high"],
        "lora.r=8": ["at work", "high", "low"],
        "lora.r='8'": ["at work", "high", "low"],
        "warmup=none": ALL,
        "max_steps=none": ["died", "rows", "whole"],
        "train_loss<=1": ["low"],
        "train_loss=1.5": ["high"],
        "train_loss.last>2": ["high"],
        "train_loss.first=3": ["high", "low"],
        "train_loss.max=3": ["high", "low"],
        "train_loss.min<1.2": ["low"],
        "train_loss.count=3": ["high", "low"],
        "exact.best=90": ["low"],
        "exact=85": ["high"],
        "metric.exact<86": ["high"],
        "tokens_per_second>800.002": ["high"],
        "train_loss=none": ["at work", "died", "rows", "whole"],
    }
    assert {where: sorted(names(project, where)) for where in expected} == expected


def test_all_conditions_must_hold(project: tuple[Path, str | None]) -> None:
    assert names(project, "stage=train", "tag=best", "train_loss!=none") == ["low"]
    assert names(project, "seed=7", stage="train", status="failed") == ["high"]


def test_an_id_or_a_parent_may_be_part_of_an_id(project: tuple[Path, str | None]) -> None:
    run = found(project, "name=low")[0].row
    assert names(project, f"id={run.id[-8:].lower()}") == ["low"]
    assert names(project, f"id!={run.id}") == [name for name in ALL if name != "low"]
    assert sorted(names(project, f"parent={run.parent}")) == ["low", "rows"]
    assert names(project, "id=%") == []


def test_sorting_puts_what_is_missing_last(project: tuple[Path, str | None]) -> None:
    assert names(project) == ALL
    assert names(project, sort="train_loss") == ["low", "high", "at work", "died", "rows", "whole"]
    assert names(project, sort="-train_loss")[:2] == ["high", "low"]
    assert names(project, sort="-train_loss")[2:] == ["at work", "died", "rows", "whole"]
    assert names(project, sort="learning_rate", reverse=True)[:3] == ["high", "at work", "low"]
    assert names(project, sort="name") == ALL
    assert names(project, reverse=True) == ALL[::-1]
    assert names(project, sort="-created", limit=2) == ["at work", "died"]
    assert names(project, sort="tag")[:3] == ["at work", "low", "high"]


def test_a_tree_shows_the_whole_of_each_pipeline(project: tuple[Path, str | None]) -> None:
    shown = found(project, "name=low", tree=True)
    assert [(run.row.name, run.depth) for run in shown] == [("whole", 0), ("rows", 1), ("low", 1)]
    shown = found(project, tree=True)
    assert [run.row.name for run in shown] == ["at work", "died", "high", "whole", "rows", "low"]


def test_columns_hold_facts_knobs_and_metrics(project: tuple[Path, str | None]) -> None:
    columns = ("train_loss.last", "learning_rate", "tag", "created", "exact")
    (run,) = found(project, "name=high", columns=columns)
    created = run.row.created
    assert list(run.values.values()) == [2.5, "0.004", "other", created, 85.0]
    assert json.loads(json.dumps(run.as_dict()))["columns"]["exact"] == 85.0
    (other,) = found(project, "name=whole", columns=columns)
    assert list(other.values.values())[:3] == [None, None, None]
    shown = plain(list_lines([run, other], columns, 100, created))
    assert shown[0].split() == ["id", "name", "status", *columns]
    assert shown[1].split()[2:6] == ["failed", "2.5", "0.004", "other"]
    assert shown[2].split()[-1] == "-"


def plain(lines: Sequence[Text]) -> list[str]:
    return [line.plain for line in lines]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("train_los<1", "did you mean train_loss"),
        ("param.train_loss<1", "did you mean train_loss"),
        ("metric.learning_rate<1", "did you mean learning_rate"),
        ("statis=crashed", "did you mean status"),
        ("qqqq=1", "knobs and metrics"),
        ("status=crashd", "did you mean 'crashed'"),
        ("train_loss=low", "train_loss is a number"),
        ("train_loss~1", "train_loss is a number"),
        ("train_loss='1'", "train_loss is a number"),
        ("created>yesterday", "a date such as"),
        ("created~2026", "a date such as"),
        ("name<3", "name is text"),
        ("tag>=3", "tag is text"),
        ("learning_rate<low", "learning_rate is text"),
        ("seconds<soon", "seconds is a number"),
    ],
)
def test_what_cannot_be_asked_is_one_line(tmp_path: Path, where: str, said: str) -> None:
    training(tmp_path, "one").finish("finished")
    with pytest.raises(UserError, match=said) as refused:
        names((tmp_path, None), where)
    assert "\n" not in str(refused.value)


def test_a_word_that_is_a_knob_and_a_metric_is_the_knob(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="fim", config={"rows": 9}, name="both")
    run.metric("rows", 5)
    run.finish("finished")
    project = (tmp_path, None)
    assert (names(project, "rows=9"), names(project, "rows=5")) == (["both"], [])
    assert names(project, "param.rows=9", "metric.rows=5", "metric.rows.last=5") == ["both"]
    assert names(project, "param.rows=5") == []


def test_two_definitions_of_a_metric_in_one_run_show_the_newest(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="compare", config={}, name="two")
    for version, value in ((2, 8.0), (1, 4.0)):
        run.define("score", "%", "higher", version)
        run.metric("score", value)
    run.finish("finished")
    assert names((tmp_path, None), "score=8") == ["two"]
    assert names((tmp_path, None), "score=4") == []


def test_values_that_are_not_finite_are_missing(project: tuple[Path, str | None]) -> None:
    root, url = project
    training(root, "diverged", losses=(2.0, float("nan")), url=url).finish("finished")
    assert names(project, "train_loss=2", "train_loss.last=none") == ["diverged"]
    assert names(project, sort="train_loss.last")[:2] == ["low", "high"]


def test_hostile_values_are_only_values(project: tuple[Path, str | None]) -> None:
    root, url = project
    run = open_run(
        root,
        stage="sft",
        name=HOSTILE,
        config={"odd 'key'; --": HOSTILE[:900]},
        differences={"odd 'key'; --": {"default": "", "value": ""}},
        database_url=url,
    )
    run.tag("a' OR '1'='1")
    run.finish("finished", HOSTILE)
    shown_name = run.name
    assert names(project, "tag=\"a' OR '1'='1\"") == [shown_name]
    assert names(project, "name~'; DROP TABLE run; --'") == [shown_name]
    assert names(project, "'odd \\'key\\'; --'!=none") == [shown_name]
    assert names(project, "name=x' OR 1=1 --") == []
    assert names(project, "name~%") == []
    assert len(names(project, limit=50)) == len(ALL) + 1


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_run_is_one_line_that_fits_its_terminal(tmp_path: Path, width: int) -> None:
    parent = open_run(tmp_path, stage="check-lengths", config={}, name=HOSTILE)
    open_run(tmp_path, stage="sft", config={}, name=HOSTILE, parent=parent.id).finish(
        "interrupted", HOSTILE
    )
    parent.finish("failed", "日本語 " * 50)
    runs = found((tmp_path, None), tree=True)
    lines = list_lines(runs, (), width, process.now_ms())
    assert len(lines) == 3
    assert all(line.cell_len <= max(width, 70) for line in lines)
    assert all("…" in line.plain for line in lines[1:])
    assert not any(set(line.plain) & set("\x1b\n\u202e") for line in lines)
    assert "└ " in lines[2].plain
    whole = plain(list_lines(runs, (), None, process.now_ms()))
    assert len(whole) == 3
    assert runs[1].row.reason.split()[-1] in whole[2]
    assert not any("…" in line for line in whole)


def started_by(root: Path, parent: str | None, name: str) -> str:
    return create_run(root, stage="sft", name=name, parent=parent)


def test_a_tree_shows_who_started_whom(tmp_path: Path) -> None:
    top = started_by(tmp_path, None, "top")
    first = started_by(tmp_path, top, "first")
    started_by(tmp_path, started_by(tmp_path, first, "deep"), "deeper")
    started_by(tmp_path, first, "other")
    last = started_by(tmp_path, top, "last")
    started_by(tmp_path, last, "only")
    started_by(tmp_path, None, "alone")
    lines = plain(list_lines(found((tmp_path, None), tree=True), (), 120, process.now_ms()))
    drawn = [line[10:].split(" sft ")[0].rstrip() for line in lines[1:]]
    assert drawn == [
        "alone",
        "top",
        "├ first",
        "│ ├ deep",
        "│ │ └ deeper",
        "│ └ other",
        "└ last",
        "  └ only",
    ]


def test_a_tree_may_be_deeper_than_calls_may_nest(tmp_path: Path) -> None:
    run_id: str | None = None
    for number in range(sys.getrecursionlimit() + 10):
        run_id = started_by(tmp_path, run_id, f"n{number}")
    runs = found((tmp_path, None), tree=True)
    assert [run.depth for run in runs] == list(range(sys.getrecursionlimit() + 10))
    assert len(list_lines(runs, (), 80, process.now_ms())) == len(runs) + 1


def test_a_status_has_a_colour(project: tuple[Path, str | None]) -> None:
    lines = list_lines(found(project), (), 80, process.now_ms())
    styles = {
        line.plain[span.start : span.end].strip(): str(span.style)
        for line in lines[1:]
        for span in line.spans
    }
    assert styles["crashed"] == "bold red"
    assert styles["finished"] == "green"
    assert styles["running"] == "cyan"


def test_deleting_the_database_changes_no_answer(tmp_path: Path) -> None:
    training(tmp_path, "a").finish("finished", "x")
    training(tmp_path, "b", rate=0.01).finish("failed", "y")
    journal = events.journal_path(tmp_path, found((tmp_path, None))[0].row.id)
    append_record(journal, {"ts": process.now_ms(), "kind": "note", "text": "look again"})
    project, columns = (tmp_path, None), ("train_loss", "note", "learning_rate")
    before = [run.as_dict() for run in found(project, sort="train_loss", columns=columns)]
    assert before[0]["columns"]["note"] in ("look again", None)
    (tmp_path / "logs/runs.db").unlink()
    again = [run.as_dict() for run in found(project, sort="train_loss", columns=columns)]
    assert again == before
    assert names(project, "note~AGAIN") == ["b"]


value = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-5, 5).map(float)


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(value, min_size=1, max_size=4),
    operator=st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    limit=value,
)
def test_comparisons_are_those_of_python(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], operator: str, limit: float
) -> None:
    """The last, lowest and highest value of a metric, and a knob, against plain Python."""
    import operator as plain_python

    root = tmp_path_factory.mktemp("root")
    run = open_run(root, stage="train", config={"knob": values[0]}, name="one")
    for step, number in enumerate(values):
        run.metric("m", number, step)
    run.finish("finished")
    compare = {
        "=": plain_python.eq,
        "!=": plain_python.ne,
        "<": plain_python.lt,
        "<=": plain_python.le,
        ">": plain_python.gt,
        ">=": plain_python.ge,
    }[operator]
    for key, actual in {
        "m": values[-1],
        "m.min": min(values),
        "m.max": max(values),
        "m.first": values[0],
        "knob": values[0],
    }.items():
        shown = names((root, None), f"{key}{operator}{limit!r}")
        assert shown == (["one"] if compare(actual, limit) else []), (key, actual)


def test_wanted_flags_become_conditions() -> None:
    flags = wanted_of(stage="a=b", status=None, where=["x>1"], sort="-x", reverse=True)
    assert flags.sort == "x"
    assert [(c.key, c.value, c.quoted) for c in flags.where] == [
        ("x", "1", False),
        ("stage", "a=b", True),
    ]
    assert Wanted().limit == 20


@pytest.fixture(params=["sqlite", "postgres"])
def anywhere(request: pytest.FixtureRequest) -> str | None:
    """An empty database; that on the server sorts, and knows letters, as English people do."""
    if request.param == "sqlite":
        return None
    server = locate(Path(), request.getfixturevalue("postgres_url"))
    english = "TEMPLATE template0 ENCODING UTF8 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
    unbound = database.engine(server).execution_options(isolation_level="AUTOCOMMIT")
    with unbound.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE IF EXISTS english")
        try:
            connection.exec_driver_sql(f"CREATE DATABASE english {english} LOCALE 'C.UTF-8'")
        except DBAPIError as problem:
            pytest.skip(f"no server with locales here: {problem.orig}")
    return request.getfixturevalue("postgres_url").replace("/postgres", "/english")


NAMES = ["b", "A", "\u00c9dit", "a", "B", "_", "edit", "\U0001f600", "\uff21"]


def test_texts_are_sorted_and_found_alike_on_both_engines(
    tmp_path: Path, anywhere: str | None
) -> None:
    for name in NAMES:
        run = open_run(
            tmp_path, stage="sft", config={"word": name}, name=name, database_url=anywhere
        )
        for word in (name, "\U0001f9ff"):
            run.tag(word)
        run.finish("finished")
    project = tmp_path, anywhere
    for key in ("name", "tag", "word"):
        assert names(project, sort=key) == sorted(NAMES), key
        assert names(project, sort=f"-{key}") == sorted(NAMES, reverse=True), key
    for part, fits in (("\u00e9D", {"\u00c9dit"}), ("ED", {"edit"}), ("\uff41", {"\uff21"})):
        for key in ("name", "tag", "word"):
            assert set(names(project, f"{key}~{part}")) == fits, (key, part)
    assert names(project, "result~x") == []


def test_several_notes_are_shown_in_the_order_they_were_written(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="train", config={"packing": False}, name="noted")
    run.finish("finished")
    for text in ("zebra first", "apple second"):
        note = {"ts": process.now_ms(), "kind": "note", "text": text}
        append_record(events.journal_path(tmp_path, run.id), note)
    (shown,) = found((tmp_path, None), "note~apple", "packing=False", columns=("note",))
    assert shown.values == {"note": "zebra first | apple second"}
    assert names((tmp_path, None), "packing=true") == []
    assert names((tmp_path, None), "packing='False'") == []
