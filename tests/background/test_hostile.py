"""What a user types and has in the environment reaches the run as it is, and nobody else."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codetune.background.tmux import encoded, quoted
from codetune.runlog import local
from codetune.runlog.events import journal_path
from tests.background.checkout import Checkout, until

ODD = [
    "a b",
    "it's",
    '"quoted"',
    "$(touch pwned)",
    "`touch pwned`",
    "#{pid}",
    "#(touch pwned)",
    "two\nlines\n  # and more",
    ";",
    "x;",
    "\\;",
    "{",
    "}",
    "~",
    "%if",
    "é\u202e",
    "\x1b[31mred\x07",
    "*",
    "back\\slash\\",
    "x" * 200,
]


def test_every_argument_arrives_as_it_was_typed(checkout: Checkout) -> None:
    words = [f"--train_file={word}" for word in ODD] + ["--eval_file", "odd\n;'\" $HOME.jsonl"]
    shutil.copy(checkout.root / "data" / "train.jsonl", checkout.root / ODD[-1])
    shutil.copy(checkout.root / "data" / "eval.jsonl", checkout.root / words[-1])
    seen = checkout.started(*words, "--run_name", "mine")
    assert seen["argv"][: len(words)] == words
    assert [name for name in checkout.names() if "mine" not in name] == []


NAMES = [
    "it's $(touch pwned)",
    "two\nlines; #(touch pwned)",
    "\x1b[31mred\x07\u202e",
    "",
    "x" * 4000,
]


@pytest.mark.parametrize("name", [*NAMES, "a.b:c=", "-t"])
def test_every_name_is_a_session_of_its_own(checkout: Checkout, name: str) -> None:
    opened = checkout.call("train", f"--name={name}", DOOR_EXIT="0")
    assert opened.returncode == 0, opened.stderr
    assert "\x1b" not in opened.stderr
    [told] = checkout.status()
    assert told["title"] == name
    assert told["session"].isascii() and len(told["session"]) < 60
    assert checkout.names() == [told["session"]]
    assert "\x1b" not in checkout.call("status").stdout
    assert checkout.call("kill", "--", name).returncode == 0
    assert checkout.names() == []


def test_a_hostile_run_name_is_shown_clean(checkout: Checkout) -> None:
    name = "\x1b[31mred\x07 $(touch pwned) \u202e"
    seen = checkout.started("--run_name", name)
    row = local.read_run(journal_path(checkout.root, seen["run"]))
    assert row is not None and row.name == "red $(touch pwned) "
    shown = checkout.call("status").stdout
    assert "red $(touch pwned)" in shown and "\x1b" not in shown and "\u202e" not in shown
    assert checkout.call("kill", "--", name).returncode == 0


@contextmanager
def watched(found: set[bytes]) -> Iterator[None]:
    """Collects the command lines of all processes of this machine, again and again."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    found.add(place.read_bytes())
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def told_tmux(checkout: Checkout, tmp_path: Path) -> Path:
    """Puts a tmux on PATH that notes how it is called and then becomes the real one."""
    tools, calls = tmp_path / "noting", tmp_path / "calls"
    tools.mkdir()
    real = shutil.which("tmux")
    (tools / "tmux").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>"{calls}"\nexec {real} "$@"\n')
    (tools / "tmux").chmod(0o755)
    checkout.env["PATH"] = f"{tools}{os.pathsep}{checkout.env['PATH']}"
    return calls


