"""Exports: the record, every point, and a page that asks nobody for anything."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from codetune.errors import UserError
from codetune.runlog import Run, open_run
from codetune.runlog.keeping import verbs
from codetune.runlog.keeping.verbs import Place
from codetune.runlog.local import run_ids
from codetune.runlog.reading import export, queries
from codetune.runlog.reading.details import details_of
from codetune.runlog.reading.export_chart import chart
from codetune.runlog.reading.points import Bucket
from codetune.runlog.reading.record import as_record
from tests.runlog.example_runs import HOSTILE, training


def exported(root: Path, to: str, *names: str) -> str:
    with queries.reading(root) as connection:
        ids = export.chosen(connection, names, run_ids(root))
        return "\n".join(export.pieces(connection, root, ids, to))


@pytest.fixture
def three(tmp_path: Path) -> list[Run]:
    runs = [training(tmp_path, f"run{n}", rate=0.001 * (n + 1)) for n in range(3)]
    for run in runs:
        run.finish("finished", "as planned")
    return runs


def test_json_is_what_show_gives(tmp_path: Path, three: list[Run]) -> None:
    found = json.loads(exported(tmp_path, "json"))
    with queries.reading(tmp_path) as connection:
        wanted = [as_record(details_of(connection, run.id), tmp_path) for run in three]
    assert found == json.loads(json.dumps(wanted))
    (one,) = json.loads(exported(tmp_path, "json", "run1"))
    assert one["id"] == three[1].id
    assert len(json.loads(exported(tmp_path, "json", "run1", "run1", three[1].id))) == 1


def test_csv_holds_every_point_in_long_form(tmp_path: Path, three: list[Run]) -> None:
    three[0] = training(tmp_path, 'a "quoted", name\nx', losses=(3.0, float("nan"), 1 / 3))
    three[0].finish("finished")
    lines = list(csv.DictReader(io.StringIO(exported(tmp_path, "csv"))))
    assert tuple(lines[0]) == export.COLUMNS
    mine = [line for line in lines if line["run"] == three[0].id and line["key"] == "train_loss"]
    assert [(p["step"], p["value"], p["unit"]) for p in mine] == [
        ("0", "3.0", "nats/token"), ("1", "", "nats/token"), ("2", repr(1 / 3), "nats/token"),
    ]  # fmt: skip
    assert mine[0]["name"].startswith('a "quoted", name')
    assert len(lines) == 4 * 7  # three losses, three shares and one speed of each run
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", line["time"]) for line in lines)


def test_nothing_recorded_is_an_empty_export(tmp_path: Path) -> None:
    open_run(tmp_path, stage="sft", config={}).finish("finished")
    assert exported(tmp_path, "csv") == ",".join(export.COLUMNS)
    with queries.reading(tmp_path) as connection:
        assert json.loads("\n".join(export.pieces(connection, tmp_path, [], "json"))) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, three: list[Run]) -> None:
    at, out = Place(tmp_path, None), tmp_path / "new folder" / "points.csv"
    told = verbs.export_to(at, [], "csv", out)
    assert told is not None and told.data["runs"] == 3
    assert out.stat().st_size == told.data["bytes"]
    assert out.read_text() == exported(tmp_path, "csv") + "\n"
    with pytest.raises(UserError, match="no run is called"):
        verbs.export_to(at, ["nobody"], "csv", out)
    assert out.read_text() == exported(tmp_path, "csv") + "\n"

    def breaking():
        yield "half"
        raise UserError("the database went away")

    with pytest.raises(UserError, match="went away"):
        export.write(tmp_path / "half.csv", breaking())
    assert not list(tmp_path.glob("*half*"))


def test_a_page_needs_a_file_and_at_most_eight_runs(tmp_path: Path, three: list[Run]) -> None:
    at = Place(tmp_path, None)
    with pytest.raises(UserError, match="--out: a page needs a file"):
        verbs.export_to(at, ["run0"], "html", None)
    for n in range(6):
        training(tmp_path, f"more{n}").finish("finished")
    with pytest.raises(UserError, match="a page shows 1 to 8 runs, not 9"):
        verbs.export_to(at, [], "html", tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


class Page(HTMLParser):
    """What a browser would see: tags in balance, texts, and everything that asks for more."""

    VOID = {"meta", "br", "line", "polygon"}

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "action", "data", "style")]
        assert not [k for k, _ in attrs if k.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("names", [["run1"], ["run0", "run2"], []])
def test_a_page_of_one_run_or_of_several(
    tmp_path: Path, three: list[Run], names: list[str]
) -> None:
    verbs.note(Place(tmp_path, None), "run1", "a <script>note</script>")
    source = exported(tmp_path, "html", *names)
    page = Page(source)
    shown = names or ["run0", "run1", "run2"]
    for name in shown:
        assert name in page.text
    assert page.seen.count("svg") == 2  # train_loss and exact
    assert page.seen.count("polyline") == 2 * len(shown)
    assert "as planned" in page.text and "learning_rate" in page.text
    assert [link for link in page.links if link != "margin-top:0"] == []
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(page.seen)
    assert "http" not in re.sub(r"http-equiv", "", source)
    assert "default-src 'none'" in source
    assert ("side by side" in page.text) == (len(shown) > 1)
    assert ("a <script>note</script>" in page.text) == ("run1" in shown)


def test_hostile_names_notes_and_knobs_are_text(tmp_path: Path) -> None:
    evil = HOSTILE[:300] + '</svg><script>alert(1)</script>"><img src=x onerror=y>{{ 7*7 }}'
    run = open_run(tmp_path, stage="train", name=evil, config={"prompt": evil}, argv=[evil],
                   differences={"prompt": {"default": "", "value": evil}})  # fmt: skip
    for step in range(3):
        run.metric("loss " + evil[:200], step, step)
    run.event("odd", text=evil)
    run.tag("<b>tag</b>")
    run.finish("failed", evil)
    page = Page(exported(tmp_path, "html"))
    assert not {"script", "img", "b"} & set(page.seen)
    assert "<b>tag</b>" in page.text and "{{ 7*7 }}" in page.text
    source = exported(tmp_path, "html")
    assert "\x1b" not in source and "\u202e" not in source


def test_numbers_that_plots_trip_over(tmp_path: Path) -> None:
    largest = [1.7e308, -1.7e308, 1.7e308]
    for name, values in {
        "flat": [0.0, 0.0], "tiny": [1e-300, 2e-300], "huge": largest, "one": [1.0],
        "holes": [math.nan, 1.0, math.inf, 2.0], "none": [math.nan, math.inf],
    }.items():  # fmt: skip
        run = open_run(tmp_path, stage="train", name=name, config={})
        for step, value in enumerate(values):
            run.metric("loss", value, step * 10**15)
        run.finish("finished")
    page = Page(exported(tmp_path, "html"))
    assert page.seen.count("polyline") == 4  # two finite points make a curve


def test_a_chart_is_well_formed_and_inside_its_frame() -> None:
    curve = tuple(Bucket(n, n - 1.0, float(n), n + 2.0) for n in range(50))
    root = ElementTree.fromstring(chart("a & b", {"<x>": curve, "y": curve[:2]}, ["y", "<x>"]))
    lines = [child for child in root if child.tag == "polyline"]
    assert [line.get("class") for line in lines] == ["curve c1", "curve c0"]
    assert lines[0][0].text == "<x>"
    assert len([child for child in root if child.tag == "polygon"]) == 2
    for shape in root.iter():
        for pair in (shape.get("points") or "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 940 and 0 <= y <= 300


def test_one_point_is_a_marker_and_no_axis_falls_below_zero() -> None:
    one, line = (Bucket(5, 0.5, 0.5, 0.5),), (Bucket(0, 0.0, 0.0, 0.0), Bucket(9, 2.0, 2.0, 2.0))
    root = ElementTree.fromstring(chart("loss", {"a": one, "b": line}, ["a", "b"]))
    (dot,) = [child for child in root if child.tag == "circle"]
    assert (dot.get("class"), dot[0].text) == ("dot c0", "a")
    assert 64 < float(dot.get("cx") or 0) < 928 and 10 < float(dot.get("cy") or 0) < 266
    assert lowest(root) == 0.0
    below = tuple(Bucket(n, -n, -n, -n) for n in (0, 1))
    assert lowest(ElementTree.fromstring(chart("x", {"a": below}, ["a"]))) < -1
    flat = ElementTree.fromstring(chart("x", {"a": (Bucket(3, 0.0, 0.0, 0.0),)}, ["a"]))
    assert lowest(flat) == 0.0
    assert [e.get("cx") for e in flat if e.tag == "circle"] == ["496.0"]
    far = chart("x", {"a": (Bucket(2**62, 1.0, 1.0, 1.0),)}, ["a"])
    assert 'cx="496.0"' in far and "step 4,611,686,018,427,387,904" in far


def lowest(root: ElementTree.Element) -> float:
    """The least value at an axis."""
    labels = [e.text or "" for e in root if e.get("text-anchor") == "end" and e.get("x") == "56.0"]
    return min(map(float, labels))


def test_a_run_that_evaluated_once_is_drawn_beside_others(tmp_path: Path) -> None:
    for name, losses in (("once", [1.0]), ("often", [2.0, 1.0]), ("thrice", [3, 2, 1])):
        run = open_run(tmp_path, stage="train", name=name, config={})
        for step, loss in enumerate(losses):
            run.metric("eval_loss", loss, step)
        run.metric("speed", 5.0)
        run.finish("finished")
    page = Page(exported(tmp_path, "html"))
    assert [page.seen.count(tag) for tag in ("svg", "circle", "polyline")] == [1, 1, 2]
    assert Page(exported(tmp_path, "html", "once")).seen.count("circle") == 1


def test_four_cards_stand_two_by_two(tmp_path: Path, three: list[Run]) -> None:
    training(tmp_path, "run3").finish("finished")
    assert '<div class="heads n4">' in exported(tmp_path, "html")
    assert ".heads.n4 {" in exported(tmp_path, "html")


def test_many_files_and_metrics_are_cut_aloud(tmp_path: Path) -> None:
    from codetune.artefact import Input

    run = open_run(tmp_path, stage="claude2sft", config={})
    for n in range(200):
        run.input(Input(f"s/{n}.jsonl", f"{n:064}"), "session")
    for n in range(30):
        for step in range(2):
            run.metric(f"m{n}", step, step)
    run.finish("finished")
    page = Page(exported(tmp_path, "html"))
    assert "140 more; the JSON export holds them." in page.text
    assert "18 more metrics have curves" in page.text
    assert page.seen.count("svg") == 12


@pytest.mark.slow
def test_a_long_run_as_csv_in_little_memory(tmp_path: Path) -> None:
    """Every point of a long run, a few thousand in memory at a time."""
    import tracemalloc

    run = open_run(tmp_path, stage="train", config={})
    for step in range(60_000):
        run.metric("loss", step * 0.5, step)
    run.finish("finished")
    with queries.reading(tmp_path) as connection:
        started = time.process_time()
        tracemalloc.start()
        lines = sum(
            piece.count("\n") + 1 for piece in export.pieces(connection, tmp_path, [run.id], "csv")
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert lines == 60_001
    assert peak < 20 << 20, peak
    assert time.process_time() - started < 30
