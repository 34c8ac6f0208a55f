"""Following a file that real writers append to, cut, replace, tear and fill with anything."""

from __future__ import annotations

import os
import resource
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.artefact import TextLog
from codetune.errors import UserError
from codetune.runlog.follow import (
    LONGEST,
    OUTPUT,
    Follower,
    Line,
    RunOutput,
    backwards,
    dated,
    pause,
)

PIECES = st.lists(st.sampled_from([b"a", b"\n", b"bc\n", b"\xff", b"\r", "\u00e9".encode()]))


def anything(_: object) -> bool:
    return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def append(file: Path, data: bytes) -> None:
    with file.open("ab") as out:
        out.write(data)


class TestFollower:
    def test_a_file_may_appear_late_and_grow(self, file: Path) -> None:
        follower = Follower(file)
        assert follower.last(5) == []
        assert list(follower.lines()) == []
        append(file, b"one\ntwo\nthr")
        assert list(follower.lines()) == ["one", "two"]
        assert list(follower.lines()) == []
        append(file, b"ee\n")
        assert list(follower.lines()) == ["three"]

    def test_a_torn_line_waits_for_its_end_also_across_the_beginning(self, file: Path) -> None:
        append(file, b"one\ntwo\nto")
        follower = Follower(file)
        assert follower.last(1) == ["two"]
        append(file, b"rn\n")
        assert list(follower.lines()) == ["torn"]
        append(file, b"last words")
        assert list(follower.lines()) == []
        assert list(follower.rest()) == ["last words"]
        assert list(follower.rest()) == []

    def test_a_character_torn_in_two_is_whole_again(self, file: Path) -> None:
        follower = Follower(file)
        letters = "grün".encode()
        append(file, letters[:3])
        assert list(follower.lines()) == []
        append(file, letters[3:] + b"\n")
        assert list(follower.lines()) == ["grün"]

    def test_a_file_cut_short_is_read_from_its_beginning(self, file: Path) -> None:
        append(file, b"one\ntwo\n")
        follower = Follower(file)
        follower.last(0)
        os.truncate(file, 0)
        append(file, b"new\n")
        assert list(follower.lines()) == ["new"]

    def test_also_when_it_has_grown_beyond_our_place_since(self, file: Path) -> None:
        append(file, b"one\n")
        follower = Follower(file)
        follower.last(0)
        os.truncate(file, 0)
        append(file, b"something longer\nand more\n")
        assert list(follower.lines()) == ["something longer", "and more"]

    def test_a_replaced_file_is_read_to_its_end_and_then_the_new_one(self, file: Path) -> None:
        append(file, b"one\n")
        follower = Follower(file)
        assert list(follower.lines()) == ["one"]
        append(file, b"two\nunfinished")
        file.rename(file.with_suffix(".1"))
        assert list(follower.lines()) == ["two"]  # away for a moment
        append(file, b"three\n")
        assert list(follower.lines()) == ["unfinished", "three"]

    def test_a_file_that_is_removed_may_come_back(self, file: Path) -> None:
        append(file, b"one\n")
        follower = Follower(file)
        assert list(follower.lines()) == ["one"]
        file.unlink()
        assert list(follower.lines()) == []
        append(file, b"two\n")
        assert list(follower.lines()) == ["two"]

    def test_only_the_wanted_of_the_last_lines_count(self, file: Path) -> None:
        append(file, b"".join(b"%d\n" % n for n in range(100_000)))
        follower = Follower(file)
        assert follower.last(3, lambda text: text.endswith("7")) == ["99977", "99987", "99997"]
        assert follower.last(0) == []
        assert list(follower.lines()) == []

    @pytest.mark.parametrize(
        ("raw", "shown"),
        [
            (b"\xff\xfe caf\xe9", "\ufffd\ufffd caf\ufffd"),
            (b"\x1b[31mred\x1b[0m\x07", "red"),
            (b"\x1b]52;c;ZXZpbA==\x07copied", "copied"),
            (b"10%\r20%\r30%\r", "30%"),
            ("\u202egpj.exe".encode(), "gpj.exe"),
            (b"[bold]\ttab\0", "[bold]\ttab"),
        ],
    )
    def test_a_line_is_what_a_terminal_may_see(self, file: Path, raw: bytes, shown: str) -> None:
        append(file, raw + b"\n")
        assert list(Follower(file).lines()) == [shown]
        assert Follower(file).last(1) == [shown]

    def test_an_endless_line_comes_in_pieces(self, file: Path) -> None:
        append(file, b"x" * (3 * LONGEST + 5))
        follower = Follower(file)
        pieces = [*follower.lines(), *follower.rest()]
        assert "".join(pieces) == "x" * (3 * LONGEST + 5)
        assert max(map(len, pieces)) <= LONGEST

    def test_what_is_no_file_is_refused_at_once(self, file: Path) -> None:
        os.mkfifo(file)
        with pytest.raises(UserError, match="is no file"):
            Follower(file).last(1)
        file.unlink()
        file.mkdir()
        with pytest.raises(UserError, match="is no file"):
            list(Follower(file).lines())

    @given(PIECES, st.integers(0, 5))
    def test_backwards_and_forwards_read_the_same(self, pieces: list[bytes], count: int) -> None:
        data = b"".join(pieces)
        handle = os.memfd_create("any")
        os.write(handle, data)
        assert list(backwards(handle, len(data)))[::-1] == data.split(b"\n")
        place = Path(f"/proc/self/fd/{handle}")
        last, all_ = Follower(place), Follower(place)
        lines = list(all_.lines())
        assert last.last(count) == lines[len(lines) - min(count, len(lines)) :]
        assert list(last.rest()) == list(all_.rest())
        for each in (last, all_):
            each.close()
        os.close(handle)

    @given(PIECES, st.lists(st.integers(1, 4)))
    def test_it_does_not_matter_when_we_look(self, pieces: list[bytes], cuts: list[int]) -> None:
        data = b"".join(pieces)
        handle = os.memfd_create("any")
        follower = Follower(Path(f"/proc/self/fd/{handle}"))
        seen: list[str] = []
        for cut in [*cuts, len(data)]:
            os.write(handle, data[:cut])
            data = data[cut:]
            seen += follower.lines()
        seen += follower.rest()
        whole = Follower(follower.path)
        assert seen == [*whole.lines(), *whole.rest()]
        whole.close()
        follower.close()
        os.close(handle)


