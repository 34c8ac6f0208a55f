"""Nothing that a log or a model says can act on the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune import console


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]52;c;aGVsbG8=\x07after", "after"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("bell\x07 nul\x00 cr\r del\x7f", "bell nul cr del"),
        ("c1\x9b31m", "c131m"),
        ("\u202eright-to-left", "right-to-left"),
        ("[/bold] [red]", "[/bold] [red]"),
    ],
)
def test_clean(raw: str, shown: str) -> None:
    assert console.clean(raw) == shown


@given(st.text())
def test_clean_leaves_no_control_character(text: str) -> None:
    found = console.clean(text)
    assert not [c for c in found if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160]
    assert console.clean(found) == found


def test_markup_is_never_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("[/bold] broken [red]markup")
    console.draw(console.table("[t]", ["a[b]"], [["[/x]"]]))
    shown = capsys.readouterr().err
    assert "[/bold] broken [red]markup" in shown
    assert "[/x]" in shown and "a[b]" in shown


def test_people_read_stderr_and_machines_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("one")
    console.warn("two")
    console.fail("three")
    console.emit('{"x": 1}')
    found = capsys.readouterr()
    assert found.out == '{"x": 1}\n'
    assert found.err.splitlines() == ["one", "warning: two", "error: three"]


def test_table_as_dicts() -> None:
    made = console.table("t", ["a", "b"], [[1, "x\x1b[0m"], [2, "y"]])
    assert made.as_dicts() == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]


def test_progress_says_a_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress("rows", 10) as bar:
        for _ in range(10):
            bar.advance()
    assert bar.done == 10
    assert capsys.readouterr().err.splitlines() == [
        "rows: 3 of 10",
        "rows: 6 of 10",
        "rows: 9 of 10",
    ]


def test_what_is_said_is_copied_without_bars_and_texts_of_samples(
    capsys: pytest.CaptureFixture[str],
) -> None:
    copies: list[tuple[str, str]] = []
    with console.copied_to(lambda level, text: copies.append((level, text))):
        console.say("plain \x1b[31mred")
        console.warn("mind")
        console.fail("stop")
        console.bug("Traceback: token abc", kept="Traceback: token <SECRET_1>")
        console.quote("text of a row")
        console.draw(console.table("kept", ["a"], [["cell"]]))
        console.draw(console.table("not kept", ["a"], [["text of a row"]], quoted=True))
        console.show(console.table("answer", ["a"], [["b"]]))
    console.say("afterwards")
    assert copies[:4] == [
        ("info", "plain red"),
        ("warning", "mind"),
        ("error", "stop"),
        ("error", "Traceback: token <SECRET_1>"),
    ]
    assert [level for level, _ in copies[4:]] == ["info"]
    assert "cell" in copies[4][1]
    said = capsys.readouterr()
    assert "text of a row" in said.err and "token abc" in said.err and "afterwards" in said.err
    assert "answer" in said.out and "answer" not in said.err


def test_a_row_stays_on_one_line_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console.show(console.table("", ["name", "what"], [["x" * 90, "y" * 90]]))
    console.line("z" * 200)
    lines = capsys.readouterr().out.splitlines()
    assert any("x" * 90 in line and "y" * 90 in line for line in lines)
    assert "z" * 200 in lines
