"""How fast rows are merged and split, and how little memory it takes.

    python benchmarks/merge_and_split.py --megabytes 250

The corpus is made up: chat rows of a mean 7.6 KB (log-normal), 20 rows a group, one in ten a copy
of an earlier row, in four files. Reported: MB of input per CPU-second of the whole stage (read,
validate, hash, split, write both sides twice as with --name, certificate), and peak RSS, for the
same bytes in rows of different lengths: memory follows the number of rows, not their text.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import string
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
SCRIPT = ROOT / "scripts/data_prep/merge_and_split.py"


def make_corpus(folder: Path, megabytes: int, mean: int) -> tuple[int, int]:
    """Writes four row files; returns (bytes, rows)."""
    rng = random.Random(0)
    text = "".join(rng.choices(string.ascii_letters + "     \n\t\"'(){}=.", k=1 << 20))
    size, rows, kept = 0, 0, b""
    files = [(folder / f"part{i}.sft.jsonl").open("wb") for i in range(4)]
    while size < megabytes * 1_000_000:
        if rng.random() >= 0.1 or not kept:
            length = min(int(rng.lognormvariate(0, 0.8) * mean * 0.7), len(text) // 2)
            start = rng.randrange(len(text) // 2)
            messages = [
                {"role": "user", "content": text[start : start + length // 3]},
                {"role": "assistant", "content": text[start : start + length], "train": True},
            ]
            meta = {"source": f"s{rows % 3}", "group": f"session-{rows // 20}"}
            row = {"id": f"r{rows}", "task": "chat", "messages": messages, "meta": meta}
            kept = json.dumps(row).encode() + b"\n"
        size += files[rows % 4].write(kept)
        rows += 1
    for file in files:
        file.close()
    return size, rows


def measure(megabytes: int, mean: int) -> None:
    """Makes a corpus, runs the stage on it in a process of its own, prints one line."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        data.mkdir()
        size, rows = make_corpus(data, megabytes, mean)
        command = [sys.executable, str(SCRIPT), *map(str, sorted(data.glob("*.jsonl")))]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [*command, "--name", "full"], cwd=place, env=ENV, check=True, stderr=subprocess.DEVNULL
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        certificate = json.loads((data / "split.full.json").read_bytes())
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    kept = certificate["train"]["rows"] + certificate["eval"]["rows"]
    print(
        f"{size / 1e6:,.0f} MB, {rows:,} rows of {size / rows:,.0f} B ({kept:,} kept): "
        f"{spent:.1f} CPU s, {size / 1e6 / spent:.0f} MB/CPU-s, "
        f"highest peak RSS so far {after.ru_maxrss / 1024:.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=250)
    megabytes = parser.parse_args().megabytes
    # The peak is that of all children so far, so the rows grow fewer as the text grows longer.
    for size, mean in ((megabytes, 40_000), (megabytes, 7_600), (megabytes // 4, 7_600)):
        measure(size, mean)


if __name__ == "__main__":
    main()
