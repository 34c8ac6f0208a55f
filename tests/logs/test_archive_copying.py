"""One file in the archive: what happened to it since the last time, and what is kept of it."""

import json
import os
import time

import pytest

from codetune import artefact
from codetune.errors import UserError
from codetune.logs import archive
from codetune.logs.archive.copying import _end_of_lines, _settled
from codetune.logs.archive.index import NO_STAMP, superseded, version_name
from tests.logs.archive_home import Home, a_line, a_session, settled

ONE, TWO, THREE = (a_line(text) for text in ("one", "two", "three"))
NAME = "-home-mira-work/a.jsonl"


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def test_a_new_file_is_copied_and_private(home):
    home.write(NAME, ONE + TWO)
    assert home.outcomes() == {"new": 1}
    assert home.kept(NAME) == ONE + TWO
    assert home.wrong() == []
    for path in (home.archive, *home.archive.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_folder_that_was_open_to_others_is_closed(home):
    home.archive.mkdir(parents=True)
    home.archive.chmod(0o755)
    home.write(NAME, ONE)
    home.keep()
    assert home.archive.stat().st_mode & 0o777 == 0o700


def test_nothing_is_opened_when_nothing_changed(home, monkeypatch):
    home.write(NAME, ONE)
    home.keep()
    opened = []
    original = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(path) or original(path, *a))
    assert home.outcomes() == {"unchanged": 1}
    assert [str(path) for path in opened if str(path).endswith(".jsonl")] == []


def test_only_what_was_appended_is_written(home):
    path = home.write(NAME, ONE)
    home.keep()
    inode = (home.archive / home.place / NAME).stat().st_ino
    home.write(NAME, TWO, add=True)
    kept = home.keep()
    assert (kept.total("grown"), kept.added) == (1, len(TWO))
    assert home.kept(NAME) == path.read_bytes()
    assert (home.archive / home.place / NAME).stat().st_ino == inode
    assert home.versions(NAME) == []


def test_a_line_that_is_being_written_waits_for_its_end(home):
    home.write(NAME, ONE + TWO[:10])
    home.keep()
    assert home.kept(NAME) == ONE
    assert home.outcomes() == {"unchanged": 1}
    home.write(NAME, TWO[10:] + THREE[:-1], add=True)
    assert home.outcomes() == {"grown": 1}
    # a whole object is a whole line, with or without its newline
    assert home.kept(NAME) == ONE + TWO + THREE[:-1]
    home.write(NAME, b"\n" + ONE, add=True)
    home.keep()
    assert home.kept(NAME) == ONE + TWO + THREE + ONE
    assert home.versions(NAME) == []


@pytest.mark.parametrize("data", [b'{"a": "', b'{"a": 1', b"[1]", b'"x"', b"\0\0\0", b"  "])
def test_what_is_no_whole_line_is_not_kept_yet(home, data):
    home.write(NAME, data)
    assert home.outcomes() == {"unfinished": 1}
    assert home.kept(NAME) is None


def test_an_empty_file_is_counted(home):
    home.write(NAME, b"")
    assert home.outcomes() == {"empty": 1}


def test_a_file_that_was_written_anew_leaves_its_old_content_beside_it(home):
    home.write(NAME, ONE + TWO)
    home.keep()
    home.write(NAME, THREE + TWO + ONE)
    assert home.outcomes() == {"rewritten": 1}
    assert (home.kept(NAME), home.versions(NAME)) == (THREE + TWO + ONE, [ONE + TWO])
    assert home.wrong() == []
    home.write(NAME, ONE, add=True)
    assert home.outcomes() == {"grown": 1}
    assert home.versions(NAME) == [ONE + TWO]


def test_a_file_that_shrank_leaves_its_old_content_beside_it(home):
    home.write(NAME, ONE + TWO)
    home.keep()
    home.write(NAME, ONE)
    assert home.outcomes() == {"rewritten": 1}
    assert (home.kept(NAME), home.versions(NAME)) == (ONE, [ONE + TWO])


def test_a_content_that_comes_and_goes_is_kept_once(home):
    for _ in range(3):
        for data in (ONE, TWO):
            home.write(NAME, data)
            home.keep()
    assert sorted(home.versions(NAME)) == sorted([ONE, TWO])
    assert home.wrong() == []


@pytest.mark.parametrize("what", ["deleted", "emptied", "cut within its first line"])
def test_a_session_that_is_lost_at_its_source_stays(home, what):
    path = home.write(NAME, ONE + TWO)
    home.keep()
    if what == "deleted":
        path.unlink()
    else:
        home.write(NAME, b"" if what == "emptied" else ONE[:9])
    kept = home.keep()
    assert home.kept(NAME) == ONE + TWO
    assert home.versions(NAME) == []
    if what == "deleted":
        assert (kept.gone, kept.gone_bytes) == (1, len(ONE + TWO))


