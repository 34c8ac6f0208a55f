"""Sessions in a real tmux, on a server of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from codetune.background import tensorboard
from codetune.background.tmux import Tmux
from codetune.runlog import local
from codetune.runlog.events import journal_path
from tests.background.checkout import (
    ROOT,
    STEPS,
    Checkout,
    attached,
    is_alive,
    read_until,
    until,
)

OTHER = ("new-session", "-d", "-s")


def saved(checkout: Checkout, seen: dict[str, object]) -> bool:
    return (checkout.root / f"saved.{seen['run']}").exists()


def test_open_look_ask_and_end(checkout: Checkout) -> None:
    seen = checkout.started("--run_name", "mine")
    assert "codetune-mine is open" in seen["said"] and "tmux-attach" in seen["said"]
    assert seen["argv"] == ["--run_name", "mine", "--max_steps", "2000", "--run_id", seen["run"]]
    assert seen["cwd"] == str(checkout.root)
    windows = checkout.tmux("list-windows", "-t", "codetune-mine", "-F", "#{window_name}")
    assert windows.split() == ["train", "gpu", "tensorboard"]
    until(lambda: "this is step 1\n" in checkout.screen("codetune-mine:train"), "it is shown")
    for window in ("gpu", "tensorboard"):
        words = ("list-panes", "-t", f"codetune-mine:{window}", "-F", "#{pane_dead}")
        until(lambda words=words: checkout.tmux(*words) == "1\n", "its program ends")
        assert f"{window} was here" in checkout.screen(f"codetune-mine:{window}")

    shown = checkout.call("status")
    assert (shown.returncode, shown.stderr) == (0, "")
    line = next(line for line in shown.stdout.splitlines() if line.startswith("mine "))
    assert "running" in line and "/2,000 " in line and " 2.5000 " in line and "0:0" in line
    [told] = json.loads(checkout.call("status", "--json").stdout)
    assert told.keys() == checkout.status()[0].keys()
    assert (told["session"], told["run"], told["name"]) == ("codetune-mine", seen["run"], "mine")
    assert told["at_work"] and told["step"] >= 1 and told["total"] == 2000
    assert 20 < told["seconds_left"] < 2000 and told["exit_code"] is None

    done = checkout.call("kill")
    assert done.returncode == 0, done.stderr
    assert "asked its run to save and exit" in done.stderr
    assert "run mine interrupted at step" in done.stderr
    assert saved(checkout, seen) and not is_alive(seen["pid"])
    assert checkout.names() == []
    nothing = checkout.call("status")
    assert (nothing.returncode, nothing.stdout.count("\n")) == (0, 1)
    assert "tmux-train starts a run" in nothing.stdout
    assert json.loads(checkout.call("status", "--json").stdout) == []


def test_the_run_goes_on_when_client_or_terminal_die(checkout: Checkout) -> None:
    seen = checkout.started("--run_name", "mine")
    clients = ("list-clients", "-F", "#{client_pid}")

    client, terminal = attached(checkout)
    read_until(terminal, b"this is step")
    assert checkout.tmux(*clients).split() == [str(client.pid)], "it became the tmux client"
    client.kill()
    client.wait()
    os.close(terminal)
    until(lambda: not checkout.tmux(*clients), "the client is gone")

    client, terminal = attached(checkout)
    read_until(terminal, b"this is step")
    os.close(terminal)  # as when an ssh connection breaks off
    client.wait(30)
    until(lambda: not checkout.tmux(*clients), "the client is gone")

    assert is_alive(seen["pid"])
    step = checkout.status()[0]["step"]
    until(lambda: checkout.status()[0]["step"] > step, "it still takes steps")
    client, terminal = attached(checkout)
    read_until(terminal, b"this is step")
    checkout.tmux("detach-client", "-s", "codetune-mine")
    assert client.wait(30) == 0
    os.close(terminal)
    assert is_alive(seen["pid"])


@pytest.mark.slow
def test_attaching_inside_tmux_switches_the_client(checkout: Checkout) -> None:
    checkout.started()
    tmux = Tmux("tmux", checkout.root)
    [session] = tmux.sessions()
    assert tmux.attaching(session, inside=True)[1:3] == ["switch-client", "-t"]
    checkout.tmux(*OTHER, "elsewhere")
    client, terminal = attached(checkout)
    read_until(terminal, b"this is step")
    checkout.tmux("switch-client", "-t", "elsewhere")
    checkout.tmux(*tmux.attaching(session, inside=True)[1:])
    assert "codetune-default" in checkout.tmux("list-clients", "-F", "#{session_name}")
    client.kill()
    client.wait()
    os.close(terminal)


def test_without_a_terminal_attach_is_one_line(checkout: Checkout) -> None:
    none = checkout.call("attach")
    assert (none.returncode, none.stderr.count("\n")) == (2, 1)
    assert "tmux-train starts a run" in none.stderr
    checkout.started("--attach")
    shown = checkout.call("attach")
    assert (shown.returncode, shown.stderr.count("\n")) == (2, 1)
    assert "on a terminal" in shown.stderr


def test_a_foreign_session_of_that_name_is_never_touched(checkout: Checkout) -> None:
    checkout.tmux(*OTHER, "codetune-mine", "sleep", "1000")
    before = checkout.tmux("list-panes", "-a", "-F", "#{pane_pid}")
    for words in ([], ["--replace"]):
        done = checkout.call("train", "--run_name", "mine", *words)
        assert (done.returncode, done.stderr.count("\n")) == (3, 1)
        assert "codetune-mine" in done.stderr and "--name" in done.stderr
    assert list(checkout.root.glob("logs/runs/*")) == []
    assert checkout.call("kill", "codetune-mine").returncode == 2
    assert checkout.call("kill", "--force").returncode == 2
    assert checkout.status() == []
    assert checkout.tmux("list-panes", "-a", "-F", "#{pane_pid}") == before

    checkout.started("--run_name", "mine", "--name", "other")
    assert checkout.call("kill").returncode == 0
    assert checkout.names() == ["codetune-mine"]


def test_an_id_that_was_given_again_is_not_taken_for_the_session(checkout: Checkout) -> None:
    """A new server counts from $0 again, and `kill` may hold that id for minutes."""
    assert checkout.call("train", DOOR_SECONDS="1000").returncode == 0
    tmux = Tmux("tmux", checkout.root)
    [ours] = tmux.sessions()
    checkout.tmux("kill-session", "-t", ours.name)
    other = ["tmux", *OTHER, "precious", "sleep", "1000"]
    call = partial(subprocess.run, other, env=checkout.env, capture_output=True)
    until(lambda: call().returncode == 0, "the old server is gone")
    assert checkout.tmux("list-sessions", "-F", "#{session_id}").strip() == ours.handle
    pane = checkout.tmux("list-panes", "-a", "-F", "#{pane_id}").strip()
    tmux.mark_asked(ours)
    assert "asked" not in checkout.tmux("show-options", "-t", "precious")
    tmux.close(ours)
    assert checkout.names() == ["precious"]
    assert not tmux.holds(ours, pane)


def test_a_session_of_another_checkout_is_foreign(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    for name in ("scripts", "scripts.sh", "configs", "data", "base"):
        (tmp_path / "second" / name).symlink_to(checkout.root / name)
    second = Checkout(tmp_path / "second", checkout.env)
    seen = checkout.started("--run_name", "mine")
    assert second.status() == []
    assert second.call("kill", "mine").returncode == 2
    refused = second.call("train", "--run_name", "mine", "--replace")
    assert refused.returncode == 3 and "not ours" in refused.stderr
    assert is_alive(seen["pid"])


def test_two_sessions_and_strangers_beside_them(checkout: Checkout) -> None:
    checkout.tmux(*OTHER, "codetune-strange", "sleep", "1000")
    one = checkout.started("--run_name", "one")
    two = checkout.started("--run_name", "two", "--name", "a night's work")
    names = [told["session"] for told in checkout.status()]
    assert names[0] == "codetune-one" and names[1].startswith("codetune-a-night-s-work-")
    for verb in ("kill", "attach"):
        which = checkout.call(verb)
        assert (which.returncode, which.stderr.count("\n")) == (2, 1)
        assert "2 at work: one, a-night-s-work-" in which.stderr
        unknown = checkout.call(verb, "three")
        assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert checkout.call("kill", "a night's work").returncode == 0
    assert saved(checkout, two) and not saved(checkout, one)
    assert is_alive(one["pid"])
    assert checkout.names() == ["codetune-one", "codetune-strange"]
    assert checkout.call("kill", str(one["run"])).returncode == 0
    assert checkout.names() == ["codetune-strange"]


def test_a_session_at_work_is_replaced_only_on_request(checkout: Checkout) -> None:
    first = checkout.started("--run_name", "mine", SAVE_SECONDS="0.5")
    refused = checkout.call("train", "--run_name", "mine")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "--replace" in refused.stderr and is_alive(first["pid"])
    assert len(local.run_ids(checkout.root)) == 1, "a refusal leaves no run behind"

    second = checkout.started("--replace", "--run_name", "mine")
    assert saved(checkout, first) and not is_alive(first["pid"])
    assert [told["run"] for told in checkout.status()] == [second["run"]]
    assert checkout.call("kill").returncode == 0

    done = checkout.call("train", "--run_name", "mine", "--max_steps", "1")
    assert done.returncode == 0
    until(lambda: not checkout.status()[0]["at_work"], "it is done")
    again = checkout.started("--run_name", "mine")
    assert "codetune-mine ended; run mine finished at step 1 of 1" in again["said"]


def test_an_ended_session_shows_how_it_ended(checkout: Checkout) -> None:
    assert checkout.call("train", "--max_steps", "3").returncode == 0
    until(lambda: checkout.status()[0]["exit_code"] is not None, "it has ended")
    [told] = checkout.status()
    assert (told["status"], told["exit_code"], told["at_work"]) == ("finished", 0, False)
    assert (told["step"], told["seconds_left"]) == (3, None)
    assert "this is step 3" in checkout.screen("codetune-default:train")
    closed = checkout.call("train", "--run_name", "closed", DOOR_EXIT="5")
    assert closed.returncode == 0
    until(lambda: checkout.status()[1]["exit_code"] == 5, "it has ended")
    assert checkout.status()[1]["status"] == "not started"
    assert "the door is closed" in checkout.screen("codetune-closed:train")
    assert "not started" in checkout.call("status").stdout
    assert checkout.call("kill", "closed").returncode == 0
    row = local.read_run(journal_path(checkout.root, checkout_run(checkout)))
    assert row is not None and (row.status, row.reason) == (
        "interrupted",
        "ended before it started",
    )


def test_the_only_one_at_work_needs_no_name(checkout: Checkout) -> None:
    for name in ("one", "two"):
        assert checkout.call("train", "--name", name, DOOR_EXIT="0").returncode == 0
    until(lambda: not any(told["at_work"] for told in checkout.status()), "they have ended")
    which = checkout.call("kill")
    assert (which.returncode, which.stderr.count("\n")) == (2, 1)
    assert "2 ended: one, two" in which.stderr
    seen = checkout.started("--name", "three")
    done = checkout.call("kill")
    assert done.returncode == 0, done.stderr
    assert saved(checkout, seen)
    assert checkout.names() == ["codetune-one", "codetune-two"]


def test_a_session_whose_run_was_removed(checkout: Checkout) -> None:
    assert checkout.call("train", DOOR_EXIT="0").returncode == 0
    until(lambda: not checkout.status()[0]["at_work"], "it has ended")
    journal = journal_path(checkout.root, checkout_run(checkout))
    kept = journal.read_bytes()
    journal.write_bytes(b"")
    assert checkout.status()[0]["status"] == "unknown"
    journal.write_bytes(kept)
    remove = [sys.executable, ROOT / "scripts/runs/keep.py", "rm", journal.parent.name, "--yes"]
    done = subprocess.run(remove, cwd=checkout.root, env=checkout.env, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert checkout.status()[0]["status"] == "removed"
    assert " removed " in checkout.call("status").stdout
    assert checkout.call("kill", "default").returncode == 0
    assert checkout.names() == []


def test_without_its_database_nothing_is_opened_or_stopped(checkout: Checkout) -> None:
    seen = checkout.started("--run_name", "mine")
    nowhere = "postgresql://someone:s3cret@no-such-host.invalid:5433/runs"
    for words in (["--name", "other"], ["--run_name", "mine", "--replace"]):
        done = checkout.call("train", *words, DATABASE_URL=nowhere)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "run database cannot be used" in done.stderr and "s3cret" not in done.stderr
    wrong = checkout.call("train", "--run_name", "mine", "--replace", "--train_file", "absent")
    assert wrong.returncode == 2
    assert is_alive(seen["pid"]) and not saved(checkout, seen)
    assert checkout.names() == ["codetune-mine"]
    assert len(local.run_ids(checkout.root)) == 1


@pytest.mark.slow
def test_one_tensorboard_outlives_the_sessions_that_show_it(checkout: Checkout) -> None:
    (checkout.root / "runs").mkdir()
    try:
        for name, how in (("one", "ends it"), ("two", "is already open")):
            opened = checkout.call("train", "--name", name, *STEPS, DOOR_TENSORBOARD="1")
            assert opened.returncode == 0, opened.stderr
            window = f"codetune-{name}:tensorboard"
            until(lambda w=window, h=how: h in checkout.screen(w), "its address", 120)
            [server] = tensorboard.servers(checkout.root)
            assert f"{server.url} " in checkout.screen(window)
        for name in ("one", "two"):
            assert checkout.call("kill", name).returncode == 0
            assert tensorboard.servers(checkout.root) == [server]
    finally:
        for left in tensorboard.servers(checkout.root):
            tensorboard.end(left)
    assert not is_alive(server.process.pid)


def test_an_only_line_is_not_scrolled_away_when_its_program_ends(checkout: Checkout) -> None:
    assert checkout.call("train", DOOR_EXIT="5").returncode == 0
    visible = ("capture-pane", "-p", "-t")  # without the history
    for window, said in (("train", "the door is closed"), ("gpu", "gpu was here")):
        shown = partial(checkout.tmux, *visible, f"codetune-default:{window}")
        until(lambda shown=shown: "Pane is dead" in shown(), "it has ended")
        assert shown().splitlines()[0] == said


def checkout_run(checkout: Checkout) -> str:
    return local.run_ids(checkout.root)[0]


def test_a_killed_training_shows_as_crashed_with_its_signal(checkout: Checkout) -> None:
    seen = checkout.started()
    os.kill(seen["pid"], signal.SIGKILL)
    until(lambda: checkout.status()[0]["exit_code"] is not None, "it has ended")
    [told] = checkout.status()
    assert (told["status"], told["exit_code"]) == ("crashed", 137)
    assert checkout.call("kill").returncode == 0
    assert checkout.names() == []


def test_too_slow_to_save_and_nothing_is_ended(checkout: Checkout) -> None:
    seen = checkout.started("--run_name", "mine", SAVE_SECONDS="3")
    early = checkout.call("kill", "--wait", "0.5")
    assert early.returncode == 3, early.stderr
    assert early.stderr.splitlines()[-1].startswith("error: refused: codetune-mine: still at work")
    assert is_alive(seen["pid"]) and checkout.names() == ["codetune-mine"]
    [told] = checkout.status()
    assert (told["status"], told["asked_to_stop"]) == ("stopping", True)

    late = checkout.call("kill")
    assert late.returncode == 0 and "asked to save and exit before" in late.stderr
    signals = (checkout.root / f"saved.{seen['run']}").read_text().split()[1]
    assert signals == "1", "a second one would have ended it at once"


def test_a_request_that_was_lost_is_made_again(checkout: Checkout) -> None:
    """Python drops an exception that a signal raises in a destructor."""
    seen = checkout.started("--run_name", "mine", LOST="1")
    done = checkout.call("kill")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("asked it again") == 1
    assert (checkout.root / f"saved.{seen['run']}").read_text().split()[1] == "2"


def test_force_kills_that_run_only(checkout: Checkout) -> None:
    other = checkout.started("--run_name", "other")
    deaf = checkout.started("--run_name", "deaf", DEAF="1")
    assert checkout.call("kill", "deaf", "--wait", "0.3").returncode == 3
    assert is_alive(deaf["pid"])
    forced = checkout.call("kill", "deaf", "--wait", "0.3", "--force")
    assert forced.returncode == 0, forced.stderr
    assert "run deaf crashed" in forced.stderr
    assert not is_alive(deaf["pid"]) and is_alive(other["pid"])
    assert checkout.names() == ["codetune-other"]


@pytest.mark.slow
def test_ctrl_c_while_waiting_lets_the_run_save(checkout: Checkout) -> None:
    seen = checkout.started(SAVE_SECONDS="2")
    command = [sys.executable, ROOT / "scripts/runs/background.py", "kill"]
    waiting = subprocess.Popen(
        command, cwd=checkout.root, env=checkout.env, stderr=subprocess.PIPE, text=True
    )
    until(lambda: checkout.status()[0]["asked_to_stop"], "it was asked")
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert "goes on to save and exit" in said and "Traceback" not in said
    assert checkout.names() == ["codetune-default"]
    until(lambda: saved(checkout, seen), "it has saved")


def test_the_run_is_found_when_it_is_a_child_of_the_door(checkout: Checkout) -> None:
    """As with `train-log`: the window's process is a shell that waits."""
    seen = checkout.started(DOOR_WAITS="1", SAVE_SECONDS="0.3")
    pane = checkout.tmux("list-panes", "-t", "codetune-default:train", "-F", "#{pane_pid}")
    assert int(pane) != seen["pid"]
    done = checkout.call("kill")
    assert done.returncode == 0, done.stderr
    assert saved(checkout, seen) and not is_alive(int(pane))


