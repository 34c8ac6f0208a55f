"""A run that is killed at each of its writes in turn, and what the next run makes of it.

The writes are counted in a child process that ends itself, as kill -9 does, in the middle of the
n-th. Expected: no byte that was in the archive is gone, the next run completes everything, and
what was to be forgotten is either all there or nowhere.
"""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from codetune.logs import archive
from tests.logs.archive_home import Home, a_line, a_session

CALLS = ("pwrite", "write", "fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "ftruncate")
FORK = multiprocessing.get_context("fork")
LINES = [a_line(f"line {n} " + "x" * 50, a_session(1)) for n in range(40)]


def dying(action, after):
    """Calls `action` in a child that is gone in the middle of write number `after`."""
    left = iter(range(after))

    def patched(name):
        original = getattr(os, name)

        def call(*args, **more):
            if next(left, None) is None:
                if name in ("pwrite", "write"):
                    original(args[0], args[1][: len(args[1]) // 2], *args[2:])
                os._exit(9)
            return original(*args, **more)

        return call

    for name in CALLS:
        setattr(os, name, patched(name))
    action()
    os._exit(0)


def killed_after(action, after):
    """Whether the child was killed (and not done) before its write number `after`."""
    child = FORK.Process(target=dying, args=(action, after))
    child.start()
    child.join()
    assert child.exitcode in (0, 9)
    return child.exitcode == 9


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A home with an archive, after which the sources changed in all ways."""
    home = Home(tmp_path_factory.mktemp("home"))
    home.write("p/grows.jsonl", b"".join(LINES[:5]))
    home.write("p/anew.jsonl", b"".join(LINES[5:10]))
    home.write("p/shrinks.jsonl", b"".join(LINES[10:15]))
    home.write("p/chats/s.json", b'{"sessionId": "s", "n": 1}')
    home.write("p/goes.jsonl", b"".join(LINES[15:20]))
    home.write("p/damaged.jsonl", b"".join(LINES[30:32]))
    home.keep()
    (home.archive / home.place / "p/damaged.jsonl").write_bytes(b"broken\n")
    home.write("p/grows.jsonl", b"".join(LINES[20:22]), add=True)
    home.write("p/anew.jsonl", b"".join(LINES[22:25]))
    home.write("p/shrinks.jsonl", LINES[10])
    home.write("p/chats/s.json", b'{"sessionId": "s", "n": 2}')
    home.write("q/new.jsonl", b"".join(LINES[25:30]))
    (home.root / "p/goes.jsonl").unlink()
    return home


def copied(home, folder):
    """The same home somewhere else; its index is told where the root is now."""
    shutil.copytree(home.folder, folder / "home", symlinks=True)
    made = Home.__new__(Home)
    made.folder = folder / "home"
    made.root, made.archive = made.folder / ".claude/projects", made.folder / "work/data/archive"
    old, new = made.archive / home.place, made.archive / made.place
    new.parent.mkdir(parents=True)
    old.rename(new)
    text = (made.archive / "archive.index").read_text()
    text = text.replace(home.place, made.place).replace(str(home.root), str(made.root))
    (made.archive / "archive.index").write_text(text)
    return made


def contents(home):
    """Every line that the archive holds, as a bag."""
    files = [p for p in home.archive.rglob("*-*/*/*/**/*") if p.is_file() and p.name[0] != "."]
    return Counter(line for p in files for line in p.read_bytes().split(b"\n"))


def states(before, tmp_path, stride, action, **more):
    """The home as it is after a kill at every `stride`-th write of `action(home)`."""
    for after in range(0, 1000, stride):
        home = copied(before, tmp_path / str(after))
        if not killed_after(lambda home=home: action(home, **more), after):
            assert after > 10, "the writes were not counted"
            return
        yield after, home
        shutil.rmtree(tmp_path / str(after))


EVERY = pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 9])


@EVERY
@pytest.mark.crash
def test_a_kill_at_any_write_loses_nothing_and_the_next_run_completes_it(before, tmp_path, stride):
    held = contents(before)
    for after, home in states(before, tmp_path, stride, Home.keep):
        assert not held - contents(home), f"killed at write {after}: bytes are gone"
        home.keep()
        assert not held - contents(home), f"killed at write {after}: the next run lost bytes"
        assert home.equals_sources(), f"killed at write {after}"
        assert home.wrong() == [], f"killed at write {after}"
        assert home.kept("p/goes.jsonl") == b"".join(LINES[15:20])
        assert b"".join(LINES[5:10]) in home.versions("p/anew.jsonl")
        assert b"".join(LINES[10:15]) in home.versions("p/shrinks.jsonl")
        assert home.outcomes() == {"unchanged": 6}
        assert not list(home.archive.rglob(".*"))


@EVERY
@pytest.mark.crash
def test_a_kill_and_then_the_loss_of_every_source_is_no_loss(before, tmp_path, stride):
    """The worst case: what the killed run had moved aside has no successor any more."""
    names = {path.name for path in before.archive.rglob("*.json*")}
    for after, home in states(before, tmp_path, stride, Home.keep):
        held = contents(home)
        shutil.rmtree(home.root)
        home.root.mkdir()
        home.keep()
        assert not held - contents(home), f"killed at write {after}"
        there = {path.name for path in home.archive.rglob("*.json*")}
        assert names <= there, f"killed at write {after}"
        damaged = [name for name, _ in home.wrong()]
        assert all(name.endswith("p/damaged.jsonl") for name in damaged), f"write {after}"


def forget(home, wanted):
    index = archive.Index(home.archive)
    archive.repair(index, archive.forgotten(home.archive))
    archive.forget(index, archive.select(index, wanted, home.folder))
    index.close()


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("secret"))
    for number in (1, 2):
        session = a_session(number)
        home.write(f"p/{session}.jsonl", a_line(f"SECRET{number}", session))
        home.write(f"p/{session}/subagents/agent-1.jsonl", a_line(f"SECRET{number}", session))
        home.keep()
        home.write(f"p/{session}.jsonl", a_line(f"SECRET{number} again", session))
    home.keep()
    return home


@pytest.mark.crash
def test_a_kill_while_forgetting_leaves_all_or_nothing_after_the_next_run(secret, tmp_path):
    seen = set()
    for after, home in states(secret, tmp_path, 1, forget, wanted=a_session(1)):
        home.keep()
        left = home.all_bytes().count(b"SECRET1")
        assert left in (0, 3), f"killed at write {after}: {left} of 3 files are left"
        assert home.all_bytes().count(b"SECRET2") == 3
        assert home.wrong() == []
        assert (a_session(1).encode() in home.all_bytes()) == bool(left)
        seen.add(left)
    assert seen == {0, 3}


def test_a_kill_while_a_lost_index_is_made_again_is_no_matter(before, tmp_path):
    for after, home in states(before, tmp_path / "a", 5, lose_index_and_keep):
        home.keep()
        assert home.equals_sources(), f"killed at write {after}"
        assert home.wrong() == [], f"killed at write {after}"


def lose_index_and_keep(home):
    (home.archive / "archive.index").unlink()
    home.keep()


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("seed", range(4))
def test_real_kills_of_the_script_at_random_moments(tmp_path, root, seed):
    """kill -9 from outside. To replay: the seed is the test's parameter."""
    dice = random.Random(seed)
    home = Home(tmp_path)
    names = [f"p{n % 7}/{a_session(n)}.jsonl" for n in range(400)]
    for name in names:
        home.write(name, b"".join(dice.choices(LINES, k=dice.randint(1, 400))))
    script = root / "scripts/data_prep/claude_logs/archive_logs.py"
    place = tmp_path / "work"
    place.mkdir(exist_ok=True)
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(root / "src")}
    killed = 0
    for _ in range(8):
        run = subprocess.Popen(
            [sys.executable, script], cwd=place, env=env, stderr=subprocess.DEVNULL
        )
        time.sleep(dice.uniform(0.25, 0.8))
        run.send_signal(signal.SIGKILL)
        killed += run.wait() == -signal.SIGKILL
        for name in dice.sample(names, 20):
            home.write(name, dice.choice(LINES), add=True)
    assert killed > 2
    done = subprocess.run([sys.executable, script], cwd=place, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert home.equals_sources()
    assert home.wrong() == []


def test_a_torn_index_and_a_lost_one_are_made_again(before, tmp_path):
    home = copied(before, tmp_path)
    home.keep()
    path = home.archive / "archive.index"
    whole = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*whole[:3], b"\0\0garbage", b"[1]", *whole[5:-2], whole[-2][:20]]))
    index = home.index()
    assert index.unreadable == 3
    home.keep()
    assert home.equals_sources() and home.wrong() == []
    path.unlink()
    versions = len(list(home.archive.rglob("*.superseded-*")))
    home.keep()
    assert home.equals_sources() and home.wrong() == []
    assert len(home.index().versions) == versions > 0
    assert home.kept("p/goes.jsonl") == b"".join(LINES[15:20])


