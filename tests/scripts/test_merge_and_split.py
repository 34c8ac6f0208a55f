"""The data stage as a user runs it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codetune.corpus import certificate

SCRIPT = "data_prep/merge_and_split.py"
Runner = Callable[..., subprocess.CompletedProcess[str]]


def chat(name: str, group: str, text: str) -> dict[str, Any]:
    return {
        "id": name,
        "task": "chat",
        "messages": [
            {"role": "user", "content": text},
            {"role": "assistant", "content": text.upper(), "train": True},
        ],
        "meta": {"source": "claude", "group": group},
    }


def fim(name: str, group: str, text: str) -> dict[str, Any]:
    meta = {"source": "repo", "group": group}
    return {"id": name, "task": "fim", "prefix": text, "middle": "m", "suffix": "", "meta": meta}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two inputs with the names that other stages give: 30 groups, some copies, some bad rows."""
    folder = tmp_path / "data"
    folder.mkdir()
    chats = [chat(f"c{i}", f"session{i // 3}", f"question {i % 50}") for i in range(60)]
    fims = [fim(f"f{i}", f"file{i // 4}", f"code {i}") for i in range(40)]
    lines = [*map(json.dumps, chats), "{broken", ""]
    (folder / "train.clean.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "train.fim.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fims))
    return folder


def glob(data: Path) -> list[str]:
    """What the shell makes of data/*.jsonl."""
    return [f"data/{path.name}" for path in sorted(data.glob("*.jsonl"))]


def hashes(data: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(data.iterdir())}


def test_the_documented_command_twice_in_a_row(run_script: Runner, data: Path) -> None:
    flags = ("--name", "full", "--eval_frac", "0.15", "--json")
    first = run_script(SCRIPT, *glob(data), *flags)
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    account = report["counts"]["rows"]
    assert account["in"] == 101
    assert account["in"] == account["kept"] + sum(account["dropped"].values())
    assert account["dropped"]["not_json"] == 1 and account["kept"] == 90
    for side in ("train", "eval"):
        named = data / f"{side}.full.jsonl"
        assert named.read_bytes() == (data / f"{side}.jsonl").read_bytes()
        assert report["metrics"][f"{side}_rows"] == len(named.read_bytes().splitlines())
    before = hashes(data)

    second = run_script(SCRIPT, *glob(data), *flags)
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["status"] == "up to date"
    assert second.stderr.count("(made by this stage)") == 4
    assert "left out: data/train.full.jsonl" in second.stderr
    assert hashes(data) == before