def test_a_gigabyte_costs_no_more_than_a_page(file: Path) -> None:
    with file.open("wb") as out:
        out.truncate(2**30)  # sparse: one endless line of zero bytes
        out.seek(0, os.SEEK_END)
        out.write(b"\n" + b"\n".join(b"line %d" % n for n in range(1000)) + b"\n")
    tracemalloc.start()
    started = time.process_time()
    follower = Follower(file)
    assert follower.last(40)[-1] == "line 999"
    append(file, b"more\n")
    assert list(follower.lines()) == ["more"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21
    assert time.process_time() - started < 0.5


def test_reading_all_of_a_large_file_takes_constant_memory(file: Path) -> None:
    with file.open("wb") as out:
        out.truncate(2**26)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(1 for _ in Follower(file).lines()) >= 2**26 // LONGEST - 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


class TestLines:
    def test_lines_of_the_console_log_come_back_as_they_were_said(self, file: Path) -> None:
        log = TextLog(file)
        log.write("info", "step 1\n  indented\n")
        log.write("warning", "careful")
        log.write("error", "2026-05-01 12:00:00 info    quoted")
        lines = [dated(text) for text in Follower(file).lines()]
        assert [(line.level, line.text) for line in lines] == [
            ("info", "step 1"),
            ("info", "  indented"),
            ("info", ""),
            ("warning", "careful"),
            ("error", "2026-05-01 12:00:00 info    quoted"),
        ]
        assert [str(line) for line in lines] == file.read_text().splitlines()

    @given(st.text())
    def test_any_text_is_some_line(self, text: str) -> None:
        assert dated(text).level in {"info", "warning", "error"}

    def test_last_words_without_a_date_are_errors(self) -> None:
        assert dated("Fatal Python error: Segmentation fault").level == "error"
        assert str(dated("Fatal Python error: Aborted")) == "Fatal Python error: Aborted"


class TestRunOutput:
    @pytest.fixture
    def raw(self, file: Path) -> Path:
        return file.with_name(OUTPUT)

    def test_raw_output_is_shown_where_the_console_log_lacks_it(
        self, file: Path, raw: Path
    ) -> None:
        log = TextLog(file)
        log.write("info", "step 1")
        log.write("warning", "slow")
        append(raw, b"step 1\n\x1b[33mwarning: slow\x1b[0m\nSegmentation fault\n\n")
        output = RunOutput(file)
        assert [line.text for line in output.last(9, anything)] == [
            "step 1",
            "slow",
            "Segmentation fault",
        ]
        assert str(Line("Segmentation fault")) == "output | Segmentation fault"

    @pytest.mark.parametrize("raw_first", [True, False])
    def test_it_does_not_matter_which_file_a_line_reaches_first(
        self, file: Path, raw: Path, raw_first: bool
    ) -> None:
        log, output = TextLog(file), RunOutput(file)
        output.last(0, anything)
        seen: list[str] = []
        for n in range(3):
            writes = [lambda n=n: append(raw, b"%d\n" % n), lambda n=n: log.write("info", str(n))]
            for write in writes if raw_first else writes[::-1]:
                write()
                seen += (line.text for line in output.lines(anything))
        append(raw, b"native")
        seen += (line.text for line in output.lines(anything))
        assert seen == ["0", "1", "2"]
        assert [line.text for line in output.rest(anything)] == ["native"]

    def test_tables_drawn_at_another_width_are_not_shown_twice(self, file: Path, raw: Path) -> None:
        TextLog(file).write("info", "  what    found \n ──────────\n  gpu     none")
        append(raw, " what  found\n ────────────────\n gpu   none\n".encode())
        assert [line.text for line in RunOutput(file).last(5, anything) if not line.level] == []

    @pytest.mark.parametrize("words", ["step {n}", "step {n} of many", "the same"])
    def test_lines_that_are_no_longer_remembered_are_not_shown_again(
        self, file: Path, raw: Path, words: str
    ) -> None:
        lines = [words.format(n=n) for n in range(6000)]
        lines[:3000] = [f"old {n}" for n in range(3000)]
        append(file, "".join(f"2026-01-01 00:00:00 info    {t}\n" for t in lines).encode())
        lines.insert(-400, "a native warning")
        append(raw, "".join(f"{t}\n" for t in lines).encode())
        shown = [line.text for line in RunOutput(file).last(3, anything) if not line.level]
        assert shown == ["a native warning"]

    def test_the_search_for_raw_lines_does_not_read_it_all(self, file: Path, raw: Path) -> None:
        lines = b"".join(b"step %d\n" % n for n in range(3000))
        with raw.open("wb") as out:
            out.truncate(2**33)  # sparse
            out.seek(0, os.SEEK_END)
            out.write(b"\n" + lines)
        stamp = b"2026-01-01 00:00:00 info    "
        append(file, b"".join(stamp + line for line in lines.splitlines(keepends=True)))
        started = time.process_time()
        assert [line.level for line in RunOutput(file).last(3, anything)] == ["info"] * 3
        assert time.process_time() - started < 1.0

    def test_a_burst_of_lines_while_nobody_looked_is_shown_once(
        self, file: Path, raw: Path
    ) -> None:
        output = RunOutput(file)
        output.last(0, anything)
        append(file, b"".join(b"2026-01-01 00:00:00 info    step %d\n" % n for n in range(6000)))
        append(raw, b"".join(b"step %d\n" % n for n in range(6000)) + b"native\n")
        shown = [str(line) for _ in range(3) for line in output.lines(anything)]
        assert len(shown) == 6001
        assert shown[-1] == "output | native"

    def test_raw_lines_held_back_are_not_lost_at_the_end(self, file: Path, raw: Path) -> None:
        output = RunOutput(file)
        append(raw, b"core dumped\n")
        assert list(output.lines(anything)) == []
        assert [line.text for line in output.rest(anything)] == ["core dumped"]
        output.close()


def test_a_pause_ends_as_soon_as_nobody_reads_any_more() -> None:
    reader, writer = os.pipe()
    started = time.monotonic()
    pause(0.05, writer)
    assert time.monotonic() - started >= 0.04
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        pause(5, writer)
    assert time.monotonic() - started < 2
    os.close(writer)
