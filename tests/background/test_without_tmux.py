"""The same verbs where there is no tmux: a detached process, its record and its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from codetune.background import Places, Session
from codetune.background.detached import Detached
from codetune.errors import RefusedError
from codetune.runlog import local
from codetune.runlog.events import journal_path
from tests.background.checkout import ROOT, STEPS, Checkout, is_alive, until


def record(checkout: Checkout, run: str) -> Path:
    return checkout.root / "logs" / "background" / f"{run}.json"


def test_open_look_ask_and_end(without_tmux: Checkout) -> None:
    seen = without_tmux.started("--run_name", "mine")
    assert "codetune-mine is open as a detached process, without tmux" in seen["said"]
    assert f"its output: logs/runs/{seen['run']}/output.log" in seen["said"]
    [told] = without_tmux.status()
    assert (told["session"], told["kind"]) == ("codetune-mine", "process")
    assert told["at_work"] and told["status"] == "running" and told["total"] == 2000
    shown = without_tmux.call("status").stdout
    assert "\nmine " in shown and "/2,000 " in shown
    output = journal_path(without_tmux.root, seen["run"]).with_name("output.log")
    assert "this is step 1\n" in output.read_text()

    done = without_tmux.call("kill", "mine")
    assert done.returncode == 0, done.stderr
    assert "run mine interrupted at step" in done.stderr
    assert (without_tmux.root / f"saved.{seen['run']}").exists() and not is_alive(seen["pid"])
    assert without_tmux.status() == [] and not record(without_tmux, seen["run"]).exists()
    assert output.exists(), "the log stays"


def test_it_keeps_nothing_of_the_terminal(without_tmux: Checkout) -> None:
    """A new session has no terminal that could hang up; input is empty, output is its log."""
    seen = without_tmux.started()
    pid = seen["pid"]
    assert os.getsid(pid) == pid != os.getsid(0)
    assert psutil.Process(pid).terminal() is None
    opened = [str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)]
    assert opened[0] == os.devnull
    assert opened[1] == opened[2] and opened[1].endswith("/output.log")


def test_it_survives_the_group_that_opened_it(without_tmux: Checkout) -> None:
    """As when an ssh connection breaks off: everything of that terminal gets SIGHUP."""
    command = [sys.executable, str(ROOT / "scripts/runs/background.py"), "train", *STEPS]
    shell = subprocess.Popen(
        ["bash", "-c", '"$@"; sleep 1000', "bash", *command],
        cwd=without_tmux.root,
        env=without_tmux.env,
        start_new_session=True,
    )
    until(lambda: list(without_tmux.root.glob("seen.*.json")), "the stage begins")
    os.killpg(shell.pid, signal.SIGHUP)
    shell.wait()
    step = until(lambda: without_tmux.status()[0]["step"], "it takes steps")
    until(lambda: without_tmux.status()[0]["step"] > step, "it goes on")
    assert without_tmux.call("kill").returncode == 0


def test_attach_follows_until_the_end(without_tmux: Checkout) -> None:
    seen = without_tmux.started("--run_name", "mine")
    command = [sys.executable, str(ROOT / "scripts/runs/background.py"), "attach"]
    looking = subprocess.Popen(
        command,
        cwd=without_tmux.root,
        env=without_tmux.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert looking.stdout is not None
    first = next(line for line in looking.stdout if "this is step" in line)
    looking.kill()
    looking.wait()
    looking.stdout.close()
    assert first and is_alive(seen["pid"]), "who looks in may go away"

    looking = subprocess.Popen(
        command, cwd=without_tmux.root, env=without_tmux.env, stdout=subprocess.PIPE, text=True
    )
    assert looking.stdout is not None
    assert any("this is step" in line for line in looking.stdout)
    assert without_tmux.call("kill").returncode == 0
    rest = looking.stdout.read()
    assert looking.wait(20) == 0
    looking.stdout.close()
    assert "stopped with a checkpoint" in rest


def test_of_many_calls_at_once_one_opens(without_tmux: Checkout) -> None:
    root, env = without_tmux.root, without_tmux.env | {"DOOR_SECONDS": "1000"}
    opened: list[Session] = []

    def start() -> str:
        try:
            opened.append(Places(root, None).start("mine", "mine", [], env, replace=False))
        except RefusedError as refusal:
            return str(refusal)
        return "opened"

    try:
        with ThreadPoolExecutor(6) as callers:
            calls = [callers.submit(start) for _ in range(6)]
        said = [call.result() for call in calls]
        assert said.count("opened") == 1
        assert sum("is at work" in text for text in said) == 5
        assert Detached(root).sessions() == opened
        assert local.run_ids(root) == [opened[0].run]
    finally:
        for session in opened:
            if session.program is not None:
                os.killpg(session.program.pid, signal.SIGKILL)


def test_who_waited_for_an_older_session_leaves_the_new_one_alone(without_tmux: Checkout) -> None:
    """`kill` may hold a session for minutes, in which another command may replace it."""
    detached = Detached(without_tmux.root)
    assert without_tmux.call("train", DOOR_EXIT="5").returncode == 0
    [old] = detached.sessions()
    until(lambda: not without_tmux.status()[0]["at_work"], "it has ended")
    seen = without_tmux.started()
    detached.mark_asked(old)
    detached.close(old)
    [new] = without_tmux.status()
    assert (new["run"], new["status"]) == (seen["run"], "running")


@pytest.mark.slow
def test_a_second_one_and_a_replaced_one(without_tmux: Checkout) -> None:
    one = without_tmux.started("--run_name", "one")
    refused = without_tmux.call("train", "--run_name", "one")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    two = without_tmux.started("--run_name", "two")
    which = without_tmux.call("kill")
    assert which.returncode == 2 and "(2 at work: one, two)" in which.stderr
    new = without_tmux.started("--run_name", "one", "--replace")
    assert (without_tmux.root / f"saved.{one['run']}").exists()
    assert {told["run"] for told in without_tmux.status()} == {new["run"], two["run"]}
    assert without_tmux.call("kill", "one").returncode == 0
    assert is_alive(two["pid"])


def test_a_deaf_one_is_killed_only_by_force(without_tmux: Checkout) -> None:
    seen = without_tmux.started(DEAF="1")
    refused = without_tmux.call("kill", "--wait", "0.3")
    assert refused.returncode == 3 and is_alive(seen["pid"])
    assert without_tmux.status()[0]["status"] == "stopping"
    forced = without_tmux.call("kill", "--wait", "0", "--force")
    assert forced.returncode == 0, forced.stderr
    assert not is_alive(seen["pid"]) and without_tmux.status() == []


def test_one_that_ended_at_once_says_so(without_tmux: Checkout) -> None:
    opened = without_tmux.call("train", DOOR_EXIT="5")
    assert opened.returncode == 0
    until(lambda: not without_tmux.status()[0]["at_work"], "it has ended")
    [told] = without_tmux.status()
    assert (told["status"], told["exit_code"]) == ("not started", None)
    shown = without_tmux.call("attach")
    assert shown.returncode == 0 and "the door is closed" in shown.stdout
    assert without_tmux.call("kill").returncode == 0
    [run] = local.run_ids(without_tmux.root)
    row = local.read_run(journal_path(without_tmux.root, run))
    assert row is not None and row.status == "interrupted"


@pytest.mark.slow
def test_a_number_used_again_is_not_taken_for_the_run(without_tmux: Checkout) -> None:
    seen = without_tmux.started("--run_name", "mine")
    assert without_tmux.call("kill").returncode == 0
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        file = record(without_tmux, "codetune-mine")
        program = {"machine": told_machine(without_tmux, seen["run"]), "pid": stranger.pid}
        fields = {"kind": "process", "name": "codetune-mine", "title": "mine", "run": seen["run"]}
        fields |= {"since": 0, "handle": "elsewhere", "program": program | {"started": 1000}}
        file.write_text(json.dumps(fields))
        assert without_tmux.status()[0]["at_work"] is False
        assert without_tmux.call("kill", "--force", "--wait", "0").returncode == 0
        assert stranger.poll() is None and not file.exists()
    finally:
        stranger.kill()
        stranger.wait()


def told_machine(checkout: Checkout, run: str) -> str:
    row = local.read_run(journal_path(checkout.root, run))
    assert row is not None and row.process is not None
    return row.process.machine


@pytest.mark.parametrize(
    "text", ["", "{half", "[]", "null", '{"kind":"process"}', '{"program":{"pid":1}}']
)
def test_a_damaged_record_is_one_warning(without_tmux: Checkout, text: str) -> None:
    file = record(without_tmux, "codetune-odd")
    file.parent.mkdir(parents=True)
    file.write_text(text)
    shown = without_tmux.call("status")
    assert shown.returncode == 0
    assert shown.stderr.count("\n") == 1 and str(file) in shown.stderr
    assert "tmux-train starts a run" in shown.stdout


def test_an_old_tmux_is_passed_over_with_a_word(without_tmux: Checkout) -> None:
    old = Path(without_tmux.env["PATH"]) / "tmux"
    old.write_text("#!/bin/sh\necho tmux 2.7\n")
    old.chmod(0o755)
    opened = without_tmux.call("train", DOOR_EXIT="0")
    assert opened.returncode == 0
    assert "tmux 2.7 is too old (3.2 is needed)" in opened.stderr
    [run] = local.run_ids(without_tmux.root)
    assert record(without_tmux, run).exists()


@pytest.mark.slow
def test_a_session_from_before_tmux_was_installed_is_still_found(
    checkout: Checkout, without_tmux: Checkout
) -> None:
    seen = without_tmux.started("--run_name", "mine")
    assert [told["kind"] for told in checkout.status()] == ["process"]
    refused = checkout.call("train", "--run_name", "mine")
    assert refused.returncode == 3
    other = checkout.started("--run_name", "other")
    assert [told["kind"] for told in checkout.status()] == ["process", "tmux"]
    assert checkout.call("kill", "mine").returncode == 0
    assert not is_alive(seen["pid"]) and is_alive(other["pid"])


def test_a_run_on_another_machine_is_left_to_it(without_tmux: Checkout) -> None:
    """A checkout on a disk that two machines, or two containers, share."""
    seen = without_tmux.started("--run_name", "mine")
    assert without_tmux.call("kill").returncode == 0
    journal = journal_path(without_tmux.root, seen["run"])
    lines = journal.read_text().splitlines()[:2]
    here, now = told_machine(without_tmux, seen["run"]), int(time.time() * 1000)
    elsewhere = lines[1].replace(here, "elsewhere")
    sign = json.dumps({"ts": now, "kind": "event", "name": "alive", "fields": {}})
    journal.write_text("\n".join([lines[0], elsewhere, sign]) + "\n")
    fields = {"kind": "process", "name": "codetune-mine", "title": "mine", "run": seen["run"]}
    program = {"machine": "elsewhere", "pid": os.getpid(), "started": 1}
    fields |= {"since": 0, "handle": "", "program": program}
    record(without_tmux, "codetune-mine").write_text(json.dumps(fields))
    [told] = without_tmux.status()
    assert (told["status"], told["at_work"]) == ("running", False)
    refused = without_tmux.call("kill", "--force", "--wait", "0")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "on another machine" in refused.stderr
    assert without_tmux.call("train", "--run_name", "mine").returncode == 3