def test_bytes_do_not_depend_on_order_directory_locale_or_hash_seed(
    run_script: Runner, data: Path, tmp_path: Path
) -> None:
    assert run_script(SCRIPT, *glob(data)).returncode == 0
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    inputs = []
    for name in ("train.fim.jsonl", "train.clean.jsonl"):
        lines = (data / name).read_bytes().splitlines()
        random.Random(3).shuffle(lines)
        inputs.append(elsewhere / f"x{name}")
        inputs[-1].write_bytes(b"\n".join(lines))
    done = run_script(
        SCRIPT, *inputs, cwd=elsewhere, env={"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "UTC+9"}
    )
    assert done.returncode == 0, done.stderr
    for name in ("train.jsonl", "eval.jsonl", "split.json"):
        assert (elsewhere / "data" / name).read_bytes() == (data / name).read_bytes()


def test_bare_reads_the_folder_and_growth_moves_nothing(run_script: Runner, data: Path) -> None:
    assert run_script(SCRIPT, "--min_eval", 30).returncode == 0
    before = json.loads((data / "split.json").read_bytes())
    assert before["eval"]["rows"] >= 30
    more = [chat(f"n{i}", f"new{i}", f"new question {i}") for i in range(300)]
    (data / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    assert run_script(SCRIPT, "--min_eval", 5).returncode == 0
    after = json.loads((data / "split.json").read_bytes())
    for mine, other in (("train", "eval"), ("eval", "train")):
        assert set(before[mine]["groups"]) <= set(after[mine]["groups"])
        assert not set(before[mine]["groups"]) & set(after[other]["groups"])


def test_verify_holds_then_refuses_an_overlap(run_script: Runner, data: Path) -> None:
    run_script(SCRIPT, *glob(data), "--name", "full")
    held = run_script(SCRIPT, "--verify", "--name", "full")
    assert held.returncode == 0 and "share nothing" in held.stderr
    with (data / "train.full.jsonl").open("ab") as train:
        train.write((data / "eval.full.jsonl").read_bytes().splitlines(keepends=True)[0])
    broken = run_script(SCRIPT, "--verify", "--name", "full")
    assert broken.returncode == 3
    assert "refused" in broken.stderr and "split.full.json" in broken.stderr
    assert run_script(SCRIPT, "--verify").returncode == 0  # the plain names are another split


def test_rejects_keeps_dropped_rows_with_their_reason(run_script: Runner, data: Path) -> None:
    done = run_script(SCRIPT, *glob(data), "--rejects", "data/rejects.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    dropped = json.loads(done.stdout)["counts"]["rows"]["dropped"]
    rejects = [json.loads(line) for line in (data / "rejects.jsonl").read_text().splitlines()]
    assert {r["reason"] for r in rejects} == set(dropped)
    assert len(rejects) == sum(dropped.values())
    assert {
        "file": "data/train.clean.jsonl",
        "line": 61,
        "reason": "not_json",
        "row": "{broken",
    } in rejects


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data/none.jsonl"], "data/none.jsonl: no such file"),
        (["data/*.xyz.jsonl"], "no file matches"),
        (["data/text.jsonl"], "not one valid row in 2 lines (line 1: not_json)"),
        (["data/one.jsonl"], "two groups at least"),
        (["data/empty.jsonl"], "no valid row"),
        (["data/train.fim.jsonl", "--name", "../x"], "cannot hold a path"),
        (["--verify"], "no such certificate"),
        (["data/train.fim.jsonl", "--eval_farc", "0.1"], "eval_frac"),
        (["data/train.fim.jsonl", "--eval_frac", "1.5"], "eval_frac"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    run_script: Runner, data: Path, arguments: list[str], said: str
) -> None:
    (data / "text.jsonl").write_text("some notes\nand more\n")
    (data / "one.jsonl").write_text(json.dumps(chat("a", "g", "q")) + "\n")
    (data / "empty.jsonl").write_text("")
    before = hashes(data)
    done = run_script(SCRIPT, *arguments)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and said in errors[0]
    assert "Traceback" not in done.stderr
    assert hashes(data) == before  # nothing half-written


def test_a_users_own_train_file_is_not_overwritten(run_script: Runner, data: Path) -> None:
    mine = json.dumps(chat("mine", "g", "my own")) + "\n"
    (data / "train.jsonl").write_text(mine)
    refused = run_script(SCRIPT, *glob(data))
    assert refused.returncode == 2 and "--force" in refused.stderr
    assert (data / "train.jsonl").read_text() == mine
    assert run_script(SCRIPT, *glob(data), "--force").returncode == 0
    assert (data / "train.jsonl").read_text() != mine


@pytest.mark.crash
def test_a_kill_at_any_time_is_repaired_by_the_same_command(
    run_script: Runner, data: Path, tmp_path: Path
) -> None:
    """Dies at each rename in turn; afterwards the same command gives the same bytes."""
    assert run_script(SCRIPT, "data/train.clean.jsonl", "data/train.fim.jsonl").returncode == 0
    names = ("train.jsonl", "eval.jsonl", "split.json")
    wanted = {name: (data / name).read_bytes() for name in names}
    killer = tmp_path / "killer"
    killer.mkdir()
    (killer / "sitecustomize.py").write_text(
        "import os, pathlib\n"
        "left = [int(os.environ['DIE_AT'])]\n"
        "real = pathlib.Path.replace\n"
        "def replace(self, target):\n"
        "    if os.fspath(target).startswith('data') or '/data/' in os.fspath(target):\n"
        "        left[0] -= 1\n"
        "        if left[0] < 0: os._exit(137)\n"
        "    return real(self, target)\n"
        "pathlib.Path.replace = replace\n"
    )
    path = os.pathsep.join([str(killer), str(Path(__file__).parents[2] / "src")])
    inputs = ("data/train.clean.jsonl", "data/train.fim.jsonl")
    for moment in (1, 2, 5):  # of three files and three manifests
        for name in names:
            (data / name).unlink(missing_ok=True)
            (data / f"{name}.manifest.json").unlink(missing_ok=True)
        died = run_script(SCRIPT, *inputs, env={"PYTHONPATH": path, "DIE_AT": str(moment)})
        assert died.returncode == 137, died.stderr
        again = run_script(SCRIPT, *inputs)
        assert again.returncode == 0, again.stderr
        assert {name: (data / name).read_bytes() for name in names} == wanted
        assert certificate.problems(data / "split.json") == []
