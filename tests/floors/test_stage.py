"""What every stage shares, seen from outside: exit codes, one-line errors, JSON, the record."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Stage = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = '''
    """A stage for tests.

    ./stage.py --what done
    """
    import logging, os, signal, time, warnings
    from pathlib import Path
    from codetune import artefact, console, stage
    from codetune.artefact import Counts
    from codetune.config import Config, knob
    from codetune.errors import RefusedError, ToldError, UserError

    class Knobs(Config):
        what: str = knob("done", "what happens")
        out: Path = knob(Path("x.txt"), "where")
        seed: int = knob(7, "seed")
        prompt: str = knob("", "a text", text=True)

    def run(config, log):
        if config.what == "user":
            raise UserError("in.jsonl, line 3: is wrong; mend it")
        if config.what == "memory":
            try:
                {}["text " + "of a row"]
            except KeyError:
                raise RuntimeError("CUDA out of memory")
        if config.what == "faulty":
            logging.getLogger("some.library").warning("%d files", "many")
        if config.what == "told":
            raise ToldError("stage x ended with exit code 1; see above")
        if config.what == "refused":
            raise RefusedError("the parity check failed")
        if config.what == "bug":
            raise ZeroDivisionError("oops, key ghp_" + "a1B2" * 9)
        if config.what == "noise":
            warnings.warn("mind the \\x1b[31mgap", UserWarning)
            logging.getLogger("some.library").error("it is late")
            with console.progress("rows", 3) as bar:
                bar.advance(3)
        if config.what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if config.what == "wait":
            console.say("waiting")
            time.sleep(30)
        if config.what == "environment":
            print(os.environ.get("FROM_FILE"), os.environ["HF_HUB_DISABLE_TELEMETRY"])
        counts = Counts(5, {"too_long": 2})
        origin = log.origin(config, [])
        if artefact.is_current(config.out, origin):
            return stage.Report("nothing to do", status="up to date")
        artefact.write_text(config.out, "x", origin)
        log.output(config.out, "text")
        return stage.Report(
            "made one", outputs=(config.out,), counts={"rows": counts}, metrics={"m": 1.5},
            tables=(console.table("t", ["a"], [["b"]]),), details={"more": [1]},
            refused="worse" if config.what == "late" else None,
            exit_code=4 if config.what == "unsure" else 0,
        )

    raise SystemExit(stage.main(__doc__, Knobs, run, stage="trial", version=2))
'''


@pytest.fixture
def run(tmp_path: Path, root: Path) -> Stage:
    file = tmp_path / "stage.py"
    file.write_text(textwrap.dedent(PROGRAM).strip() + "\n")

    def call(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(root / "src"), **more}
        command = [sys.executable, str(file), *args]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    return call


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("done", 0, "trial: made one"),
        ("told", 1, "error: stage x ended with exit code 1; see above"),
        ("bug", 1, "ZeroDivisionError: oops"),
        ("user", 2, "error: in.jsonl, line 3: is wrong; mend it"),
        ("refused", 3, "error: refused: the parity check failed"),
        ("late", 3, "error: refused: worse"),
        ("unsure", 4, "trial: made one"),
    ],
)
def test_exit_codes(run: Stage, what: str, code: int, said: str) -> None:
    found = run("--what", what)
    assert found.returncode == code, found.stderr
    assert said in found.stderr
    assert ("Traceback" in found.stderr) == (what == "bug")
    if code == 2:
        assert found.stderr.count("\n") == 1


def test_a_second_run_is_up_to_date(run: Stage) -> None:
    assert run().returncode == 0
    assert "trial: up to date: nothing to do" in run().stderr


def test_json_is_the_whole_report(run: Stage) -> None:
    report = json.loads(run("--json").stdout)
    assert report["stage"] == "trial" and report["status"] == "done"
    assert report["counts"] == {"rows": {"in": 7, "kept": 5, "dropped": {"too_long": 2}}}
    assert report["metrics"] == {"m": 1.5} and report["more"] == [1]
    assert report["tables"] == {"t": [{"a": "b"}]} and report["outputs"] == ["x.txt"]
    assert len(report["run"]) == 26


def test_dropped_rows_are_shown(run: Stage) -> None:
    shown = run().stderr
    assert "rows: 7 in" in shown and "too_long" in shown


def test_dry_run_writes_nothing(run: Stage, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = run("--dry-run", "--seed", "9")
    assert found.returncode == 0 and "changed" in found.stderr
    assert sorted(tmp_path.rglob("*")) == before
    plan = json.loads(run("--dry-run", "--json", "--seed", "9").stdout)
    assert plan["differences"] == {"seed": {"default": 7, "value": 9}}


def test_schema_is_for_forms(run: Stage) -> None:
    schema = json.loads(run("--schema").stdout)
    assert schema["properties"]["seed"]["description"] == "seed"
    assert schema["additionalProperties"] is False


def test_help_shows_the_docstring(run: Stage) -> None:
    found = run("--help")
    assert found.returncode == 0
    assert "./stage.py --what done" in found.stdout and "--what" in found.stdout


def test_unknown_flags_and_keys(run: Stage, tmp_path: Path) -> None:
    found = run("--sed", "3")
    assert found.returncode == 2 and "did you mean seed?" in found.stderr
    (tmp_path / "c.yaml").write_text("what: done\nsede: 3\n")
    found = run("--config", "c.yaml")
    assert found.returncode == 2 and "c.yaml, line 2: unknown key sede" in found.stderr


def test_dotenv_is_read_and_what_is_set_wins(run: Stage, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FROM_FILE=file\n")
    assert run("--what", "environment").stdout.split() == ["file", "1"]
    (tmp_path / "x.txt").unlink()
    assert run("--what", "environment", FROM_FILE="mine").stdout.split()[0] == "mine"


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "interrupted")],
)
def test_signals_end_with_their_code(
    tmp_path: Path, root: Path, run: Stage, number: signal.Signals, code: int, status: str
) -> None:
    from tests.runlog.asking import list_runs

    env = {**os.environ, "PYTHONPATH": str(root / "src")}
    process = subprocess.Popen(
        [sys.executable, "stage.py", "--what", "wait"],
        cwd=tmp_path,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "waiting" not in process.stderr.readline():
        time.sleep(0.01)
    process.send_signal(number)
    _, rest = process.communicate(timeout=20)
    assert process.returncode == code, rest
    assert "Traceback" not in rest
    (row,) = list_runs(tmp_path)
    assert row.status == status


def test_ctrl_c_while_the_run_is_being_opened_is_no_bug(tmp_path: Path, root: Path) -> None:
    """Opening a run asks git for the version of the code, which can take its time."""
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\ntouch asked\nexec sleep 20\n")
    slow.chmod(0o755)
    (tmp_path / "stage.py").write_text(textwrap.dedent(PROGRAM).strip() + "\n")
    path = f"{slow.parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "stage.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "PATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "asked").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_every_invocation_is_recorded(run: Stage, tmp_path: Path) -> None:
    from tests.runlog.asking import list_runs

    for what in ("done", "user", "bug", "late"):
        run("--what", what, CODETUNE_PARENT_RUN="01PARENT")
    rows = list_runs(tmp_path)
    assert sorted(r.status for r in rows) == ["failed", "failed", "finished", "refused"]
    assert {r.stage for r in rows} == {"trial"}
    events = next((tmp_path / "logs" / "runs").glob("*/events.jsonl")).read_text()
    assert "01PARENT" in events


def console_log(folder: Path) -> str:
    (file,) = (folder / "logs" / "runs").glob("*/console.log")
    assert file.stat().st_mode & 0o777 == 0o600
    return file.read_text()


def test_what_a_run_says_is_kept_with_date_and_level(run: Stage, tmp_path: Path) -> None:
    done = run("--what", "noise")
    assert done.returncode == 0, done.stderr
    kept = console_log(tmp_path)
    line = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (info|warning|error)( |$)")
    assert all(line.match(text) for text in kept.splitlines()), kept
    assert re.search(r" warning UserWarning: mind the gap$", kept, re.M)
    assert re.search(r" error   some.library: it is late$", kept, re.M)
    assert re.search(r" info    trial: made one \(", kept, re.M)
    assert "too_long" in kept  # a line of a table
    assert "warning: UserWarning: mind the gap\n" in done.stderr
    assert "\x1b" not in kept


def test_a_bug_keeps_its_traceback_and_no_secret_and_no_text(run: Stage, tmp_path: Path) -> None:
    """Its message may hold the text of a row, so that a log has only where it happened."""
    done = run("--what", "bug")
    assert done.returncode == 1
    kept = console_log(tmp_path)
    for said in (done.stderr, kept):
        assert "Traceback (most recent call last)" in said
        assert "ZeroDivisionError" in said and "stage.py" in said
        assert "ghp_a1B2" not in said
    assert "ZeroDivisionError: oops" in done.stderr
    assert "ZeroDivisionError: oops" not in kept


def test_a_bug_of_the_machine_keeps_its_message_and_its_cause(run: Stage, tmp_path: Path) -> None:
    done = run("--what", "memory")
    assert done.returncode == 1
    for said in (done.stderr, console_log(tmp_path)):
        assert "RuntimeError: CUDA out of memory" in said
        assert "KeyError" in said
    assert "text of a row" not in console_log(tmp_path)


def test_a_second_signal_ends_the_wait_for_a_locked_database(run: Stage, tmp_path: Path) -> None:
    run()
    holder = sqlite3.connect(tmp_path / "logs" / "runs.db", isolation_level=None)
    process = subprocess.Popen(
        [sys.executable, "stage.py", "--what", "wait"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "waiting" not in process.stderr.readline():
        time.sleep(0.01)
    holder.execute("BEGIN EXCLUSIVE")
    process.send_signal(signal.SIGTERM)
    while "interrupted" not in process.stderr.readline():
        time.sleep(0.01)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in rest) == (143, False), rest
    assert time.monotonic() - began < 8
    holder.close()


def test_a_folder_in_place_of_the_console_log_is_a_warning(run: Stage, tmp_path: Path) -> None:
    from codetune.runlog import create_run

    run_id = create_run(tmp_path, stage="trial")
    (tmp_path / "logs" / "runs" / run_id / "console.log").mkdir()
    done = run("--run_id", run_id)
    assert done.returncode == 0, done.stderr
    assert "warning: what is said is not kept" in done.stderr


def test_a_faulty_log_call_of_a_library_does_not_end_the_work(run: Stage) -> None:
    done = run("--what", "faulty")
    assert done.returncode == 0, done.stderr
    assert "warning: some.library: %d files" in done.stderr


def test_a_native_crash_leaves_its_last_words_in_the_console_log(
    run: Stage, tmp_path: Path
) -> None:
    assert run("--what", "crash").returncode == -signal.SIGSEGV
    assert "Segmentation fault" in console_log(tmp_path)


def test_a_finished_run_keeps_its_headline_and_no_text_of_the_user(
    run: Stage, tmp_path: Path
) -> None:
    run("--prompt", "my secret plan")
    journal = next((tmp_path / "logs" / "runs").glob("*/events.jsonl")).read_text()
    ended = json.loads(journal.splitlines()[-1])
    assert (ended["status"], ended["reason"]) == ("finished", "made one")
    assert "secret plan" not in journal
    assert "<14 characters>" in journal
