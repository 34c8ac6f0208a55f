"""Speed of archive-logs: MB per CPU-second of a first copy, and what a run without news costs.

Sessions are made in a temporary folder (below --at; it should be a real disk). Each run is a fresh
process; the median of --repeats is shown.

  python benchmarks/archive_logs.py
  python benchmarks/archive_logs.py --files 5000 --mb 1000 --at ~/tmp
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "data_prep" / "claude_logs" / "archive_logs.py"


def make(home: Path, files: int, megabytes: float) -> None:
    """Sessions of equal size in 50 projects, last touched long ago."""
    for number in range(files):
        session = str(uuid.uuid4())
        record = {"type": "user", "sessionId": session, "cwd": "/home/mira/work"}
        text = {"role": "user", "content": "x" * 1000}
        line = json.dumps({**record, "uuid": str(uuid.uuid4()), "message": text}) + "\n"
        path = home / ".claude" / "projects" / f"-p{number % 50}" / f"{session}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line * max(1, round(megabytes * 1e6 / files / len(line))))
        os.utime(path, (1_700_000_000, 1_700_000_000))


def run(home: Path) -> dict[str, float]:
    """One run: CPU and wall seconds, peak RSS in MB, bytes added."""
    env = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, SCRIPT, "--json"], cwd=home, env=env, capture_output=True, check=True
    )
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    added = json.loads(done.stdout)["metrics"]["bytes_added"]
    return {"cpu": cpu, "wall": seconds, "mb": added / 1e6, "rss": after.ru_maxrss / 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--mb", type=float, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.at) as folder:
        home = Path(folder)
        make(home, options.files, options.mb)
        first = []
        for _ in range(options.repeats):
            shutil.rmtree(home / "data", ignore_errors=True)
            first.append(run(home))
        print(shown("first copy", first))
        print(shown("nothing new", [run(home) for _ in range(options.repeats)]))
        paths = sorted((home / ".claude/projects").rglob("*.jsonl"))
        for path in paths[:50]:
            with path.open("a") as file:
                file.write('{"type": "summary"}\n')
        print(shown("50 of them grew", [run(home)]))


def shown(what: str, runs: list[dict[str, float]]) -> str:
    cpu, wall, mb = (statistics.median(r[key] for r in runs) for key in ("cpu", "wall", "mb"))
    rate = f", {mb / cpu:,.0f} MB per CPU-second" if mb > 1 else ""
    peak = max(r["rss"] for r in runs)
    return f"{what}: {mb:,.1f} MB, {cpu:.2f} s CPU, {wall:.2f} s, {peak:.0f} MB RSS{rate}"


if __name__ == "__main__":
    main()
