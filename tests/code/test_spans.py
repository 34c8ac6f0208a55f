"""Spans: on syntax borders, apart, of the right size, and the same wherever they are chosen."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.code import spans
from codetune.code.spans import Plan, choose, cuts_word

SOURCE = Path(spans.__file__).read_bytes()
MANY = Plan(per_file=64, bytes_per_span=64, min_bytes=8)


def pieces(source: bytes, plan: Plan = MANY, key: str = "k") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for span in choose(source, plan, key) or ():
        found.setdefault(span.kind, []).append(source[span.start : span.end].decode())
    return found


def over_many_keys(source: bytes, plan: Plan, n: int = 60) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for number in range(n):
        for kind, texts in pieces(source, plan, f"key {number}").items():
            found.setdefault(kind, set()).update(texts)
    return found


EXAMPLE = b'''import os

@cached
def total(items, tax):
    """Adds up all of the items."""
    summed = sum(item.price for item in items)
    if tax:
        summed = summed * (1 + tax)
    return round(summed, ndigits=2)

class Basket:
    limit = 100
    owner = "someone"
'''


def test_each_kind_is_what_its_name_says():
    found = over_many_keys(EXAMPLE, Plan(8, 8, 800, 0.3, 32))
    body = EXAMPLE.decode().split("    ", 1)[1].split("\n\nclass")[0]
    assert found["function_body"] == {body}
    assert found["block"] == {"summed = summed * (1 + tax)", 'limit = 100\n    owner = "someone"'}
    assert "return round(summed, ndigits=2)" in found["statement"]
    assert any(text.startswith("@cached\ndef total") for text in found["statement"])
    assert any(text.startswith("class Basket") for text in found["statement"])
    assert "items, tax" not in found["arguments"]  # of calls, not of definitions
    assert "summed, ndigits=2" in found["arguments"]
    assert "summed * (1 + tax)" in found["expression"]
    assert all("\n" not in text for text in found["line_rest"])
    assert any(text.count("\n") >= 2 for text in found["lines"])


def test_a_docstring_alone_is_no_statement():
    found = over_many_keys(EXAMPLE, Plan(8, 8, 800, 0.0, 32))
    assert '"""Adds up all of the items."""' not in found["statement"]


def test_without_line_share_there_are_no_lines_and_with_all_only_lines():
    assert not {"lines", "line_rest"} & pieces(SOURCE, Plan(64, 32, 800, 0.0, 64)).keys()
    assert pieces(SOURCE, Plan(64, 32, 800, 1.0, 64)).keys() == {"lines", "line_rest"}


def test_the_shares_are_about_those_of_the_plan():
    kinds: Counter[str] = Counter()
    for number in range(120):
        chosen = choose(SOURCE, Plan(), f"key {number}") or []
        kinds.update(span.kind for span in chosen)
    of_lines = (kinds["lines"] + kinds["line_rest"]) / kinds.total()
    assert 0.18 < of_lines < 0.32
    assert min(kinds.values()) > 5 and len(kinds) == 7


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_spans_start_at_a_word_and_end_before_the_line_end(newline):
    source = EXAMPLE.replace(b"\n", newline.encode())
    for texts in over_many_keys(source, Plan(8, 8, 800, 1.0, 32)).values():
        for text in texts:
            assert text == text.strip()


@pytest.mark.parametrize(
    ("size", "plan", "most"),
    [(10, Plan(), 1), (3_000, Plan(), 1), (4_200, Plan(), 2), (10**6, Plan(per_file=3), 3)],
)
def test_the_number_of_spans_follows_the_size_of_the_file(size, plan, most):
    line = b"result = compute_something(first_argument, second_argument)\n"
    source = (line * (1 + size // len(line)))[:size].rsplit(b"\n", 1)[0]
    chosen = choose(source, plan, "k") or []
    assert len(chosen) <= most
    assert len(chosen) == most or size < 100


def test_a_file_that_does_not_parse_has_no_spans():
    assert choose(b"def broken(:\n    return 1\n" * 20, Plan(), "k") is None
    assert choose(b"print 'python 2', ((\n" * 20, Plan(), "k") is None


def test_the_choice_depends_on_the_key_alone_and_differs_between_keys():
    assert choose(SOURCE, Plan(), "a") == choose(SOURCE, Plan(), "a")
    assert choose(SOURCE, Plan(), "a") != choose(SOURCE, Plan(), "b")


def test_fewer_spans_are_the_first_of_more():
    few = choose(SOURCE, Plan(per_file=2, bytes_per_span=512), "k") or []
    many = choose(SOURCE, Plan(per_file=4, bytes_per_span=512), "k") or []
    assert len(few) == 2 and len(many) == 4
    assert set(few) <= set(many)


@pytest.mark.parametrize(
    ("text", "offset", "cuts"),
    [
        ("name", 2, True),
        ("name", 0, False),
        ("name", 4, False),
        ("a.b", 1, False),
        ("a b", 1, False),
        ("x1", 1, True),
        ("_a", 1, True),
        ("é", 1, True),
        ("é=", 2, False),
        ("", 0, False),
    ],
)
def test_cuts_word(text, offset, cuts):
    assert cuts_word(text.encode(), offset) is cuts


def in_word(letter: str) -> bool:
    return f"x{letter}".isidentifier()


def check_all(source: bytes, plan: Plan, key: str) -> None:
    """What must hold of every choice, whatever the file."""
    chosen = choose(source, plan, key)
    if chosen is None:
        return
    assert len(chosen) <= plan.per_file
    position = 0
    for span in chosen:
        middle = source[span.start : span.end]
        assert position <= span.start < span.end <= len(source)
        assert plan.min_bytes <= len(middle) <= plan.max_bytes
        assert middle.decode().strip()
        for offset in (span.start, span.end):
            before, after = source[:offset].decode(), source[offset:].decode()
            assert not (before and after and in_word(before[-1]) and in_word(after[0]))
        position = span.end


NAMES = st.sampled_from(["x", "größe", "名", "π_2", "_private", "limit", "ſ"])
EXPRESSIONS = st.recursive(
    st.one_of(NAMES, st.integers(0, 999).map(str), st.text(max_size=8).map(ascii)),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("{0[0]} + {0[1]}".format),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"call({', '.join(parts)})"),
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
    ),
    max_leaves=6,
)
STATEMENTS = st.recursive(
    st.one_of(
        st.tuples(NAMES, EXPRESSIONS).map("{0[0]} = {0[1]}".format),
        EXPRESSIONS.map("return {}".format),
        st.text("abc é漢\t#'\"", max_size=12).map("# {}".format),
    ),
    lambda inner: st.tuples(EXPRESSIONS, st.lists(inner, min_size=1, max_size=3)).map(
        lambda made: f"if {made[0]}:\n" + "\n".join(indented(part) for part in made[1] + ["pass"])
    ),
    max_leaves=8,
)


def indented(text: str) -> str:
    return "\n".join("\t" + line for line in text.split("\n"))


@st.composite
def modules(draw) -> bytes:
    parts = draw(st.lists(STATEMENTS, min_size=1, max_size=8))
    text = "\n".join(f"def f{n}():\n{indented(part)}\n\tpass" for n, part in enumerate(parts))
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    text += draw(st.sampled_from(["", "\n", "\r\n", "\n\n", " "]))
    return draw(st.sampled_from(["", "\ufeff"])).encode() + text.encode()


@given(modules(), st.integers(1, 20), st.integers(1, 60), st.sampled_from([0.0, 0.3, 1.0]))
def test_what_holds_of_every_choice(source, min_bytes, more, line_share):
    check_all(source, Plan(8, min_bytes, min_bytes + more, line_share, 64), "key")


@given(modules())
def test_made_modules_are_python_and_give_spans(source):
    ast.parse(source)
    assert choose(source, Plan(8, 4, 400, 0.5, 64), "key")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_no_content_makes_it_fail(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    check_all(data, Plan(8, 1, 400, 0.5, 16), "key")


def test_real_files():
    for path in sorted(Path(ast.__file__).parent.glob("*.py"))[:60]:
        check_all(path.read_bytes(), Plan(), path.name)


def test_a_deeply_nested_file_is_no_trouble():
    source = b"x = " + b"(" * 5_000 + b"1" + b")" * 5_000 + b"\n"
    choose(source, Plan(), "k")