def test_the_environment_arrives_and_stands_in_no_command_line(
    checkout: Checkout, tmp_path: Path
) -> None:
    stale = {"CUDA_VISIBLE_DEVICES": "7", "HF_HOME": "/stale", "OMP_NUM_THREADS": "64"}
    server = ["tmux", "new-session", "-d", "-s", "old", "sleep", "1000"]
    subprocess.run(server, env=checkout.env | stale, check=True)
    calls, lines = told_tmux(checkout, tmp_path), set[bytes]()
    given_now = {
        "HF_TOKEN": "hf_s3cret-token",
        "OTHER": "postgresql://user:s3cret@host/\n  # \"two\" 'lines' $HOME \\ #{pid} \udcff",
        "HF_HOME": str(tmp_path / "hub"),
        "OMP_NUM_THREADS": "1",
        "EMPTY": "",
        "BASH_FUNC_x%%": "() { :; }",
    }
    with watched(lines):
        seen = checkout.started("--run_name", "mine", **given_now)
        time.sleep(0.2)
    arrived = seen["env"]
    for name in ("HF_TOKEN", "OTHER", "HF_HOME", "OMP_NUM_THREADS", "EMPTY"):
        assert arrived[name] == given_now[name]
    assert "CUDA_VISIBLE_DEVICES" not in arrived, "of the server, and not of the caller"
    assert arrived["TERM"].startswith(("screen", "tmux")) and "TMUX" in arrived
    for name in ("PATH", "PYTHONPATH", "HOME"):
        assert arrived[name] == checkout.env[name]

    assert any(b"source-file" in line for line in [calls.read_bytes()])
    assert any(seen["run"].encode() in line for line in lines), "the watch sees command lines"
    assert not any(b"s3cret" in line for line in [*lines, calls.read_bytes()])
    journal = journal_path(checkout.root, seen["run"])
    assert b"s3cret" not in journal.read_bytes()


def test_a_variable_that_looks_like_one_of_tmuxs_own_is_left_to_tmux(checkout: Checkout) -> None:
    checkout.tmux("new-session", "-d", "-s", "old", "sleep", "1000")
    seen = checkout.started(TERM="dumb", COLUMNS="33", STY="1", TERM_PROGRAM="other")
    assert seen["env"]["TERM"] != "dumb" and "STY" not in seen["env"]
    assert seen["env"].get("COLUMNS") != "33"


def test_what_is_written_is_for_its_owner(without_tmux: Checkout) -> None:
    seen = without_tmux.started()
    record, lock = sorted((without_tmux.root / "logs" / "background").iterdir())
    output = journal_path(without_tmux.root, seen["run"]).with_name("output.log")
    for file in (record, lock, output):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "TEST_STAGE" not in record.read_text(), "no environment"


@pytest.mark.parametrize("name", NAMES[::2])
def test_hostile_names_without_tmux(without_tmux: Checkout, name: str) -> None:
    opened = without_tmux.call("train", f"--name={name}", DOOR_EXIT="0")
    assert opened.returncode == 0, opened.stderr
    assert [told["title"] for told in without_tmux.status()] == [name]
    files = list((without_tmux.root / "logs" / "background").iterdir())
    assert sorted(file.suffix for file in files) == [".json", ".lock"]
    until(lambda: not without_tmux.status()[0]["at_work"], "it has ended")
    assert without_tmux.call("kill", "--", name).returncode == 0
    assert without_tmux.status() == []


class TestQuotedWords:
    """tmux's own parser gives back what was quoted, byte by byte."""

    @given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=60))
    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_any_text(self, private: dict[str, str], text: str) -> None:
        self.there_and_back(private, text)

    @pytest.mark.parametrize(
        "text", [*ODD, "\udcff\udc80", "%", "%1", "=x", "-x", "@1", "x" * 50_000]
    )
    def test_odd_text(self, private: dict[str, str], text: str) -> None:
        self.there_and_back(private, text)

    def there_and_back(self, private: dict[str, str], text: str) -> None:
        script = f"set-buffer -b here -- {quoted(text)} ; save-buffer -b here -\n"
        script = "new-session -d -s keep cat\n" + script
        done = subprocess.run(
            ["tmux", "start-server", ";", "source-file", "-"],
            env=private,
            input=script.encode(),
            capture_output=True,
        )
        assert done.stdout == os.fsencode(text), done.stderr

    @given(st.text(st.characters(codec="utf-8")))
    def test_encoded_text_is_one_word_of_ascii(self, text: str) -> None:
        word = encoded(text)
        assert word.isascii() and word.isprintable()
        assert not set(word) & set(" |'\"#{}$\\;")
