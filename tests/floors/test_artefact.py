"""Files and folders are complete or absent, and say what they were made from."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from codetune import artefact
from codetune.artefact import Counts, Input, Journal, Origin, append_record, read_journal
from codetune.errors import UserError

ORIGIN = Origin("sft", 1, "config", (Input("b.jsonl", "2"), Input("a.jsonl", "1")))
GONE = 2**22 + 1  # above the kernel's largest process id
LINES = [b'{"a":1}', b'{"b":2}']


def test_rows_and_manifest(tmp_path: Path) -> None:
    counts = Counts()

    def rows() -> Iterator[bytes]:
        for line in LINES:
            counts.keep()
            yield line
        counts.drop("too_long", 3)

    file = tmp_path / "data" / "x.jsonl"
    assert artefact.write_rows(file, rows(), ORIGIN, {"rows": counts}) == 2
    assert file.read_bytes() == b'{"a":1}\n{"b":2}\n'
    manifest = artefact.read_manifest(file)
    assert manifest["rows"] == 2
    assert manifest["counts"] == {"rows": {"in": 5, "kept": 2, "dropped": {"too_long": 3}}}
    assert [i["path"] for i in manifest["inputs"]] == ["a.jsonl", "b.jsonl"]
    assert artefact.verify(file) is None
    assert "time" not in json.dumps(manifest)


def test_an_account_is_read_back() -> None:
    counts = Counts(3, {"b": 1, "a": 2})
    found = Counts.from_dict(counts.as_dict())
    assert found == counts and found.in_ == 6
    assert found.dropped is not counts.as_dict()["dropped"]


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    file = artefact.write_text(tmp_path / "outputs" / "deep" / "x.txt", "x", ORIGIN)
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert oct(file.parent.stat().st_mode & 0o777) == "0o700"
    with artefact.staged_directory(tmp_path / "outputs" / "model", ORIGIN) as staging:
        (staging / "w").write_text("x")
    assert oct((tmp_path / "outputs" / "model").stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst"])
def test_written_rows_are_read_back(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"x{suffix}"
    artefact.write_rows(file, LINES, ORIGIN)
    assert list(artefact.read_rows(file)) == [(1, LINES[0]), (2, LINES[1])]
    assert artefact.verify(file) is None
    if suffix.endswith("zst"):
        assert zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read() != b""


def test_gzip_and_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl.gz"
    content = '{"a":"\u2028\x85"}\r\nlast'.encode()
    file.write_bytes(gzip.compress(content))
    assert list(artefact.read_rows(file)) == [(1, '{"a":"\u2028\x85"}'.encode()), (2, b"last")]


@pytest.mark.parametrize("path", ["absent.jsonl", "folder"])
def test_unreadable_inputs_are_one_line(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=path):
        list(artefact.read_rows(tmp_path / path))


def test_current_means_same_stage_config_and_inputs(tmp_path: Path) -> None:
    file = artefact.write_text(tmp_path / "x", "x", ORIGIN)
    assert artefact.is_current(file, Origin("sft", 1, "config", ORIGIN.inputs[::-1]))
    for other in (
        Origin("fim", 1, "config", ORIGIN.inputs),
        Origin("sft", 2, "config", ORIGIN.inputs),
        Origin("sft", 1, "other", ORIGIN.inputs),
        Origin("sft", 1, "config", ORIGIN.inputs[:1]),
    ):
        assert not artefact.is_current(file, other)
    file.write_text("y")
    assert not artefact.is_current(file, ORIGIN)
    assert "differs" in str(artefact.verify(file))


def test_a_file_without_manifest_is_not_done(tmp_path: Path) -> None:
    file = artefact.write_text(tmp_path / "x", "x", ORIGIN)
    artefact.manifest_path(file).unlink()
    assert "no manifest" in str(artefact.verify(file))
    artefact.manifest_path(file).write_text("{half")
    assert "damaged" in str(artefact.verify(file))
    assert "missing" in str(artefact.verify(tmp_path / "absent"))


def test_an_exception_publishes_nothing(tmp_path: Path) -> None:
    file = artefact.write_text(tmp_path / "x.jsonl", "old", ORIGIN)

    def rows() -> Iterator[bytes]:
        yield b"{}"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        artefact.write_rows(file, rows(), ORIGIN)
    assert file.read_text() == "old" and artefact.verify(file) is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.jsonl", "x.jsonl.manifest.json"]


class TestFolders:
    def make(self, final: Path, text: str = "x") -> Path:
        with artefact.staged_directory(final, ORIGIN, step=7) as staging:
            (staging / "deep").mkdir()
            (staging / "deep" / "w.bin").write_text(text)
            (staging / "config.json").write_text("{}")
        return final

    def test_appears_whole_with_its_manifest(self, tmp_path: Path) -> None:
        final = self.make(tmp_path / "model")
        manifest = artefact.read_manifest(final)
        assert sorted(manifest["files"]) == ["config.json", "deep/w.bin"]
        assert manifest["step"] == 7
        assert artefact.verify(final) is None and artefact.is_current(final, ORIGIN)

    def test_replaces_the_old_one(self, tmp_path: Path) -> None:
        self.make(tmp_path / "model", "old")
        self.make(tmp_path / "model", "new")
        assert (tmp_path / "model" / "deep" / "w.bin").read_text() == "new"
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    def test_an_exception_keeps_the_old_one(self, tmp_path: Path) -> None:
        final = self.make(tmp_path / "model", "old")
        with (
            pytest.raises(ZeroDivisionError),
            artefact.staged_directory(final, ORIGIN) as staging,
        ):
            (staging / "half").write_text("x")
            raise ZeroDivisionError
        assert artefact.verify(final) is None
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    @pytest.mark.parametrize("damage", ["missing", "changed", "extra"])
    def test_damage_is_seen(self, tmp_path: Path, damage: str) -> None:
        final = self.make(tmp_path / "model")
        target = final / "deep" / "w.bin"
        if damage == "missing":
            target.unlink()
        elif damage == "changed":
            target.write_text("y")
        else:
            (final / "more").write_text("x")
        problem = artefact.verify(final)
        assert problem is not None and str(final) in problem

    def test_sweep_puts_back_what_was_moved_aside(self, tmp_path: Path) -> None:
        final = self.make(tmp_path / "model")
        final.rename(tmp_path / f".model.old-{GONE}-")  # killed between the two renames
        (tmp_path / f".model.staging-{GONE}-abc").mkdir()
        (tmp_path / f".x.jsonl.tmp-{GONE}-abc").write_text("half")
        touched = artefact.sweep(tmp_path)
        assert len(touched) == 3
        assert artefact.verify(final) is None
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    def test_the_next_writer_clears_up_after_a_dead_one_only(self, tmp_path: Path) -> None:
        kept = (f".model.staging-{os.getppid()}-abc", f".other.staging-{GONE}-abc", ".model.x")
        for name in (*kept, f".model.staging-{GONE}-abc"):
            (tmp_path / name).mkdir()
        self.make(tmp_path / "model")
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "model"])


class TestJournal:
    def test_appends_survive(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "logs" / "events.jsonl", fsync=True)
        for number in range(3):
            journal.append({"n": number, "text": "ä\u2028"})
        journal.close()
        journal.close()
        assert [r["n"] for r in read_journal(journal.path)] == [0, 1, 2]

    @given(cut=st.integers(0, 60))
    def test_a_torn_tail_is_cut_off(
        self, tmp_path_factory: pytest.TempPathFactory, cut: int
    ) -> None:
        file = tmp_path_factory.mktemp("journal") / "e.jsonl"
        journal = Journal(file)
        for number in range(4):
            journal.append({"number": number})
        journal.close()
        whole = file.read_bytes()
        file.write_bytes(whole[: max(0, len(whole) - cut)])
        complete = file.read_bytes().count(b"\n")
        again = Journal(file)
        again.append({"number": "new"})
        again.close()
        found = [r["number"] for r in read_journal(file)]
        assert found == [*range(complete), "new"]

    def test_a_record_that_a_full_disk_took_in_part_is_taken_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(tmp_path / "e.jsonl")
        journal.append({"n": 1})
        write, room = os.write, [5, 0]

        def full(handle: int, data: bytes) -> int:
            left = room.pop(0)
            if not left:
                raise OSError(errno.ENOSPC, "no space left")
            return write(handle, data[:left])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(UserError, match="disk is full"):
            journal.append({"n": 2})
        monkeypatch.undo()
        journal.append({"n": 3})
        journal.close()
        assert [r["n"] for r in read_journal(journal.path)] == [1, 3]

    @pytest.mark.parametrize("tail", [b"", b'{"n":2', b'{"n":2}'])
    def test_a_record_may_be_appended_beside_another_writer(
        self, tmp_path: Path, tail: bytes
    ) -> None:
        journal = Journal(tmp_path / "e.jsonl")
        journal.append({"n": 1})
        with journal.path.open("ab") as torn:
            torn.write(tail)
        append_record(journal.path, {"note": "ä\n\u2028"})
        journal.append({"n": 3})
        journal.close()
        lines = journal.path.read_bytes().split(b"\n")
        whole = [json.loads(line) for line in lines if line and line != b'{"n":2']
        assert [r for r in whole if r != {"n": 2}] == [{"n": 1}, {"note": "ä\n\u2028"}, {"n": 3}]

    def test_a_record_that_does_not_fit_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "e.jsonl"
        file.write_bytes(b"")
        write = os.write
        monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
        with pytest.raises(UserError, match="disk is full"):
            append_record(file, {"n": 1})
        monkeypatch.undo()
        append_record(file, {"n": 2})
        assert file.read_bytes() == b'{"n\n{"n":2}\n'

    def test_a_torn_record_of_another_writer_swallows_none_of_ours(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "e.jsonl")
        journal.append({"n": 1})
        room = journal.path.stat().st_size + 7
        program = f"""
            import resource, signal
            from pathlib import Path
            from codetune.artefact import append_record
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
            append_record(Path({str(journal.path)!r}), {{"note": "longer than the room"}})
        """
        told = _python(program)
        assert told.returncode and "disk is full" in told.stderr
        assert not journal.path.read_bytes().endswith(b"\n")
        for number in (2, 3):
            journal.append({"n": number})
        append_record(journal.path, {"n": 4})
        journal.append({"n": 5})
        journal.close()
        lines = journal.path.read_bytes().splitlines()
        assert [line for line in lines if line.endswith(b"}") and line.count(b"{") == 1] == [
            b'{"n":%d}' % number for number in (1, 2, 3, 4, 5)
        ]

    def test_taking_back_spares_a_record_that_came_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(tmp_path / "e.jsonl")
        journal.append({"n": 1})
        write = os.write

        def short(handle: int, data: bytes) -> int:
            monkeypatch.undo()
            return write(handle, data[:5])

        def amended(handle: int, offset: int, whence: int) -> int:
            append_record(journal.path, {"note": "x"})
            return seek(handle, offset, whence)

        seek = os.lseek
        monkeypatch.setattr(os, "write", short)
        with pytest.raises(UserError, match="disk is full"), pytest.MonkeyPatch.context() as later:
            later.setattr(os, "lseek", amended)
            journal.append({"n": 2})
        journal.append({"n": 3})
        journal.close()
        assert journal.path.read_bytes().splitlines() == [
            *(b'{"n":1}', b'{"n":', b'{"note":"x"}', b'{"n":3}')
        ]

    @pytest.mark.parametrize("tail", [b"", b'{"n":2'])
    def test_opening_spares_a_record_that_comes_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: bytes
    ) -> None:
        file = tmp_path / "e.jsonl"
        file.write_bytes(b'{"n":1}\n' + tail)
        read = os.pread

        def amended(handle: int, count: int, offset: int) -> bytes:
            monkeypatch.undo()
            found = read(handle, count, offset)
            append_record(file, {"note": "x"})
            return found

        monkeypatch.setattr(os, "pread", amended)
        journal = Journal(file)
        journal.append({"n": 3})
        journal.close()
        lines = file.read_bytes().splitlines()
        assert lines == [b'{"n":1}', *filter(None, [tail]), b'{"note":"x"}', b'{"n":3}']

    def test_many_writers_lose_nothing(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "e.jsonl")
        program = f"""
            from pathlib import Path
            from codetune.artefact import append_record
            for n in range(100):
                append_record(Path({str(journal.path)!r}), {{"other": n}})
        """
        other = threading.Thread(target=_python, args=(program,))
        other.start()
        own = 0
        while other.is_alive() or own < 1000:
            journal.append({"own": own})
            own += 1
        journal.close()
        found = list(read_journal(journal.path))
        assert [r["own"] for r in found if "own" in r] == list(range(own))
        assert [r["other"] for r in found if "other" in r] == list(range(100))

    def test_reading_stops_before_a_torn_line(self, tmp_path: Path) -> None:
        file = tmp_path / "e.jsonl"
        file.write_bytes(b'{"a":1}\n{"a":')
        assert list(read_journal(file)) == [{"a": 1}]

    def test_seal_makes_numbered_verified_shards(self, tmp_path: Path) -> None:
        for number in range(2):
            journal = Journal(tmp_path / "events.jsonl")
            journal.append({"n": number})
            shard = journal.seal(ORIGIN)
            assert shard.name == f"events.{number + 1:05d}.jsonl"
            assert artefact.verify(shard) is None
        assert not (tmp_path / "events.jsonl").exists()


@pytest.mark.parametrize("n", range(12))
def test_a_full_disk_is_one_line_and_leaves_the_old(tmp_path: Path, n: int) -> None:
    """Every write fails in turn, through a limit on the file size."""
    file = artefact.write_text(tmp_path / "x.jsonl", "old", ORIGIN)
    program = f"""
        import resource, signal
        from pathlib import Path
        from codetune import artefact
        from codetune.errors import UserError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({n * 10}, {n * 10}))
        try:
            artefact.write_rows(Path({str(file)!r}), [b"x" * 30] * 4, artefact.Origin("s", 1, "c"))
        except UserError as problem:
            print(problem)
            raise SystemExit(2)
    """
    found = _python(program)
    assert found.returncode == 2, found.stderr
    assert "disk is full" in found.stdout and found.stdout.count("\n") == 1
    assert file.read_text() == "old" and artefact.verify(file) is None
    assert not list(tmp_path.glob(".x*"))


@pytest.mark.crash
def test_kill_at_every_file_operation_leaves_nothing_torn(tmp_path: Path) -> None:
    """SIGKILL before the n-th rename, fsync or unlink of a rewrite, for every n."""
    program = """
        import os, signal, sys
        from pathlib import Path
        from codetune import artefact
        folder, fatal, made = Path(sys.argv[1]), int(sys.argv[2]), 0
        def counted(call):
            def wrapped(*args, **kwargs):
                global made
                made += 1
                if made == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)
            return wrapped
        for module, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (os, "unlink")):
            setattr(module, name, counted(getattr(module, name)))
        origin = artefact.Origin("s", 1, sys.argv[3])
        artefact.write_rows(folder / "x.jsonl", [b"{}"] * int(sys.argv[3]), origin)
        with artefact.staged_directory(folder / "model", origin) as staging:
            (staging / "w").write_text(sys.argv[3] * 10)
        print(made)
    """
    folder = tmp_path / "d"
    total = int(_python(program, folder, 0, 2).stdout)
    assert total >= 10, "the sweep has become empty"
    for fatal in range(1, total + 1):
        killed = _python(program, folder, fatal, 3)
        assert killed.returncode == -signal.SIGKILL
        artefact.sweep(folder)
        assert artefact.verify(folder / "model") is None, f"operation {fatal}"
        rows = (folder / "x.jsonl").read_bytes()
        assert rows in (b"{}\n" * 2, b"{}\n" * 3), f"operation {fatal}"
        assert _python(program, folder, 0, 2).returncode == 0
        assert artefact.verify(folder / "x.jsonl") is None
        assert not [p for p in folder.iterdir() if p.name.startswith(".")], f"operation {fatal}"


def _python(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    source = str(Path(artefact.__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, args)],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
    )