@pytest.mark.parametrize("data", [b"longer, but " * 50 + b"\n", b"short\n"])
def test_bytes_that_nobody_kept_do_not_pass_for_a_session(tmp_path, data):
    home = Home(tmp_path)
    path = home.write("p/a.jsonl", LINES[0])
    home.keep()
    path.unlink()
    (home.archive / home.place / "p/a.jsonl").write_bytes(data)
    for _ in range(2):
        home.keep()
        assert home.wrong() == [(f"{home.place}/p/a.jsonl", "differs")]
        assert home.index().damaged == {f"{home.place}/p/a.jsonl"}


def test_an_index_that_leads_out_of_the_archive_is_not_followed(before, tmp_path):
    home = copied(before, tmp_path)
    outside = Path(home.archive.parent / "outside.jsonl")
    outside.write_bytes(LINES[0])
    with (home.archive / "archive.index").open("a") as file:
        for name in ("../../outside.jsonl", "/etc/passwd", "a-01234567/../../outside.jsonl"):
            file.write(
                f'{{"kind":"kept","name":"{name}","bytes":1,"sha256":"x","stamp":[0,0,0]}}\n'
            )
    assert home.index().unreadable == 3
    forget(home, str(home.root / "p"))
    assert outside.exists()


def test_an_index_with_many_idle_lines_is_written_anew(tmp_path, monkeypatch):
    home = Home(tmp_path)
    home.write("p/a.jsonl", LINES[0])
    home.keep()
    index = home.index()
    for _ in range(20):
        index.keep(next(iter(index.entries.values())))
    index.close()
    monkeypatch.setattr("codetune.logs.archive.index._IDLE_LINES", 10)
    again = home.index()
    again.tidy()
    assert again.path.read_bytes().count(b"\n") == 2
    assert home.index().entries == index.entries
    assert home.outcomes() == {"unchanged": 1}
