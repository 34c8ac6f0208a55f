"""How fast repo2fim is, against the parsers that bound it; the corpus is the standard library.

    python benchmarks/repo2fim.py [--repo PATH]

Without --repo, the standard library of the running Python (without site-packages) is committed to
a temporary repository. Each figure comes from a process of its own: MB of Python files that are
read per CPU second (user and system, children included), and its peak resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGE = ROOT / "scripts/data_prep/actual_code/repo2fim.py"
READ = """
import sys
from pathlib import Path
from codetune.code.selection import Limits, reason_by_content, reason_by_listing
from codetune.code.sources import open_source

tree, limits = open_source(Path(sys.argv[1])), Limits()
wanted = [entry for entry in tree.entries if reason_by_listing(entry, limits) is None]
read = (data for _, data in tree.read(wanted) if data is not None)
usable = (data for data in read if reason_by_content(data, limits) is None)
"""
CEILINGS = {
    "read and select only": READ + "total = sum(map(len, usable))",
    "and tree-sitter's parse": READ
    + """
import tree_sitter_python
from tree_sitter import Language, Parser
parser = Parser(Language(tree_sitter_python.language()))
for data in usable:
    parser.parse(data)
""",
    "and ast.parse": READ
    + """
import ast, warnings
warnings.simplefilter("ignore")
for data in usable:
    try:
        ast.parse(data)
    except SyntaxError:
        pass
""",
}


def standard_library(folder: Path) -> Path:
    """A repository that holds the standard library's Python files."""
    source, place = Path(sysconfig.get_path("stdlib")), folder / "stdlib"
    left_out = shutil.ignore_patterns("site-packages", "__pycache__", "lib-dynload", "config-*")
    shutil.copytree(source, place, ignore=left_out, symlinks=True)
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.com")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "standard library")):
        subprocess.run(["git", *who, *command], cwd=place, check=True)
    return place


def cost(command: list[str], cwd: Path) -> tuple[float, int]:
    """(CPU seconds of the command and its children, peak resident bytes of any one of them)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
        import resource

        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = [used.ru_utime + used.ru_stime, used.ru_maxrss << 10, done.returncode, done.stderr]
        os.write(writer, json.dumps(told).encode()[-60_000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        seconds, peak, status, errors = json.load(answer)
    os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"{command[1]} failed: {errors}")
    return seconds, peak


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--repo", type=Path)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repo = given.repo.resolve() if given.repo else standard_library(folder)
        listing = subprocess.run(
            ["git", "ls-tree", "-r", "-l", "HEAD"], cwd=repo, check=True, capture_output=True
        )
        lines = [line.split(b"\t")[0].split() for line in listing.stdout.splitlines()
                 if line.endswith(b".py")]  # fmt: skip
        size = sum(int(line[3]) for line in lines) / 1e6
        print(f"{repo.name}: {len(lines)} Python files, {size:.1f} MB")
        commands = {
            name: [sys.executable, "-c", code, str(repo)] for name, code in CEILINGS.items()
        }
        commands["repo2fim, whole stage"] = [sys.executable, str(STAGE), "--repo", str(repo)]
        for name, command in commands.items():
            seconds, peak = cost(command, folder)
            print(f"{name:26} {size / seconds:7.1f} MB/CPU-s {peak / 1e6:8.0f} MB peak RSS")
        made = json.loads((folder / f"data/{repo.name}.fim.jsonl.manifest.json").read_bytes())
        print(f"{made['rows']} rows of {made['counts']['files']['kept']} files")


if __name__ == "__main__":
    main()
