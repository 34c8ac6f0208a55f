"""Which files are left out, and that each has exactly one reason."""

import pytest

from codetune.code.selection import (
    HEAD_RULES,
    PATH_RULES,
    Limits,
    head,
    reason_by_content,
    reason_by_listing,
)
from codetune.code.tree import Entry

LIMITS = Limits()
LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
FINE = b"def add(left, right):\n    return left + right\n\n\n" * 8


def entry(path: str = "a.py", kind: str = "file", size: int = 1_000) -> Entry:
    return Entry(path, kind, size, "b10b")


def examples(rules, side):
    return [
        pytest.param(rule, text, id=f"{rule.reason}-{number}")
        for rule in rules
        for number, text in enumerate(getattr(rule, side))
    ]


@pytest.mark.parametrize(("rule", "text"), examples(PATH_RULES, "hits"))
def test_path_rules_find_their_examples(rule, text):
    assert rule.pattern.search(text)
    assert reason_by_listing(entry(text), LIMITS) == rule.reason


@pytest.mark.parametrize(("rule", "text"), examples(PATH_RULES, "misses"))
def test_path_rules_leave_their_counterexamples(rule, text):
    assert reason_by_listing(entry(text), LIMITS) is None


@pytest.mark.parametrize(("rule", "text"), examples(HEAD_RULES, "hits"))
def test_head_rules_find_their_examples(rule, text):
    assert reason_by_content(text.encode() + FINE, LIMITS) == rule.reason


@pytest.mark.parametrize(("rule", "text"), examples(HEAD_RULES, "misses"))
def test_head_rules_leave_their_counterexamples(rule, text):
    assert reason_by_content(text.encode() + FINE, LIMITS) is None


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (entry(kind="symlink"), "symlink"),
        (entry(kind="submodule"), "submodule"),
        (entry(kind="special"), "special"),
        (entry(kind="bad_name"), "bad_name"),
        (entry("notes.md"), "other_language"),
        (entry("Makefile"), "other_language"),
        (entry("python"), "other_language"),
        (entry("a.pyc"), "other_language"),
        (entry("node_modules/a.py"), "vendored"),
        (entry("a_pb2.py"), "generated"),
        (entry(size=1_000_001), "too_large"),
        (entry(size=99), "too_small"),
        (entry(size=1_000_000), None),
        (entry(size=-1), None),
        (entry("tools/gui.pyw"), None),
    ],
)
def test_reasons_by_listing(listed, reason):
    assert reason_by_listing(listed, LIMITS) == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (FINE, None),
        (LFS, "lfs_pointer"),
        (b"", "too_small"),
        (FINE[:199], "too_small"),
        (FINE * 10_000, "too_large"),
        (FINE + b"\0", "binary"),
        ("x = 'é'\n".encode("latin-1") * 40, "not_utf8"),
        (FINE.decode().encode("utf-16"), "binary"),
        (FINE + b"x = '" + b"a" * 1_000 + b"'\n", "long_line"),
        ((b"x" * 300 + b"\n") * 4, "minified"),
        (b"# " + b"-" * 70 + b"\n" + b"((((((((((\n" * 40, "not_text"),
        ("# Größe über Straße\n".encode() * 30, None),
        ("名前 = '漢字'\n".encode() * 30, None),
        (b"\xef\xbb\xbf" + FINE, None),
        (FINE.replace(b"\n", b"\r\n"), None),
    ],
)
def test_reasons_by_content(data, reason):
    assert reason_by_content(data, LIMITS) == reason


def test_limits_are_the_callers():
    assert reason_by_content(b"x = 1\n", Limits(min_bytes=0)) is None
    assert reason_by_listing(entry(size=11), Limits(max_bytes=10)) == "too_large"
    assert reason_by_listing(entry(size=1), Limits(min_bytes=0)) is None


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("# one\n\n# two\nimport os\n# three\n", "# one\n\n# two\n"),
        ('"""Doc\nstring."""\n\nx = 1\n', '"""Doc\nstring."""\n\n'),
        ("#!/bin/python\nr'''Doc'''\nx\n", "#!/bin/python\nr'''Doc'''\n"),
        ("\ufeff# bom\nx\n", "\ufeff# bom\n"),
        ("x = 1\n", ""),
        ("", ""),
        ('"""never closed\nx = 1\n', ""),
    ],
)
def test_the_head_ends_at_the_first_statement(text, start):
    assert head(text) == start


def test_the_head_of_hostile_text_is_found_in_no_time():
    import time

    began = time.process_time()
    for text in ("#\n" * 100_000, '"""' * 100_000, " \n" * 100_000, "'''\"\"\"" * 50_000):
        head(text)
    assert time.process_time() - began < 1
