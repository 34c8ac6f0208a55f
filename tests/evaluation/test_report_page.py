"""The report: self-contained, nothing in it executed or fetched, the same for equal input."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from codetune import artefact
from codetune.evaluation import page, plots, report, tables
from codetune.evaluation.comparison import Comparison, compare
from codetune.evaluation.items import Scored
from codetune.evaluation.metrics import LOSS

EVIL = (
    "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"
    "\x1b[31m\u202eback\x00 ``` | </pre> {{ 7*7 }} {% raw %} &amp; \"quoted' ]]>\x1b]0;"
)


def comparison(text: str = EVIL, *, by: float = -0.2, n: int = 40) -> Comparison:
    """A comparison with `text` wherever a row's own words appear."""

    def row(place: int, loss: float, exact: float) -> Scored:
        return Scored(
            f"{place}-{text}",
            "fim" if place % 2 else "chat",
            f"group-{place // 2}",
            text,
            9,
            {LOSS: loss, "fim_exact_match": exact},
            answer=text,
            expected=text,
            prompt_tail=text,
            remarks=[text],
        )

    base = [row(place, 1 + place / 50, 0.0) for place in range(n)]
    tuned = [row(p, one.scores[LOSS] + by + (p % 5) / 50, p % 2) for p, one in enumerate(base)]
    return compare(base, tuned, settings={"base": text, "adapter": text}, seconds=1.0)


class Tags(HTMLParser):
    """Every start tag with its attributes, and whether tags are balanced."""

    VOID = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(text: str) -> None:
    tags = Tags(text)
    assert tags.open == []
    names = {name for name, _ in tags.seen}
    assert not names & {"script", "img", "link", "iframe", "object", "embed", "a", "form", "base"}
    for _, attributes in tags.seen:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in text


def test_the_page_holds_no_script_no_request_and_no_raw_text_of_rows() -> None:
    text = page.render(comparison(), EVIL)
    check_page(text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "<script" not in text
    assert "{{ 7*7 }}" in text and ">49<" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)


@given(st.text(max_size=60))
@settings(max_examples=25, deadline=None)
def test_any_text_leaves_the_page_whole(text: str) -> None:
    check_page(page.render(comparison(text, n=18), text))


@pytest.mark.parametrize(("by", "verdict"), [(-0.2, "better"), (0.2, "worse")])
def test_the_verdict_stands_first(by: float, verdict: str) -> None:
    found = comparison("plain", by=by)
    text = page.render(found, "a against b")
    assert text.index(f'class="verdict {verdict}"') < text.index("<table>")
    assert f"<h1>{verdict} than its base</h1>" in text
    assert f"from {found.primary.base:.4f} to {found.primary.tuned:.4f}" in text


def test_inconclusive_says_that_it_is_no_proof_and_why() -> None:
    found = comparison("plain", n=8)
    assert found.verdict == "inconclusive"
    text = page.render(found, "a against b")
    assert "no proof either way" in text and "too few to judge" in text


def test_worst_samples_are_shown_as_well_as_the_best() -> None:
    base = comparison("plain").pairs
    mixed = compare(
        [b for b, _ in base],
        [
            Scored(**{**_fields(t), "scores": {LOSS: b.scores[LOSS] + (-1) ** place}})
            for place, (b, t) in enumerate(base)
        ],
    )
    text = page.render(mixed, "a against b")
    assert text.index("Most improved") < text.index("Least improved, or worse")


def _fields(row: Scored) -> dict:
    return {name: getattr(row, name) for name in Scored.__dataclass_fields__}


def test_a_comparison_without_completions_still_makes_a_page() -> None:
    bare = [Scored(f"r{p}", "chat", f"g{p}", "log", 3, {LOSS: 1.0 + p}) for p in range(12)]
    text = page.render(compare(bare, bare), "x")
    check_page(text)
    assert "percentage points" not in text and "Most improved" not in text


