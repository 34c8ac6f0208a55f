"""Lineage over the runs of a real pipeline, from session files and a commit to a merged model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation import tiny

Script = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[2]
MODULE = '''"""Module {n}."""


def total_{n}(values: list[int], start: int = {n}) -> int:
    """Adds up all values, beginning with a start."""
    result = start
    for value in values:
        if value > {n}:
            result += value * {n}
        else:
            result -= value
    return result
'''


def repository(place: Path) -> str:
    """A git repository of a few modules; returns its commit."""
    place.mkdir()
    for n in range(12):
        (place / f"m{n}.py").write_text(MODULE.replace("{n}", str(n)))
    author = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", *author, *words], cwd=place, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, capture_output=True, text=True)
    return head.stdout.strip()


def leaves(node: dict[str, Any]) -> set[tuple[str, str, str | None]]:
    """(kind, path, hash) of every file that no run made."""
    if "files" in node:
        return {leaf for file in node["files"] for leaf in leaves(file)}
    if not node["runs"]:
        return {(node["kind"], node["path"], node["sha256"])}
    return {leaf for step in node["runs"] for leaf in leaves(step)}


def stages(node: dict[str, Any]) -> set[str]:
    found = {node["stage"]} if "stage" in node else set()
    return found.union(*(stages(below) for below in node.get("files", node.get("runs", []))), set())


@pytest.mark.slow
def test_an_adapter_ends_at_the_log_files_and_the_commit(
    tmp_path: Path, run_script: Script
) -> None:
    """Bar: `runs lineage ADAPTER` walks back to the log files and commits."""
    commit = repository(tmp_path / "app")
    logs = tmp_path / "sessions"
    logs.mkdir()
    for file in sorted((ROOT / "data/staging").rglob("*.jsonl")):
        (logs / file.name).write_bytes(file.read_bytes())
    base = tiny.make_base(tmp_path / "base", steps=0)
    words = (
        *("--logs", logs, "--repo", tmp_path / "app", "--model_name_or_path", base),
        *("--train_config", ROOT / "configs/train/smoke.yaml", "--max_length", 256),
        *("--chars_per_token", 8),
        *("--generate_items", 2, "--name", "real", "--force"),
    )
    first = run_script("runs/pipeline.py", *words)
    assert first.returncode in (0, 3), first.stderr

    def told(what: str, *flags: str) -> dict[str, Any]:
        done = run_script("runs/keep.py", "lineage", what, "--json", *flags)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    adapter = told("outputs/real/adapter")
    ends = leaves(adapter)
    sessions = {(kind, path) for kind, path, _ in ends if kind == "session"}
    assert sessions == {("session", f"sessions/{file.name}") for file in logs.iterdir()}
    assert ("commit", "app", commit) in ends
    assert {kind for kind, _, _ in ends} == {"session", "commit", "base", "tokenizer"}
    assert stages(adapter) == {"claude2sft", "repo2fim", "data", "train"}
    assert adapter["state"] == "as recorded"
    if first.returncode == 0:
        assert leaves(told("outputs/real/merged")) >= ends
        assert "merge" in stages(told("outputs/real/merged"))

    # Everything again is up to date, and the lineage of any of those runs is as complete.
    second = run_script("runs/pipeline.py", *words)
    assert second.returncode == first.returncode, second.stderr
    listed = run_script("runs/runs.py", "list", "--json", "--stage", "train").stdout
    newest, oldest = json.loads(listed)
    assert [newest["status"], oldest["status"]] == ["up to date", "finished"]
    assert leaves(told(newest["id"])) == ends
    assert leaves(told("outputs/real/adapter")) == ends
    assert adapter["runs"][0]["id"] == oldest["id"]

    forward = told(next(path for _, path in sorted(sessions)), "--forward")
    made = json.dumps(forward)
    assert "outputs/real/adapter" in made and "data/train.real.jsonl" in made
    drawn = run_script("runs/keep.py", "lineage", "outputs/real/adapter").stdout
    assert commit[:8] in drawn and "code " in drawn
