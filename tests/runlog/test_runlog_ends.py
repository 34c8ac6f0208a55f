"""The two ends of a journal, whatever others wrote behind the run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.artefact import append_record
from codetune.errors import UserError
from codetune.runlog import active_runs, ends, events, latest, newest_adapter, process
from codetune.runlog.local import read_ends, read_run
from codetune.runlog.progress import progress_of
from tests.runlog.test_runlog_local import FINISHED, IDS, created, started, written

GONE = started(process.Process(process.current().machine, 2**22 + 1, 1))
NOTE = {"ts": 99_000, "kind": "note", "text": "n" * 4000}
ADAPTER = {"ts": 8_000, "kind": "output", "role": "adapter", "path": "outputs/a", "sha256": None}

lines = st.one_of(
    st.binary(max_size=30).map(lambda text: text.replace(b"\n", b" ")),
    st.sampled_from([b"", b'{"kind":"note","text":"x"}', b'{"kind":"metric","ts":5}', b"[1]"]),
    st.integers(60_000, 200_000).map(lambda length: b"x" * length),
)


@given(parts=st.lists(lines, max_size=8), torn=st.sampled_from([b"", b"{", b"y" * 70_000]))
def test_backwards_is_forwards_turned_round(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], torn: bytes
) -> None:
    journal = tmp_path_factory.mktemp("ends") / "e.jsonl"
    journal.write_bytes(b"".join(part + b"\n" for part in parts) + torn)
    assert list(ends.backwards(journal)) == list(events.read(journal))[::-1]
    assert list(ends.last_ones(journal)) == list(ends.own(journal))[::-1]


def test_backwards_over_many_blocks(tmp_path: Path) -> None:
    journal = written(tmp_path, *({"kind": "metric", "n": n} for n in range(20_000)))
    assert journal.stat().st_size > 8 * 64 * 1024
    assert [r.fields["n"] for r in ends.backwards(journal)] == list(range(20_000))[::-1]


def test_how_far_back(tmp_path: Path) -> None:
    journal = written(tmp_path, *({"kind": "metric", "n": n} for n in range(10)), NOTE)
    every = list(ends.own(journal))
    size = every[9].end - every[8].start
    assert [r.fields["n"] for r in ends.last_ones(journal, within=size)] == [9, 8]
    assert [r.fields["n"] for r in ends.last_ones(journal, after=every[7].start)] == [9, 8, 7]
    assert list(ends.last_ones(journal, after=journal.stat().st_size)) == []


@pytest.mark.parametrize("notes", [0, 17, 400])
@pytest.mark.parametrize(
    ("records", "status"),
    [
        ([created(IDS[0])], "created"),
        ([created(IDS[0]), {**FINISHED, "status": "interrupted"}], "interrupted"),
        ([created(IDS[0]), started()], "running"),
        ([created(IDS[0]), GONE], "crashed"),
        ([created(IDS[0]), started(), FINISHED], "finished"),
    ],
)
def test_notes_change_nothing(
    tmp_path: Path, records: list[dict[str, object]], status: str, notes: int
) -> None:
    head, *rest = records
    journal = written(tmp_path, head, *[NOTE] * notes, *rest, *[NOTE] * notes)
    found, whole, progress = read_ends(journal), read_run(journal), progress_of(journal)
    assert found is not None and progress is not None
    assert found == whole == progress.run
    assert found.status == status


def test_a_damaged_line_hides_no_end(tmp_path: Path) -> None:
    journal = written(tmp_path, created(IDS[0]), started(), FINISHED)
    with journal.open("ab") as out:
        out.write(b'{"ts":1,"kind":"no\n{"torn')
    found = read_ends(journal)
    assert found is not None and found.status == "finished"


def test_no_beginning_and_nothing(tmp_path: Path) -> None:
    assert read_ends(written(tmp_path, started(), FINISHED)) is None
    assert read_ends(written(tmp_path, run_id=IDS[1])) is None
    assert ends.both(events.journal_path(tmp_path, IDS[1])) == []


def test_long_journals_cost_no_more_than_short_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished run with a tag, a crashed one and one at work: of each only the ends are read."""
    point = {"ts": 5_000, "kind": "metric", "key": "loss", "version": 1, "value": 1.0}
    points = [json.dumps({**point, "step": step}) for step in range(100_000)]
    told = {0: (started(), [ADAPTER, FINISHED, NOTE]), 1: (GONE, []), 2: (started(), [NOTE])}
    for number, (start, end) in told.items():
        journal = written(tmp_path, created(IDS[number]), start, run_id=IDS[number])
        with journal.open("a") as out:
            out.write("\n".join(points) + "\n")
        for record in end:
            append_record(journal, record)
    spent = time.process_time()
    assert [row.id for row in active_runs(tmp_path)] == [IDS[2]]
    assert newest_adapter(tmp_path) == Path("outputs/a")
    spent = time.process_time() - spent
    before = time.process_time()
    whole = latest(tmp_path, "train")
    assert whole is not None and (whole.id, whole.metrics) == (IDS[0], {"loss": 1.0})
    assert spent < (time.process_time() - before) / 4
    assert "n-1" in capsys.readouterr().err


def test_the_adapter_of_the_newest_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train first"):
        newest_adapter(tmp_path)
    again = {**ADAPTER, "path": "outputs/b"}
    plot = {**ADAPTER, "role": "plot", "path": "outputs/p.png"}
    damaged = {"ts": 1, "kind": "output", "role": "adapter"}
    written(tmp_path, created(IDS[0]), started(), ADAPTER, again, plot, FINISHED, NOTE)
    written(tmp_path, created(IDS[1], "merge"), started(), FINISHED, run_id=IDS[1])
    assert newest_adapter(tmp_path) == Path("outputs/b")
    written(tmp_path, created(IDS[2]), started(), damaged, FINISHED, run_id=IDS[2])
    with pytest.raises(UserError, match="train first"):
        newest_adapter(tmp_path)
