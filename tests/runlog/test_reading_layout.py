"""Tables that fit a terminal, and are whole in a pipe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from codetune.runlog.reading.layout import Column, drawn, facts, one_line, status_style


def plain(columns: list[Column], rows: list[list[str]], width: int | None) -> list[str]:
    return [line.plain for line in drawn(columns, rows, width)]


def test_columns_stand_below_each_other_and_numbers_to_the_right() -> None:
    columns = [Column("name"), Column("n", right=True), Column("what")]
    shown = plain(columns, [["a", "1", "x"], ["long name", "20", "y"]], None)
    assert shown == ["name        n  what", "a           1  x", "long name  20  y"]


def test_without_names_there_is_no_header() -> None:
    assert plain([Column(""), Column("")], [["a", "b"]], None) == ["a  b"]


def test_what_is_too_wide_is_cut_with_an_ellipsis_on_a_terminal_only() -> None:
    columns = [Column("id"), Column("result", cut=True)]
    rows = [["1", "0123456789" * 5]]
    assert plain(columns, rows, 20)[1] == "1   " + "0123456789" + "01234" + "…"
    assert plain(columns, rows, None)[1] == "1   " + "0123456789" * 5


def test_what_is_too_wide_is_folded_at_blanks() -> None:
    columns = [Column("key"), Column("value", fold=True)]
    shown = plain(columns, [["k", "some words that do not fit"], ["l", "short"]], 20)
    assert shown == ["key  value", "k    some words that", "     do not fit", "l    short"]


def test_a_word_without_blanks_is_folded_anywhere() -> None:
    assert plain([Column("k", fold=True)], [["a" * 25]], 10) == ["k", "a" * 10, "a" * 10, "a" * 5]


def test_a_word_that_fits_a_line_is_not_broken() -> None:
    shown = plain([Column("k", fold=True)], [["ab abcdefghi x"]], 10)
    assert shown == ["k", "ab", "abcdefghi", "x"]
    shown = plain([Column("k", fold=True)], [["q_proj,k_proj,v_proj,o_proj"]], 16)
    assert shown == ["k", "q_proj,k_proj,", "v_proj,o_proj"]


def test_spare_columns_are_left_out_before_anything_is_shortened() -> None:
    columns = [Column("name", fold=True), Column("a", spare=1), Column("b", spare=2)]
    row = [["long name", "1111", "2222"]]
    assert plain(columns, row, 21)[1] == "long name  1111  2222"
    assert plain(columns, row, 20)[1] == "long name  1111"
    assert plain(columns, row, 14) == ["name", "long name"]
    assert plain(columns, row, None)[1] == "long name  1111  2222"


def test_a_cell_of_thousands_of_characters_does_not_fill_the_screen() -> None:
    shown = plain([Column("k", fold=True)], [["a" * 4000]], 40)
    assert len(shown) == 11
    assert shown[-1] == "… (--json: all)"
    assert plain([Column("k", fold=True)], [["a" * 4000]], None) == ["k", "a" * 4000]


def test_one_long_cell_does_not_pad_the_others_in_a_pipe() -> None:
    shown = plain([Column("a"), Column("b")], [["x" * 4000, "1"], ["y", "2"]], None)
    assert shown[1] == f"{'x' * 4000}  1"
    assert shown[2] == "y  2"


def test_narrow_columns_stay_whole_while_wide_ones_give_way() -> None:
    columns = [Column("a", cut=True), Column("b", cut=True)]
    assert plain(columns, [["short", "l" * 100]], 40)[1] == f"short  {'l' * 32}…"


def test_a_column_may_be_held_narrow_for_the_sake_of_others() -> None:
    columns = [Column("a", cut=True, most=6), Column("b", cut=True)]
    assert plain(columns, [["long enough", "l" * 10]], 40)[1] == f"long …  {'l' * 10}"
    assert plain(columns, [["long enough", "l" * 10]], None)[1] == f"long enough  {'l' * 10}"


def test_wide_characters_count_twice() -> None:
    shown = plain([Column("a", cut=True), Column("b")], [["日本語" * 10, "1"]], 20)
    assert cell_len(shown[1]) <= 20
    assert shown[1].endswith("…  1") or shown[1].endswith("…   1")


def test_facts_are_pairs_that_fold_below_themselves() -> None:
    shown = [line.plain for line in facts([("a", "1"), ("name", "x " * 20)], 24, indent=2)]
    assert shown[0] == "  a     1"
    assert shown[1].startswith("  name  x x")
    assert shown[2].startswith("        x x")


def test_text_becomes_one_harmless_line() -> None:
    assert one_line("\x1b[2J a\n\tb\u202e [bold]\r") == "a b [bold]"


@pytest.mark.parametrize(
    ("status", "style"), [("failed", "red"), ("failed: why", "red"), ("not a status", "")]
)
def test_a_status_has_a_colour_with_or_without_its_reason(status: str, style: str) -> None:
    assert status_style(status) == style


cell = st.text(max_size=60)


@given(
    rows=st.lists(st.tuples(cell, cell, cell), max_size=6),
    width=st.none() | st.integers(1, 100),
    kinds=st.tuples(*[st.sampled_from(["cut", "fold", ""])] * 2),
)
def test_any_text_is_drawn_within_its_width(
    rows: list[tuple[str, str, str]], width: int | None, kinds: tuple[str, str]
) -> None:
    columns = [
        Column("one", cut=kinds[0] == "cut", fold=kinds[0] == "fold"),
        Column("two", cut=kinds[1] == "cut", fold=kinds[1] == "fold"),
        Column("three", cut=True),
    ]
    lines = drawn(columns, rows, width)
    hard = sum(
        max(cell_len(text) for text in ["three", *(one_line(row[n]) for row in rows)])
        for n in (0, 1)
        if not kinds[n]
    )
    if width is None:
        assert len(lines) == len(rows) + 1
    else:
        assert all(line.cell_len <= max(width, hard + 3 * 8 + 4) for line in lines)
    assert not any(set(line.plain) & set("\n\r\x1b") for line in lines)


@given(st.text(min_size=1, max_size=200), st.integers(8, 40))
def test_folding_loses_nothing_but_blanks(text: str, width: int) -> None:
    shown = plain([Column("", fold=True)], [[text]], width)
    if not shown[-1].startswith("…"):
        assert "".join(shown).replace(" ", "") == one_line(text).replace(" ", "")