def test_a_change_within_the_same_tick_is_seen(home):
    """Same size, same times: what was touched just now is read again next time."""
    path = home.root / "p" / "a.jsonl"
    path.parent.mkdir()
    path.write_bytes(ONE)
    facts = path.stat()
    home.keep()
    changed = ONE.replace(b"one", b"ONE")
    path.write_bytes(changed)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    home.keep()
    assert home.kept("p/a.jsonl") == changed


def test_the_times_of_a_file_touched_just_now_are_not_trusted(tmp_path):
    (tmp_path / "a").write_bytes(ONE)
    assert _settled((tmp_path / "a").stat()) == NO_STAMP
    settled(tmp_path / "a")
    assert _settled((tmp_path / "a").stat())[0] == len(ONE)


def test_where_a_content_goes_is_durable_before_it_goes(home, monkeypatch):
    home.write(NAME, ONE)
    home.keep()
    home.write(NAME, TWO)
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)

        def call(*args, name=name, original=original):
            target = f"/proc/self/fd/{args[0]}" if name == "fsync" else args[0]
            calls.append((name, os.path.realpath(target).rpartition("/")[2]))
            return original(*args)

        monkeypatch.setattr(os, name, call)
    home.keep()
    assert calls.index(("fsync", "archive.index")) < calls.index(("replace", "a.jsonl"))
    assert ("fsync", "a.jsonl") in calls[calls.index(("replace", "a.jsonl")) :]


def test_a_touched_file_is_read_once_and_not_again(home):
    path = home.write(NAME, ONE)
    home.keep()
    settled(path)
    lines = home.index().path.read_bytes().count(b"\n")
    assert home.outcomes() == {"unchanged": 1}
    assert home.index().path.read_bytes().count(b"\n") == lines + 1
    assert home.outcomes() == {"unchanged": 1}
    assert home.index().path.read_bytes().count(b"\n") == lines + 1


class TestDocuments:
    NAME = "abcd/chats/session-1.json"
    FIRST, SECOND = (json.dumps({"sessionId": "s", "messages": [1] * n}).encode() for n in (1, 2))

    def test_a_document_is_replaced_whole_and_its_old_content_stays(self, home):
        home.write(self.NAME, self.FIRST)
        home.keep()
        home.write(self.NAME, self.SECOND)
        assert home.outcomes() == {"rewritten": 1}
        assert (home.kept(self.NAME), home.versions(self.NAME)) == (self.SECOND, [self.FIRST])
        assert home.outcomes() == {"unchanged": 1}
        assert home.wrong() == []

    def test_half_a_document_that_is_being_written_waits(self, home):
        path = home.write(self.NAME, self.SECOND[:-4])
        os.utime(path, (time.time(), time.time()))
        assert home.outcomes() == {"unfinished": 1}
        home.write(self.NAME, self.SECOND)
        assert home.outcomes() == {"new": 1}

    def test_a_document_that_nobody_finishes_is_kept_as_it_is(self, home):
        home.write(self.NAME, self.SECOND[:-4])
        assert home.outcomes() == {"new": 1}
        assert home.kept(self.NAME) == self.SECOND[:-4]

    def test_what_a_session_spilled_beside_it_is_kept(self, home):
        folder = f"-home-mira-work/{a_session(1)}"
        for name in ("tool-results/b1.txt", "subagents/agent-1.meta.json", "workflows/w.json"):
            home.write(f"{folder}/{name}", b'{"a": 1}')
        home.write(f"{folder}/subagents/agent-1.jsonl", ONE)
        assert home.outcomes() == {"new": 4}
        assert home.equals_sources()


