"""Many processes write into one run log at once, and some are killed: nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codetune.runlog import events
from codetune.runlog.keeping.rebuild import reindex
from tests.runlog.asking import get_run, list_runs

pytestmark = pytest.mark.crash
# Says each tenth step after it was logged. A victim goes on until it is killed.
WRITER = """
import sys, time
from pathlib import Path
from codetune.runlog import flusher, open_run
flusher.FLUSH_SECONDS = 0.2
root, url, name, points = sys.argv[1:]
run = open_run(Path(root), stage="train", config={"name": name}, name=name, database_url=url)
print(run.id, flush=True)
step = 0
while step < int(points) or int(points) == 0:
    run.metric("loss", float(step), step)
    if step % 10 == 0:
        print(step, flush=True)
        time.sleep(0.01)
    step += 1
run.finish("finished")
"""


@dataclass
class Writer:
    """A process that logs; as a victim it is killed once it has told of step `limit`."""

    process: subprocess.Popen[str]
    limit: int | None
    run_id: str = ""
    told: int = -1
    said: str = ""
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _listen(self) -> None:
        self.run_id = self.process.stdout.readline().strip()
        for line in self.process.stdout:
            self.told = int(line)
            if self.limit is not None and self.told >= self.limit:
                self.process.kill()
                self.limit = None
        self.said = self.process.stderr.read()
        self.process.wait()


@pytest.fixture
def seed() -> int:
    """Replay with CODETUNE_SEED."""
    chosen = int(os.environ.get("CODETUNE_SEED", random.SystemRandom().randrange(10**6)))
    print("seed", chosen)
    return chosen


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of the database; empty for the SQLite file of the project."""
    if request.param == "sqlite":
        return ""
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def writers(
    request: pytest.FixtureRequest, root: Path, tmp_path: Path, url: str, seed: int
) -> Iterator[list[Writer]]:
    """So many writers, victims among them, and points: they start at once in a fresh project."""
    n_writers, n_victims, points = request.param
    chance = random.Random(seed)
    limits = {n: chance.randrange(points) for n in chance.sample(range(n_writers), n_victims)}
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    started = []
    for n in range(n_writers):
        wanted = "0" if n in limits else str(points)
        words = [sys.executable, "-c", WRITER, str(tmp_path), url, f"{seed}-{n}", wanted]
        pipe = subprocess.PIPE
        child = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment)
        started.append(Writer(child, limits.get(n)))
    for writer in started:
        writer.thread.join(120)
    yield started
    for writer in started:
        writer.process.kill()
        writer.process.wait()
        writer.process.stdout.close()
        writer.process.stderr.close()


few = pytest.param((3, 1, 300), id="3x300")
many = pytest.param((8, 3, 1000), id="8x1000", marks=pytest.mark.slow)


@pytest.mark.parametrize("writers", [few, many], indirect=True)
def test_writers_with_kills_among_them_lose_nothing(
    writers: list[Writer], tmp_path: Path, url: str
) -> None:
    codes = [writer.process.returncode for writer in writers]
    victims = [w for w in writers if w.process.returncode == -signal.SIGKILL]
    assert sorted(set(codes)) == [-signal.SIGKILL, 0]
    assert "".join(writer.said for writer in writers) == "", "no warning, no locked database"
    if not url:
        assert sound(tmp_path / "logs/runs.db")

    rows = {row.id: row for row in list_runs(tmp_path, database_url=url)}
    assert sorted(rows) == sorted(writer.run_id for writer in writers)
    for writer in writers:
        journal = events.journal_path(tmp_path, writer.run_id)
        steps = [r.fields["step"] for r in events.read(journal) if r.kind == "metric"]
        assert steps == list(range(len(steps)))
        assert len(steps) > writer.told, "what it had logged is in its journal"
        (summary,) = get_run(tmp_path, writer.run_id, database_url=url).metrics
        assert (summary.count, summary.last) == (len(steps), float(len(steps) - 1))
        assert (summary.first, summary.min, summary.max) == (0.0, 0.0, float(len(steps) - 1))
        assert rows[writer.run_id].status == ("crashed" if writer in victims else "finished")

    before = [get_run(tmp_path, run_id, database_url=url) for run_id in rows]
    reindex(tmp_path, database_url=url)
    assert [get_run(tmp_path, run_id, database_url=url) for run_id in rows] == before


def sound(file: Path) -> bool:
    """What SQLite itself says of the file, before anyone else writes to it."""
    connection = sqlite3.connect(file)
    whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    loose = connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.close()
    return whole and not loose
