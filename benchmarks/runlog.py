"""What the run log costs: a training step, the disk, and the answer to a question.

    python benchmarks/runlog.py [--points 1000000] [--seconds 10] [--url postgresql://...]

Four parts, each in temporary folders:
  calls    one call of `Run.metric` in a loop of 50 steps a second with 4 metrics a step, while the
           background thread works; also with the database locked, and with a journal of another
           run to catch up with
  training how much a loop of small matrix products slows down beside the background thread
  rows     points a CPU second from journals into tables, and bytes of the file a point: points of
           one run, and of ten runs that take turns as runs at work at the same time do
  answers  CPU seconds of `runs show` and `runs compare` over these points, after imports
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import runpy
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from codetune.runlog import Run, create_run, events, open_run  # noqa: E402
from codetune.runlog.store import database, index, revision  # noqa: E402
from codetune.runlog.store.database import Place  # noqa: E402

KEYS = ("train_loss", "learning_rate", "grad_norm", "eval_loss")
TURN = 100  # points of a run before it is the next one's turn
ROUNDS = 5


def filled(root: Path, points: int, name: str) -> Path:
    """The journal of a finished training run with so many points, a millisecond apart."""
    journal = events.journal_path(root, create_run(root, stage="train", name=name))
    now = int(time.time() * 1000)
    process = {"machine": "none", "pid": 1, "started": now}
    started = {"version": 1, "seed": 1, "argv": [], "params": {}, "process": process}
    code = {"commit": None, "diff_sha256": None, "environment_hash": "e", "environment": {}}
    lines = [{"ts": now, "kind": "started", **started, **code}]
    lines += [
        {"ts": now, "kind": "define", "key": key, "unit": "", "direction": "lower", "version": 1}
        for key in KEYS
    ]
    lines += [
        {"ts": now + n, "kind": "metric", "key": KEYS[n % 4], "version": 1, "step": n // 4,
         "value": 2.0 + 1 / (n + 1) + (n * 7919 % 1000) / 1e4}
        for n in range(points)
    ]  # fmt: skip
    lines.append({"ts": now + points, "kind": "finished", "status": "finished", "reason": ""})
    with journal.open("a") as file:
        file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    return journal


def calls(seconds: float, url: str | None) -> None:
    def logged(what: str, root: Path, lock: bool = False) -> None:
        run = open_run(root, stage="train", config={}, database_url=url)
        if lock:
            holder = sqlite3.connect(root / "logs/runs.db", isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
        show(what, timed(run, seconds))
        if lock:
            holder.execute("ROLLBACK")
        run.finish("finished")

    with tempfile.TemporaryDirectory() as name:
        logged("a call", Path(name))
    with tempfile.TemporaryDirectory() as name:
        filled(Path(name), 500_000, "other")
        logged("a call, with 500,000 points to catch up with", Path(name))
    if url is None:
        with tempfile.TemporaryDirectory() as name:
            logged("a call, with the database locked", Path(name), lock=True)


def timed(run: Run, seconds: float) -> list[float]:
    costs, until, step = [], time.monotonic() + seconds, 0
    while time.monotonic() < until:
        for key in KEYS:
            began = time.perf_counter()
            run.metric(key, 1.0, step)
            costs.append(time.perf_counter() - began)
        step += 1
        time.sleep(0.02)
    return costs


def show(what: str, costs: list[float]) -> None:
    ranked = sorted(cost * 1e6 for cost in costs)
    p50, p99, mean = ranked[len(ranked) // 2], ranked[len(ranked) * 99 // 100], sum(ranked)
    print(
        f"{what}: mean {mean / len(ranked):.1f} us, p50 {p50:.1f}, p99 {p99:.1f}, "
        f"max {ranked[-1]:.0f} ({len(ranked)} calls)"
    )


def training(seconds: float) -> None:
    """Steps of 2 ms or so, each of a hundred small operations that let go of the interpreter."""
    import torch

    torch.set_num_threads(1)
    weights = torch.randn(96, 96) / 10

    def steps(log: Callable[[int], None]) -> float:
        began, n = time.monotonic(), 0
        while time.monotonic() - began < seconds / ROUNDS:
            state = weights
            for _ in range(100):
                state = torch.tanh(state @ weights)
            log(n)
            n += 1
        return n / (time.monotonic() - began)

    with tempfile.TemporaryDirectory() as name:
        rounds = []
        for n in range(ROUNDS):  # in turns, since other programs of the machine disturb both
            rounds.append([steps(abs)])
            filled(Path(name), 100_000, f"other-{n}")
            run = open_run(Path(name), stage="train", config={})
            rounds[-1].append(steps(functools.partial(run.metric, "train_loss", 1.0)))
            run.finish("up to date")
    alone, beside = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(
        f"training loop: {alone:.0f} steps a second alone, {beside:.0f} with the run log and "
        f"100,000 points to catch up with ({100 * (1 - beside / alone):.1f} % fewer)"
    )


def rows(root: Path, points: int, n_runs: int) -> None:
    """Fills a project with runs that take turns, and measures their tables."""
    journals = [filled(root, points // n_runs, f"run-{n}") for n in range(n_runs)]
    place = Place(root / database.DEFAULT)
    revision.prepare(place)
    opened = database.engine(place)
    limit = 20_000 if n_runs == 1 else TURN
    began, waiting = time.process_time(), list(journals)
    while waiting:
        waiting = [j for j in waiting if index.index_some(opened, j, limit) == limit]
    used = time.process_time() - began
    assert place.file is not None
    size = place.file.stat().st_size
    with contextlib.closing(sqlite3.connect(place.file)) as plain:
        (held,) = plain.execute("SELECT count(*) FROM metric").fetchone()
    print(
        f"{held:,} points of {n_runs} runs: {held / used:,.0f} points a CPU second into the "
        f"tables, {size / held:.1f} bytes a point (bar: at most 32)"
    )


def answers(root: Path, words: list[list[str]]) -> None:
    """CPU of each question, after a project of one small run was asked the same."""
    with tempfile.TemporaryDirectory() as name:
        small = Path(name)
        for n in range(10):
            filled(small, 100, f"run-{n}")
        for asked in words:
            cost(small, asked)
    for asked in words:
        costs = sorted(cost(root, asked) for _ in range(5))
        print(f"runs {' '.join(asked)}: {costs[2]:.2f} s of CPU (bar: under 0.5)")


def cost(root: Path, words: list[str]) -> float:
    before = Path.cwd()
    os.chdir(root)
    began, out = time.process_time(), io.StringIO()
    try:
        sys.argv = ["runs.py", *words]
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            runpy.run_path(str(ROOT / "scripts/runs/runs.py"), run_name="__main__")
    finally:
        os.chdir(before)
    if "run-0" not in out.getvalue():
        raise SystemExit(f"runs {' '.join(words)} gave no answer")
    return time.process_time() - began


def main() -> None:
    layout = argparse.RawTextHelpFormatter
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    asked.add_argument("--points", type=int, default=1_000_000)
    asked.add_argument("--seconds", type=float, default=10.0, help="of each loop that logs")
    asked.add_argument("--url", help="of a PostgreSQL server, for the calls")
    asked.add_argument("--part", choices=("calls", "training", "rows"), action="append")
    given = asked.parse_args()
    parts = given.part or ["calls", "training", "rows"]
    if "calls" in parts:
        calls(given.seconds, given.url)
    if "training" in parts:
        training(given.seconds)
    if "rows" in parts:
        for n_runs in (1, 2, 10):
            with tempfile.TemporaryDirectory() as name:
                rows(Path(name), given.points, n_runs)
                pair = [["compare", "run-0", "run-1"]] if n_runs > 1 else []
                answers(Path(name), [["show", "run-0"], ["list"], *pair])


if __name__ == "__main__":
    main()