@pytest.mark.parametrize("child_of_the_door", ["", "1"])
def test_a_session_that_tmux_itself_ends_is_saved(
    checkout: Checkout, child_of_the_door: str
) -> None:
    """Its terminal hangs up: what the run says then cannot be written, and is not missed."""
    seen = checkout.started(DOOR_WAITS=child_of_the_door)
    checkout.tmux("kill-session", "-t", "codetune-default")
    until(lambda: not is_alive(seen["pid"]), "it has ended")
    assert saved(checkout, seen)
    row = local.read_run(journal_path(checkout.root, seen["run"]))
    assert row is not None and (row.status, row.reason) == ("interrupted", "SIGHUP")


def test_before_its_start_a_run_can_be_ended_too(checkout: Checkout) -> None:
    assert checkout.call("train", DOOR_SECONDS="1000").returncode == 0
    [told] = checkout.status()
    assert (told["status"], told["step"]) == ("starting", None)
    done = checkout.call("kill", "--wait", "20")
    assert done.returncode == 0, done.stderr
    row = local.read_run(journal_path(checkout.root, checkout_run(checkout)))
    assert row is not None and row.status == "interrupted"
    assert checkout.names() == []


@pytest.mark.slow
def test_a_users_own_tmux_settings_do_not_matter(checkout: Checkout) -> None:
    settings = "set -g base-index 1\nset -g destroy-unattached on\nset -g renumber-windows on\n"
    settings += "set -g default-command 'exit 9'\nset -g automatic-rename on\n"
    (Path(checkout.env["HOME"]) / ".tmux.conf").write_text(settings)
    checkout.started()
    windows = checkout.tmux("list-windows", "-t", "codetune-default", "-F", "#I #W")
    assert windows == "1 train\n2 gpu\n3 tensorboard\n"
    client, terminal = attached(checkout)
    read_until(terminal, b"this is step")
    client.kill()
    client.wait()
    os.close(terminal)
    until(lambda: not checkout.tmux("list-clients"), "the client is gone")
    assert checkout.names() == ["codetune-default"]