def test_markdown_cannot_be_broken_by_rows() -> None:
    text = report.markdown(comparison(), EVIL)
    assert text.startswith("# Better: ")
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.S | re.M)
    assert "script" in outside and not re.search(r"(?<!\\)[<>]", outside.replace("->", ""))
    header = next(line for line in text.splitlines() if line.startswith("|  | base"))
    table = text[text.index(header) :].split("\n\n")[0].splitlines()
    cells = {len(re.split(r"(?<!\\)\|", line)) for line in table}
    assert cells == {9}


@given(st.text(max_size=80))
def test_a_fence_is_longer_than_any_run_of_backticks_inside(text: str) -> None:
    made = report.fenced(text + "````" + text)
    fence = made.split("text\n")[0]
    body = made[len(fence) :].removesuffix(fence)
    assert set(fence) == {"`"} and fence not in body


def test_written_files_verify_and_hold_the_same_verdict(tmp_path: Path) -> None:
    origin = artefact.Origin("compare", 1, "c" * 64, (artefact.Input("eval", "e" * 64),))
    counts = artefact.Counts(kept=40)
    found = comparison("plain")
    files = report.write(found, tmp_path / "report", "a against b", origin, {"rows": counts})
    assert [file.name for file in files] == [
        "compare.json",
        "rows.jsonl",
        "compare.md",
        "compare.html",
    ]
    assert all(artefact.verify(file) is None for file in files)
    assert all(artefact.is_current(file, origin) for file in files)
    assert json.loads(files[0].read_bytes()) == found.as_dict()
    lines = [json.loads(line) for line in files[1].read_bytes().splitlines()]
    assert len(lines) == 40
    assert lines[3]["base"]["id"] == lines[3]["tuned"]["id"] == found.pairs[3][0].id
    assert lines[3]["tuned"]["scores"][LOSS] == found.pairs[3][1].scores[LOSS]


def test_equal_comparisons_give_equal_bytes() -> None:
    assert page.render(comparison(), "x") == page.render(comparison(), "x")
    assert report.markdown(comparison(), "x") == report.markdown(comparison(), "x")


def test_colours_are_for_effects_that_groups_support() -> None:
    clear, few = comparison("plain").metrics[LOSS], comparison("plain", n=8).metrics[LOSS]
    assert tables.side_of(clear) == "good"
    assert tables.side_of(few) == "flat"
    exact = comparison("plain").metrics["fim_exact_match"]
    assert exact.delta > 0 and tables.side_of(exact) == "good"


def test_numbers_are_written_for_people() -> None:
    exact = comparison("plain").metrics["fim_exact_match"]
    assert tables.difference(exact) == "+50.0 pp"
    assert tables.value("share", 0.5) == "50.0 %"
    assert tables.value("", 12345.678) == "12,345.7"
    assert tables.interval(comparison("plain", n=2).metrics[LOSS]) == "-"


@pytest.mark.parametrize(
    "values", [[], [0.0], [0.0, 0.0], [-1.0], [5.0, -3.0, 0.0], [1e-9, 2e-9], [1e6, -1e6]]
)
def test_plots_stand_any_values(values: list[float]) -> None:
    points = [(f"row {place}", 1.0, 1.0 + value) for place, value in enumerate(values)]
    drawn: list[Markup] = [plots.waterfall([(n, t - b) for n, b, t in points], "nats")]
    if points:
        drawn.append(plots.scatter(points, "nats"))
        rows = [plots.ForestRow("a", "n", v, v - 1, v + 1, None) for v in values]
        drawn.append(plots.forest(rows, "nats", "left"))
    for svg in drawn:
        assert Tags(str(svg)).open == []
        assert "nan" not in svg and "inf" not in svg


def test_a_bar_is_drawn_for_every_row_and_says_whose_it_is() -> None:
    drawn = plots.waterfall([("<row>", -0.5), ("b", 0.25), ("c", 0.0)], "nats")
    assert drawn.count("<rect") == 3
    assert "<title>&lt;row&gt;: -0.5000</title>" in drawn
    assert "1 of 3 rows improved" in drawn
