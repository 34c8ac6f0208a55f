"""Speed and memory of claude2sft: MB of logs per CPU second, peak RSS.

Without --src the corpus is data/staging/claude_logs, repeated under new ids until it has --mb
megabytes. Each measurement runs in a fresh process on one core; the median of --repeats is shown.

  python benchmarks/claude2sft.py --mb 50
  python benchmarks/claude2sft.py --src ~/.claude/projects
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("read", "convert")


def repeated(target: Path, megabytes: float) -> None:
    """Copies of the staging sessions with other ids, so that none is a duplicate."""
    source = ROOT / "data" / "staging" / "claude_logs"
    files = [(path, path.read_bytes()) for path in sorted(source.rglob("*.jsonl"))]
    written = number = 0
    while written < megabytes * 1e6:
        for path, data in files:
            place = target / f"copy-{number}" / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            # Ids are version 4 UUIDs: the fixed digit makes room for the number of the copy.
            place.write_bytes(data.replace(b"-4", f"-4{number:x}".encode()))
            written += len(data)
        number += 1


def measure(step: str, sources: list[Path]) -> dict[str, float]:
    """Runs one step in this process; CPU seconds, peak RSS in MB, rows."""
    from codetune import sample
    from codetune.logs.convert import Account, convert, survey
    from codetune.logs.discover import discover
    from codetune.logs.rows import RowOptions

    account = Account()
    files = discover(sources, account.files)
    megabytes = sum(file.path.stat().st_size for file in files) / 1e6
    started = time.process_time()
    learned = survey(files, account.files, subagents=True)
    rows = written = 0
    rejected: list[str] = []

    def reject(_row: dict[str, Any], reason: str) -> None:
        rejected.append(reason)

    if step == "convert":
        made = convert(learned, RowOptions(), account, subagents=True, reject=reject)
        for row in made:
            rows, written = rows + 1, written + len(sample.dump(row))
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "MB": megabytes,
        "files": len(files),
        "cpu_s": seconds,
        "MB_per_cpu_s": megabytes / seconds,
        "peak_rss_MB": peak,
        "rows": rows,
        "rows_MB": written / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--src", type=Path, nargs="+")
    parser.add_argument("--mb", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(measure(given.step, given.src)))
        return
    with tempfile.TemporaryDirectory() as folder:
        sources = given.src or [Path(folder)]
        if not given.src:
            repeated(Path(folder), given.mb)
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, "--src", *map(str, sources)]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                for _ in range(given.repeats)
            ]
            median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            shown = "  ".join(f"{key} {value:.1f}" for key, value in median.items())
            print(f"{step:8} {shown}")


if __name__ == "__main__":
    main()
