"""From a tree to rows: byte for byte, counted, and the same whatever the order or place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.code.fim import Account, file_rows, rows
from codetune.code.selection import Limits
from codetune.code.sources import open_source
from codetune.code.spans import Plan
from codetune.code.tree import Entry
from codetune.sample import check, dump, parse

ANY = Limits(min_bytes=0)
MANY = Plan(per_file=8, min_bytes=6, bytes_per_span=128)
# A made-up key in the shape of a cloud provider's; no such account exists.
PLANTED = "AKIA" + "Z7QX4WVN2KJ5TREB"


class Tree:
    """A tree held in memory."""

    name, identity, rev, fingerprint = "mem", "0123456789ab", "c0ffee", ""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.entries = tuple(
            Entry(path, "file", len(data), f"blob-of-{path}") for path, data in files.items()
        )

    def read(self, entries):
        for entry in entries:
            yield entry, self.files[entry.path]


def made(tree, limits=ANY, plan=MANY, seed=42, account=None):
    return list(rows(tree, limits, plan, seed, account or Account()))


def joined(row) -> bytes:
    return (row["prefix"] + row["middle"] + row["suffix"]).encode()


VARIANTS = {
    "plain": lambda data: data,
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "bom": lambda data: b"\xef\xbb\xbf" + data,
    "no final newline": lambda data: data.rstrip(),
    "tabs": lambda data: data.replace(b"    ", b"\t"),
    "non-ascii": lambda data: data.replace(b"width", "weiteß漢🙂x".replace("🙂", "").encode()),
    "emoji": lambda data: data.replace(b"no negative", "no 🙂 é̈ negative".encode()),
    "form feed": lambda data: data.replace(b"\n\n\n", b"\n\f\n\n"),
    "trailing blanks": lambda data: data.replace(b")\n", b")  \n"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_join_to_the_file_byte_for_byte_after_a_trip_through_json(code, variant):
    data = VARIANTS[variant](code("circle", "square", "field"))
    got = [parse(dump(row)) for row in made(Tree({"a.py": data}))]
    assert len(got) >= 5
    for row in got:
        assert joined(row) == data
        start, end = row["meta"]["start"], row["meta"]["end"]
        assert row["middle"].encode() == data[start:end]
        assert check(row) is None


LINES = st.lists(
    st.sampled_from(
        [
            "x = 1",
            "größe = 'ſtraße \\u2028'",
            "",
            "if x:\n\treturned = call(x, 'ab', [1, 2])",
            "# 注释 \u2028 comment",
            "class A:\n    def f(self):\n        return self.value + other.value\n",
            'text = """tabs\t\nand \x0c feeds"""',
        ]
    ),
    min_size=1,
    max_size=12,
)


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from(["", "\n", " \t"]))
def test_byte_for_byte_property(lines, newline, bom, tail):
    text = "\n".join(lines).replace("\n", newline) + tail
    data = (b"\xef\xbb\xbf" if bom else b"") + text.encode()
    got = file_rows(Tree({}), Entry("a.py", "file", len(data), "b"), data, ANY, MANY, 1)
    if isinstance(got, str):
        assert got in ("no_span", "does_not_parse", "not_text")
        return
    for row in got:
        assert joined(parse(dump(row))) == data
        assert row["middle"].strip()


def test_a_row_says_where_it_comes_from(make_repo, git, code):
    data = b"# SPDX-License-Identifier: MIT\n" + code("circle")
    place = make_repo({"src/pkg/circle.py": data})
    row = made(open_source(place))[0]
    assert list(row) == ["id", "task", "prefix", "middle", "suffix", "meta"]
    root = git(place, "rev-list", "--max-parents=0", "HEAD")[:12]
    meta = row["meta"]
    assert meta["group"] == f"{root}:src/pkg/circle.py"
    assert meta["path"] == "src/pkg/circle.py"
    assert (meta["source"], meta["repo"], meta["language"]) == ("repo", "shapes", "python")
    assert meta["rev"] == git(place, "rev-parse", "HEAD")
    assert meta["blob"] == git(place, "rev-parse", "HEAD:src/pkg/circle.py")
    assert meta["license"] == "MIT"
    assert str(place) not in json.dumps(row)


def test_a_licence_is_left_out_where_the_file_names_none(code):
    assert "license" not in made(Tree({"a.py": code("circle")}))[0]["meta"]


def test_ids_are_unique(code):
    files = {f"m{n}.py": code("circle", "square", "field") for n in range(20)}
    ids = [row["id"] for row in made(Tree(files))]
    assert len(set(ids)) == len(ids) > 100


def test_the_order_of_the_listing_changes_no_row(code):
    files = {f"m{n}.py": code(f"shape{n}", "square", "field") for n in range(12)}
    forward = made(Tree(files))
    backward = made(Tree(dict(reversed(files.items()))))
    assert [row["id"] for row in forward] != [row["id"] for row in backward]
    assert sorted(map(dump, forward)) == sorted(map(dump, backward))


def test_adding_a_file_changes_no_row_of_the_others(code):
    files = {"a.py": code("circle", "square"), "c.py": code("field", "garden")}
    before = made(Tree(files))
    after = made(Tree({**files, "b.py": code("house", "door")}))
    assert [row for row in after if row["meta"]["path"] != "b.py"] == before


def test_the_seed_and_the_path_change_the_choice(code):
    data = code(*(f"shape{n}" for n in range(30)))

    def spans(seed: int, path: str) -> set[int]:
        return {row["meta"]["start"] for row in made(Tree({path: data}), seed=seed)}

    assert spans(1, "a.py") == spans(1, "a.py")
    assert spans(1, "a.py") != spans(2, "a.py")
    assert spans(1, "a.py") != spans(1, "b.py")


def test_every_file_is_kept_or_dropped_with_one_reason(code, make_repo):
    files = {
        "good.py": code("circle"),
        "vendor/six.py": code("circle"),
        "api_pb2.py": code("circle"),
        "made.py": b"# @generated\n" + code("circle"),
        "readme.md": b"# hello",
        "tiny.py": b"x = 1\n",
        "large.py": code("circle") * 4_000,
        "nul.py": code("circle") + b"\0",
        "latin.py": code("circle") + b"# \xe9\n",
        "wide.py": code("circle") + b"x = '" + b"a" * 1_000 + b"'\n",
        "broken.py": code("circle") + b"def (:\n",
        "blank.py": b"# a comment that is not code at all\n" * 9 + b"\n",
        "key.py": code("circle") + f"KEY = '{PLANTED}'\n".encode(),
        "pointer.py": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n" * 2,
    }
    account = Account(rejects=[])
    place = make_repo(files)
    (place / "link.py").symlink_to("good.py")
    got = made(open_source(place), Limits(), Plan(line_share=0.0), account=account)
    assert {row["meta"]["path"] for row in got} == {"good.py"}
    assert account.files.in_ == len(files)
    assert account.rows.kept == len(got) == account.kinds.total()
    why = {reject["path"]: reject["reason"] for reject in account.rejects}
    assert why == {
        "vendor/six.py": "vendored",
        "api_pb2.py": "generated",
        "made.py": "generated",
        "readme.md": "other_language",
        "tiny.py": "too_small",
        "large.py": "too_large",
        "nul.py": "binary",
        "latin.py": "not_utf8",
        "wide.py": "long_line",
        "broken.py": "does_not_parse",
        "blank.py": "no_span",
        "key.py": "secret",
        "pointer.py": "lfs_pointer",
    }
    assert sum(account.files.dropped.values()) == len(why)


def test_no_part_of_a_secret_file_is_written(code):
    tree = Tree({"key.py": code("a", "b") + f"KEY = '{PLANTED}'\n".encode(), "b.py": code("c")})
    account = Account(rejects=[])
    everything = b"".join(map(dump, made(tree, account=account)))
    assert b"AKIA" not in everything and b"key.py" not in everything
    assert PLANTED not in json.dumps(account.rejects)


def test_a_repository_given_twice_gives_its_rows_once(make_repo, code):
    tree = open_source(make_repo({"a.py": code("circle"), "b.py": code("square")}))
    account = Account()
    first = made(tree, account=account)
    assert first and made(tree, account=account) == []
    assert account.files.as_dict() == {"in": 4, "kept": 2, "dropped": {"already_read": 2}}


def test_a_file_that_stands_twice_is_read_once(make_repo, code):
    copies = {"a.py": code("circle"), "old/a.py": code("circle"), "b.py": code("square")}
    account = Account()
    found = made(open_source(make_repo(copies)), account=account)
    assert {row["meta"]["path"] for row in found} == {"a.py", "b.py"}
    assert account.files.dropped == {"already_read": 1}


def test_what_cannot_be_read_is_missing(code):
    tree = Tree({"a.py": code("circle")})
    tree.read = lambda entries: ((entry, None) for entry in entries)
    account = Account()
    assert made(tree, account=account) == []
    assert account.files.dropped == {"missing": 1}


def test_control_words_of_models_stay_plain_text(code):
    data = code("circle").replace(b"negative", b"<|fim_middle|> <|endoftext|>")
    assert all(joined(row) == data for row in made(Tree({"a.py": data})))
