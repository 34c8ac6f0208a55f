"""The language of `--where`: what is a condition, and what its values mean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.errors import UserError
from codetune.runlog.reading.filters import Condition, Span, moment, number, parsed, seconds


def test_truth_values_and_none_are_known_in_any_case() -> None:
    assert parsed("packing=False").as_recorded.value == "false"
    assert parsed("packing=TRUE").as_recorded.value == "true"
    assert parsed("packing='False'").as_recorded.value == "False"
    assert parsed("name=Falsehood").as_recorded.value == "Falsehood"
    assert parsed("warmup=None").is_none and not parsed("warmup='None'").is_none


OPERATORS = ["=", "!=", "<", "<=", ">", ">=", "~"]
NOW = 1_800_000_000_000


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A time zone with summer time, five or four hours behind UTC."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("eval_loss<1.2", Condition("eval_loss", "<", "1.2")),
        (" eval_loss  <=  1.2 ", Condition("eval_loss", "<=", "1.2")),
        ("seed==42", Condition("seed", "=", "42")),
        ("status!=up to date", Condition("status", "!=", "up to date")),
        ("status = 'up to date'", Condition("status", "=", "up to date", quoted=True)),
        ('name="a \\"b\\" \\\\"', Condition("name", "=", 'a "b" \\', quoted=True)),
        ("name=''", Condition("name", "=", "", quoted=True)),
        ("name~a=b", Condition("name", "~", "a=b")),
        ("param.lora.r>=8", Condition("param.lora.r", ">=", "8")),
        ("'odd <key>'=1", Condition("odd <key>", "=", "1")),
        ("two words=1", Condition("two words", "=", "1")),
        ("name=it's", Condition("name", "=", "it's")),
        ("name~a\nb", Condition("name", "~", "a\nb")),
    ],
)
def test_conditions(text: str, condition: Condition) -> None:
    assert parsed(text) == condition


@pytest.mark.parametrize(
    "text",
    ["", " ", "loss", "loss<", "<1", "=", "loss 1", "name='a", "name='a' b", "name='a'b'", "!x=1"],
)
def test_what_is_no_condition_is_said_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match="KEY OPERATOR VALUE") as refused:
        parsed(text)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


def spelled(text: str, quote: str) -> str:
    kept = text.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return f"{quote}{kept}{quote}"


@given(st.text(), st.sampled_from(OPERATORS), st.text(), st.sampled_from("'\""))
def test_any_key_and_value_can_be_written_in_quotes(
    key: str, operator: str, value: str, quote: str
) -> None:
    text = f"{spelled(key, quote)} {operator}{spelled(value, quote)}"
    assert parsed(text) == Condition(key, operator, value, quoted=True)


plain = st.text(st.characters(exclude_characters="=!<>~\"'", exclude_categories=["C", "Z"]))


@given(plain.filter(bool), st.sampled_from(OPERATORS), plain.filter(bool))
def test_plain_words_need_no_quotes(key: str, operator: str, value: str) -> None:
    assert parsed(key + operator + value) == Condition(key, operator, value)


@given(st.text())
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        found = parsed(text)
    except UserError:
        return
    assert found.operator in OPERATORS
    assert text.strip()[0] in (found.key[:1], "'", '"')


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert parsed("name=\udcff").value == "?"


def test_none_is_a_word_only_without_quotes() -> None:
    assert parsed("seed=none").is_none
    assert not parsed("seed='none'").is_none


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_python_writes_them(value: float) -> None:
    assert number(repr(value)) == value
    assert number(f"{value:.17g}") == value


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "1_000", "0x1", "", "1 2", "١"])
def test_what_is_no_number(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("1.5 m", 90.0),
        ("2h", 7200.0),
        ("7d", 604_800.0),
        ("1w", 7 * 86_400.0),
    ],
)
def test_lengths_of_time(text: str, length: float) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["h", "2y", "-2h", "two", "2026-11-01"])
def test_what_is_no_length_of_time(text: str) -> None:
    assert seconds(text) is None


def test_an_age_is_the_moment_so_long_ago() -> None:
    assert moment("12h", NOW) == Span(NOW - 12 * 3_600_000, NOW - 12 * 3_600_000 + 1)


def test_an_age_beyond_all_time_is_its_beginning() -> None:
    for age in ("99999999w", "9" * 400 + "d"):
        assert moment(age, NOW) == Span(0, 1)


def test_a_date_is_a_whole_day_where_the_reader_is(new_york: None) -> None:
    found = moment("2026-07-04", NOW)
    assert found == Span(1_783_137_600_000, 1_783_137_600_000 + 86_400_000)
    assert datetime.fromtimestamp(found.start / 1000).isoformat() == "2026-07-04T00:00:00"


def test_a_day_on_which_the_clock_changes_is_longer(new_york: None) -> None:
    found = moment("2026-11-01", NOW)
    assert found is not None
    assert found.end - found.start == 25 * 3_600_000


@pytest.mark.parametrize("text", ["2026-11-01 12:30", "2026-11-01T12:30", "2026-11-01 12:30:00"])
def test_a_time_is_its_minute_or_second(text: str) -> None:
    found = moment(text, NOW)
    assert found is not None
    assert found.end - found.start == (1000 if text.count(":") == 2 else 60_000)
    assert datetime.fromtimestamp(found.start / 1000).isoformat() == "2026-11-01T12:30:00"


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-02-30", "11", "9999-12-31x"])
def test_what_is_no_moment(text: str) -> None:
    assert moment(text, NOW) is None


@given(st.text() | st.from_regex(r"\d{4}-\d{2}-\d{2}", fullmatch=True))
def test_no_text_breaks_the_calendar(text: str) -> None:
    found = moment(text, NOW)
    assert found is None or found.start < found.end