@pytest.mark.slow
def test_windows_that_the_user_closes_or_adds(checkout: Checkout) -> None:
    seen = checkout.started()
    checkout.tmux("kill-window", "-t", "codetune-default:gpu")
    checkout.tmux("new-window", "-d", "-t", "codetune-default:", "sleep", "1000")
    assert checkout.status()[0]["at_work"]
    assert checkout.call("kill").returncode == 0
    assert saved(checkout, seen)


@pytest.mark.slow
def test_typed_in_a_window_of_the_session_itself(checkout: Checkout) -> None:
    """Replacing would end the very shell that is to open the new one."""
    seen = checkout.started()
    command = f"{sys.executable} {ROOT}/scripts/runs/background.py"
    shell = ("new-window", "-t", "codetune-default:", "-n", "shell", "-c", str(checkout.root), "sh")
    checkout.tmux(*shell)
    window = "codetune-default:shell"
    checkout.tmux("send-keys", "-t", window, f"{command} train --replace", "Enter")
    until(lambda: "is where you are" in checkout.screen(window), "it is refused")
    assert is_alive(seen["pid"]) and checkout.status()[0]["run"] == seen["run"]
    checkout.tmux("send-keys", "-t", window, f"{command} kill >kill.txt 2>&1", "Enter")
    until(lambda: not checkout.names(), "the session is gone")
    assert saved(checkout, seen)
    assert "ended; run default interrupted" in (checkout.root / "kill.txt").read_text()


def test_what_tmux_complains_of_is_one_line(checkout: Checkout, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)  # longer than the name of a socket may be
    long.mkdir()
    for words in (["status"], ["train"], ["kill"]):
        done = checkout.call(*words, TMUX_TMPDIR=str(long))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "name too long" in done.stderr
    assert local.run_ids(checkout.root) == []
