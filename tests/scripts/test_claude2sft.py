import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codetune import artefact, sample
from tests.logs.claude_lines import Log

SCRIPT = "data_prep/claude_logs/claude2sft.py"
GOLDEN = Path(__file__).parents[1] / "data" / "golden"
# What was planted in data/staging/claude_logs when it was written by hand.
PLANTED = (
    *("w7Rk2mQx9Lp", "q4Zt8Wm1Xc6Vb3Nn7Lk2Jh5G", "h8Kd3Pq7Zr2Vx9Lm4Wt6Yc1B"),
    *("MIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu", "HPGQMdQ="),
    *("mirela", "tobin", "Voss", "@harbourlight-tools.dev"),
)
MARKS = (
    *("<system-reminder>", "<command-name>", "<local-command", "Caveat: The messages"),
    *("<bash-input>", "[Request interrupted", "<tool_use_error>", "The user doesn't want"),
    *("This session is being continued", "<persisted-output>", "<task-notification>"),
    *("<teammate-message", "<ide_", "(no content)", "[Image #", "\x1b", "API Error"),
)


@pytest.fixture(scope="module")
def staging(root):
    return root / "data" / "staging" / "claude_logs"


def rows_of(path):
    return [sample.parse(line) for _, line in artefact.read_rows(path)]


