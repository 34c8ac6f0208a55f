"""repo2fim as typed in a shell."""

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from codetune import artefact

SCRIPT = "data_prep/actual_code/repo2fim.py"
MODULE = '''"""Module number {n}."""


def between_{n}(value, lower, upper):
    """Says whether value lies between the two."""
    if lower > upper:
        raise ValueError("the borders are swapped: " + repr((lower, upper)))
    return lower <= value <= upper


class Range{n}:
    def __init__(self, lower, upper):
        self.lower, self.upper = lower, upper

    def holds(self, value):
        return between_{n}(value, self.lower, self.upper)
'''


def commit(place: Path, files: dict[str, str]) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    who = ["-c", "user.name=A Person", "-c", "user.email=person@example.com"]
    commands = (["init", "-q"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "first"])
    for command in commands:
        subprocess.run(["git", *who, *command], cwd=place, check=True, capture_output=True)
    return place


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    files = {f"src/m{n}.py": MODULE.replace("{n}", str(n)) for n in range(6)}
    return commit(tmp_path / "app", {**files, "README.md": "# hello\n"})


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_documented_command(run_script, repo, tmp_path):
    done = run_script(SCRIPT, "--repo", repo, "--out", "data/train.fim.jsonl")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "data/train.fim.jsonl"
    assert artefact.verify(out) is None
    got = rows(out)
    assert {row["meta"]["path"] for row in got} == {f"src/m{n}.py" for n in range(6)}
    for row in got:
        text = (repo / row["meta"]["path"]).read_text()
        assert row["prefix"] + row["middle"] + row["suffix"] == text
    assert "other_language" in done.stderr
    counts = artefact.read_manifest(out)["counts"]
    assert counts["files"] == {"in": 7, "kept": 6, "dropped": {"other_language": 1}}
    assert counts["rows"]["kept"] == len(got)
    assert str(tmp_path) not in out.read_text()


def test_again_it_is_up_to_date_and_a_new_commit_makes_it_anew(run_script, repo, tmp_path):
    assert run_script(SCRIPT, "--repo", repo).returncode == 0
    out = tmp_path / "data/app.fim.jsonl"
    before = out.stat().st_mtime_ns
    assert "up to date" in run_script(SCRIPT, "--repo", repo).stderr
    assert out.stat().st_mtime_ns == before
    commit(repo, {"src/new.py": MODULE.replace("{n}", "7")})
    assert run_script(SCRIPT, "--repo", repo).returncode == 0
    assert "src/new.py" in out.read_text()


def test_equal_bytes_whatever_the_place_order_hash_seed_or_locale(run_script, repo, tmp_path):
    other = commit(tmp_path / "lib", {"lib.py": MODULE.replace("{n}", "lib")})
    clone = tmp_path / "far/away/app"
    subprocess.run(["git", "clone", "-q", str(repo), str(clone)], check=True)
    (tmp_path / "cwd").mkdir()
    first = run_script(SCRIPT, "--repo", repo, other, "--out", "a.fim.jsonl")
    env = {"PYTHONHASHSEED": str(random.randrange(1, 10**6)), "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    second = run_script(
        SCRIPT, "--repo", other, "--repo", clone, "--out", tmp_path / "b.fim.jsonl",
        cwd=tmp_path / "cwd", env=env,
    )  # fmt: skip
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert (tmp_path / "a.fim.jsonl").read_bytes() == (tmp_path / "b.fim.jsonl").read_bytes()


def test_flags_of_the_predecessor_are_understood(run_script, repo, tmp_path):
    flags = ["--per_file", 2, "--max_len", 1600, "--seed", 7, "--out", "o.fim.jsonl"]
    done = run_script(SCRIPT, "--repo", repo, *flags)
    assert done.returncode == 0, done.stderr
    assert "max_len is read as max_context_chars" in done.stderr and "no effect" in done.stderr
    per_file: dict[str, int] = {}
    for row in rows(tmp_path / "o.fim.jsonl"):
        per_file[row["meta"]["path"]] = per_file.get(row["meta"]["path"], 0) + 1
        assert (
            row["prefix"] + row["middle"] + row["suffix"]
            == (repo / row["meta"]["path"]).read_text()
        )
    assert max(per_file.values()) <= 2


def test_rejects_name_each_file_left_out(run_script, repo, tmp_path):
    done = run_script(SCRIPT, "--repo", repo, "--rejects", "left.jsonl")
    assert done.returncode == 0, done.stderr
    expected = {"repo": "app", "path": "README.md", "reason": "other_language"}
    assert rows(tmp_path / "left.jsonl") == [expected]


def test_a_repository_without_code_beside_one_with_code_is_a_warning(run_script, repo, tmp_path):
    other = commit(tmp_path / "docs", {"README.md": "# only words\n"})
    done = run_script(SCRIPT, "--repo", repo, "--repo", other)
    assert done.returncode == 0, done.stderr
    assert "docs: no usable Python code" in done.stderr
    assert (tmp_path / "data/repos.fim.jsonl").exists()


@pytest.mark.parametrize(
    ("files", "flags", "says"),
    [
        ({"README.md": "# words\n"}, [], "no usable Python code"),
        ({}, [], "no usable Python code"),
        ({"a.py": MODULE}, ["--rev", "v9"], "no commit 'v9'"),
        ({"a.py": MODULE}, ["--repo", "absent"], "no such folder"),
        ({"a.py": MODULE}, ["--min_middle", "900"], "swap them"),
        ({"a.py": MODULE}, ["--per_fil", "3"], "did you mean per_file"),
        ({"a.py": MODULE}, ["--line_share", "1.5"], "line_share"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run_script, tmp_path, files, flags, says):
    place = commit(tmp_path / "app", files)
    done = run_script(SCRIPT, "--repo", place, *flags)
    assert done.returncode == 2, done.stderr
    complaints = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(complaints) == 1 and says in complaints[0]
    assert "Traceback" not in done.stderr
    made = list((tmp_path / "data").glob("*")) if (tmp_path / "data").exists() else []
    assert made == []


def test_a_folder_without_git_works(run_script, tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/a.py").write_text(MODULE.replace("{n}", "1"))
    done = run_script(SCRIPT, "--repo", "plain")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "data/plain.fim.jsonl")[0]["meta"]["rev"] is None


def test_help_is_quick_and_the_schema_is_json(run_script):
    used = os.times().children_user + os.times().children_system
    done = run_script(SCRIPT, "--help")
    used = os.times().children_user + os.times().children_system - used
    assert done.returncode == 0 and "--per_file" in done.stdout
    assert used < 0.5  # the bar is 0.3 s on a quiet machine; tests share theirs
    schema = json.loads(run_script(SCRIPT, "--schema").stdout)
    assert schema["properties"]["per_file"]["default"] == 6


def test_this_repository(run_script, root, tmp_path):
    done = run_script(SCRIPT, "--repo", root / "src", "--out", "own.fim.jsonl", "--json")
    if done.returncode == 2 and "no commit yet" in done.stderr:
        pytest.skip("the repository has no commit")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["files"]["kept"] >= 10