@pytest.mark.parametrize("size", [0, 1, 10, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n" + ONE[:-1], b"\n" + ONE[:5]])
def test_the_end_of_whole_lines_is_found_across_chunks(tmp_path, size, end):
    data = b"x" * size + end
    (tmp_path / "a").write_bytes(data)
    with (tmp_path / "a").open("rb") as file:
        found = _end_of_lines(file, len(data))
    whole = len(data) if end == b"\n" + ONE[:-1] else data.rfind(b"\n") + 1
    assert found == whole


def test_a_file_and_a_folder_of_one_name_are_told_and_nothing_is_lost(home):
    path = home.write("p/a.jsonl", ONE)
    home.keep()
    path.unlink()
    home.write("p/a.jsonl/b.jsonl", TWO)
    home.write("p/c.jsonl", THREE)
    kept = home.keep()
    assert kept.files.dropped == {"in_the_way": 1}
    assert [left.reason for left in kept.problems] == ["in_the_way"]
    assert (home.kept("p/a.jsonl"), home.kept("p/c.jsonl")) == (ONE, THREE)


ODD = [
    *("with space.jsonl", "'quotes\".jsonl", "$(touch x).jsonl", "new\nline.jsonl", "-rf.jsonl"),
    *("\x1b[31mred.jsonl", "ü\u2028.jsonl", ".hidden.jsonl", ".a.jsonl.tmp-1-x.jsonl"),
    *(
        "n" * 249 + ".jsonl",
        os.fsdecode(b"\xff\xfe.jsonl"),
        "a.jsonl.superseded-0123456789ab.jsonl",
    ),
]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_odd_names_are_kept_and_grow_and_are_replaced(home, name):
    home.write(f"p/{name}", ONE)
    assert home.outcomes() == {"new": 1}
    home.write(f"p/{name}", TWO, add=True)
    assert home.outcomes() == {"grown": 1}
    home.write(f"p/{name}", THREE)
    assert home.outcomes() == {"rewritten": 1}
    assert home.kept(f"p/{name}") == THREE
    assert home.outcomes() == {"unchanged": 1}
    assert home.wrong() == []
    assert sorted(v.sha256 for v in home.index().versions.values())


def test_the_name_of_a_version_fits_the_file_system():
    for name in ("a/b/" + "n" * 255, "a/b/" + "ü" * 127, "a/b/c.jsonl"):
        version = version_name(name, "0123456789abcdef")
        assert len(os.fsencode(version.rpartition("/")[2])) <= 255
        assert superseded(version) is not None
    assert superseded(version_name("a/b/c.jsonl", "0" * 64)) == "a/b/c.jsonl"
    assert superseded("a/b/c.jsonl") is None


def test_a_document_whose_name_leaves_no_room_for_a_temporary_one_is_told(home):
    folder = f"-p/{a_session(1)}/tool-results"
    home.write(f"{folder}/{'n' * 250}", b"x")
    home.write(f"{folder}/short", b"x")
    kept = home.keep()
    assert (kept.files.kept, kept.files.dropped) == (1, {"name_too_long": 1})


def test_a_source_that_shrinks_while_it_is_read_is_taken_next_time(home, monkeypatch):
    path = home.write(NAME, (ONE + TWO) * 40_000)
    original, cut = os.pwrite, []

    def pwrite(handle, data, at):
        if not cut:
            cut.append(os.truncate(path, len(ONE)))
        return original(handle, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert home.outcomes() == {"changed_meanwhile": 1}
    assert home.kept(NAME) is None
    assert home.outcomes() == {"new": 1}
    assert home.kept(NAME) == ONE


def test_a_source_that_becomes_a_link_after_it_was_found_is_not_followed(home, tmp_path):
    path = home.write(NAME, ONE)
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(TWO)
    index = archive.Index(archive.checked(home.archive))
    listed = archive.listed([], [home.root], index)
    path.unlink()
    path.symlink_to(secret)
    kept = archive.keep_all(listed, index, archive.forgotten(home.archive), lambda: None)
    assert kept.files.dropped == {"link": 1}
    assert home.kept(NAME) is None


class TestAppending:
    def test_it_refuses_a_file_of_another_size(self, tmp_path):
        (tmp_path / "a").write_bytes(b"12345")
        with pytest.raises(UserError, match="changed by another program"):
            artefact.append_chunks(tmp_path / "a", 3, [b"x"])
        assert (tmp_path / "a").read_bytes() == b"12345"

    @pytest.mark.parametrize("at", [0, 5])
    @pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
    def test_what_stops_it_takes_all_back(self, tmp_path, at, problem):
        if at:
            (tmp_path / "a").write_bytes(b"12345")

        def chunks():
            yield b"x" * 100
            raise problem

        with pytest.raises(problem):
            artefact.append_chunks(tmp_path / "a", at, chunks())
        left = (tmp_path / "a").read_bytes() if at else list(tmp_path.iterdir())
        assert left == (b"12345" if at else [])

    def test_a_disk_that_gives_back_other_bytes_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "pread", lambda *_: b"other")
        with pytest.raises(UserError, match="other bytes"):
            artefact.append_chunks(tmp_path / "a", 0, [b"these"])
        assert list(tmp_path.iterdir()) == []

    def test_short_writes_are_gone_on_with(self, tmp_path, monkeypatch):
        original = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda h, data, at: original(h, data[:3], at))
        artefact.append_chunks(tmp_path / "a", 0, [b"0123456789", b"abcdef"])
        assert (tmp_path / "a").read_bytes() == b"0123456789abcdef"

    def test_it_does_not_write_through_a_link(self, tmp_path):
        (tmp_path / "other").write_bytes(b"")
        (tmp_path / "a").symlink_to(tmp_path / "other")
        with pytest.raises(OSError):
            artefact.append_chunks(tmp_path / "a", 0, [b"x"])
        assert (tmp_path / "other").read_bytes() == b""