@pytest.fixture(scope="module")
def project(root, staging, tmp_path_factory):
    """A project folder in which the staging sessions were converted; `report.json` beside them."""
    folder = tmp_path_factory.mktemp("project")
    flags = ["--src", staging, "--out", "data/a.sft.jsonl", "--rejects", "data/r.jsonl", "--json"]
    done = subprocess.run(
        [sys.executable, root / "scripts" / SCRIPT, *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (folder / "report.json").write_text(done.stdout)
    (folder / "screen.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def converted(project):
    report = json.loads((project / "report.json").read_text())
    return rows_of(project / "data/a.sft.jsonl"), report


def test_staging_rows_are_well_formed(converted):
    rows, _ = converted
    assert len({row["id"] for row in rows}) == len(rows) == 54
    assert len({row["meta"]["group"] for row in rows}) == 20
    for row in rows:
        assert sample.check(row) is None
        messages = row["messages"]
        assert [m["role"] for m in messages[:2]] == ["system", "user"]
        assert [m for m in messages if m["role"] == "assistant"][-1]["train"]
        waiting = set()
        for before, message in zip(messages, messages[1:], strict=False):
            assert message["role"] == "tool" or message["role"] != before["role"]
        for message in messages:
            if message["role"] == "tool":
                waiting.remove(message["tool_call_id"])
            else:
                assert not waiting
            waiting |= {call["id"] for call in message.get("tool_calls", ())}
        assert not waiting
        known = {tool["function"]["name"] for tool in row.get("tools", ())}
        used = {c["function"]["name"] for m in messages for c in m.get("tool_calls", ())}
        assert used == known


def test_no_planted_value_and_no_mark_is_left(converted):
    rows, report = converted
    text = json.dumps(rows, ensure_ascii=False) + json.dumps(report)
    for value in PLANTED:
        assert value.lower() not in text.lower()
    for mark in MARKS:
        assert mark not in text
    assert report["tables"]["replaced"]


def test_nothing_that_was_written_tells_a_planted_secret(project):
    files = [path for path in project.rglob("*") if path.is_file()]
    assert len(files) > 6
    for path in files:
        text = path.read_bytes().lower()
        assert not [value for value in PLANTED[:5] if value.lower().encode() in text], path


def test_rejects_say_what_became_no_row_and_why(project):
    reasons = sorted(row["reason"] for row in rows_of(project / "data/r.jsonl"))
    assert reasons == [
        *("bad_utf8", "incomplete", "invalid_json", *["no_trained_step"] * 3),
        *(*["not_an_object"] * 2, "warm_up"),
    ]


def test_arguments_survive_without_nulls(converted):
    rows, _ = converted
    calls = [c for r in rows for m in r["messages"] for c in m.get("tool_calls", ())]
    assert all(isinstance(call["function"]["arguments"], dict) for call in calls)
    assert "null" not in json.dumps([call["function"]["arguments"] for call in calls])
    edit = next(c for c in calls if c["function"]["name"] == "Edit")
    assert set(edit["function"]["arguments"]) == {"file_path", "old_string", "new_string"}


def test_each_account_adds_up(converted):
    _, report = converted
    assert set(report["counts"]) == {"files", "records", "turns", "steps", "rows"}
    for account in report["counts"].values():
        assert account["in"] == account["kept"] + sum(account["dropped"].values())
    records = report["counts"]["records"]["dropped"]
    for reason in ("incomplete", "invalid_json", "bad_utf8", "not_an_object", "duplicate"):
        assert records[reason] >= 1


def test_rows_equal_the_golden_ones(converted):
    """Regression: recorded from this converter, after the rows were read by a person.

    To record them anew after a change that was meant: see docs/claude2sft.md.
    """
    rows, _ = converted
    table = [[row["id"], sample.content_sha256(row)[:16]] for row in rows]
    whole = [row for row in rows if row["meta"]["group"] in golden_groups()]
    if os.environ.get("CODETUNE_RECORD_GOLDEN"):
        (GOLDEN / "claude2sft_ids.json").write_text(json.dumps(table, indent=0) + "\n")
        lines = b"".join(sample.dump(row) + b"\n" for row in whole)
        (GOLDEN / "claude2sft_rows.jsonl").write_bytes(lines)
    assert whole == rows_of(GOLDEN / "claude2sft_rows.jsonl")
    assert table == json.loads((GOLDEN / "claude2sft_ids.json").read_text())


def golden_groups():
    """Sessions with compaction, parallel calls, damage and refusals, by the hash of their id."""
    names = ("42e4484f", "374ae026", "71b6f350")
    folder = Path(__file__).parents[2] / "data/staging/claude_logs"
    return {sample.digest(p.stem) for name in names for p in folder.rglob(f"{name}*.jsonl")}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_elsewhere_is_equal_byte_for_byte(project, run_script, staging, tmp_path):
    elsewhere = tmp_path / "deep" / "er"
    elsewhere.mkdir(parents=True)
    copy = tmp_path / "copied logs"
    shutil.copytree(staging, copy)
    flags = ("--src", *sorted(copy.iterdir(), reverse=True), "--out", "data/a.sft.jsonl")
    env = {"PYTHONHASHSEED": "2", "LC_ALL": "C"}
    assert run_script(SCRIPT, *flags, cwd=elsewhere, env=env).returncode == 0
    assert digest(project / "data/a.sft.jsonl") == digest(elsewhere / "data/a.sft.jsonl")


def test_sources_are_only_read(run_script, staging, tmp_path):
    copy = tmp_path / "logs in"
    shutil.copytree(staging, copy)
    before = {path: digest(path) for path in copy.rglob("*.json*")}
    for path in [*copy.rglob("*"), copy]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert run_script(SCRIPT, "--src", copy).returncode == 0
    assert {path: digest(path) for path in copy.rglob("*.json*")} == before


def test_a_second_run_is_up_to_date_and_a_changed_log_is_not(run_script, tmp_path):
    log = Log()
    log.user("hello")
    log.says("hi")
    file = log.write(tmp_path, "logs in/a.jsonl")
    assert "1 rows" in run_script(SCRIPT, "--src", file.path).stderr
    assert "up to date" in run_script(SCRIPT, "--src", file.path).stderr
    log.user("more")
    log.says("sure")
    log.write(tmp_path, "logs in/a.jsonl")
    assert "2 rows" in run_script(SCRIPT, "--src", file.path).stderr
    assert "2 rows" in run_script(SCRIPT, "--src", file.path, "--max_chars", 9000).stderr


def test_limit_and_subagents(run_script, staging, tmp_path):
    run_script(SCRIPT, "--src", staging, "--out", "a.jsonl", "--limit", 40, "--subagents", "skip")
    rows = rows_of(tmp_path / "a.jsonl")
    assert len(rows) == 40 and {row["meta"]["agent"] for row in rows} == {"main"}


@pytest.mark.parametrize("kind", ["empty folder", "missing", "prose.jsonl", "no talk.jsonl"])
def test_bad_input_is_one_line_and_nothing_is_written(run_script, tmp_path, kind):
    path = tmp_path / kind
    if kind == "empty folder":
        path.mkdir()
    elif kind == "prose.jsonl":
        path.write_text("# Notes\nnot JSON at all\n")
    elif kind == "no talk.jsonl":
        path.write_text('{"type":"summary","summary":"x","leafUuid":"y"}\n')
    done = run_script(SCRIPT, "--src", path)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr and "--src" in errors[0]
    assert not list(tmp_path.rglob("*.sft.jsonl*"))


def test_src_is_required(run_script):
    done = run_script(SCRIPT)
    assert done.returncode == 2 and "--src is required" in done.stderr


def test_real_logs_meet_the_acceptance_list(run_script, shared, tmp_path):
    logs = shared / "data" / "logs"
    names = ("claude-code-log", "entire-cli", "sniffly", "episodic-memory", "claude-code-web")
    sources = [logs / name for name in names]
    done = run_script(SCRIPT, "--src", *sources, "--out", "a.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "a.jsonl")
    assert len(rows) > 300
    for row in rows:
        tools = sum(len(json.dumps(tool)) for tool in row.get("tools", ()))
        texts = sum(len(m["content"]) for m in row["messages"])
        assert tools + texts < 24_000 * 1.1
        assert row["messages"][1]["role"] == "user"
    text = json.dumps(rows, ensure_ascii=False).lower()
    for name in ("devalpha", "devbeta", "devgamma", "devone", "devtwo", "/users/dev", "/home/dev"):
        assert name not in text
    targets = [
        (row["meta"]["group"], row["meta"]["timestamp"], m["content"], str(m.get("tool_calls")))
        for row in rows
        for m in row["messages"]
        if m["train"]
    ]
    assert len(targets) == json.loads(done.stdout)["counts"]["steps"]["kept"]


def test_no_name_of_a_log_folder_is_written(staging, run_script, tmp_path):
    """Folders of sessions are named by paths: `-home-<name>-<project>`."""
    folder = tmp_path / "logs" / "-home-mirela-secret-client"
    shutil.copytree(staging, folder)
    (folder / "damaged.jsonl").write_text('{"type": "user", "cwd": "/home/mirela/x"}\n{half\n')
    out = ["--out", "data/o.sft.jsonl", "--rejects", "data/o.rejects.jsonl"]
    done = run_script(SCRIPT, "--src", "logs", *out)
    assert done.returncode == 0, done.stderr
    for file in sorted((tmp_path / "data").iterdir()):
        assert "mirela" not in file.read_text(), file
    assert any(
        row["reason"] == "invalid_json" for row in rows_of(tmp_path / "data" / "o.rejects.jsonl")
    )
