"""archive-logs as a user runs it: what is told, the exit codes, and what goes wrong around it."""

import json
import os
import pty
import shutil
import subprocess
import sys
import time

import pytest

from codetune import artefact
from codetune.logs import archive
from tests.logs.archive_home import Home, a_line, a_session

SCRIPT = "data_prep/claude_logs/archive_logs.py"
SFT = "data_prep/claude_logs/claude2sft.py"
ONE, TWO = a_session(1), a_session(2)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with two sessions, in which the scripts run too."""
    made = Home(tmp_path)
    made.archive = tmp_path / "data" / "archive"
    monkeypatch.setenv("HOME", str(made.folder))
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    made.write(f"-p/{ONE}.jsonl", a_line("one", ONE, timestamp="2026-01-02T03:04:05Z", cwd="/p"))
    made.write(f"-q/{TWO}.jsonl", a_line("two", TWO, timestamp="2026-02-02T03:04:05Z", cwd="/q"))
    return made


@pytest.fixture
def run(home, run_here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    return lambda *args, script=SCRIPT: run_here(script, *args)


@pytest.fixture
def keep(run):
    """A run; returns the report of --json."""

    def kept(*args):
        done = run("--json", *args)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return kept


def test_a_day_of_a_user(home, run):
    first = run()
    assert first.returncode == 0
    assert "2 new, 0 grown files" in first.stderr and "2 sessions in 2 files" in first.stderr
    assert "~/.claude/projects" in first.stderr and "2026-01-02" in first.stderr
    assert first.stdout == ""
    again = run()
    assert again.returncode == 0 and "up to date: nothing new" in again.stderr
    home.write(f"-p/{ONE}.jsonl", a_line("more", ONE), add=True)
    assert "0 new, 1 grown files" in run().stderr
    shutil.rmtree(home.root / "-p")
    assert "1 files" in run().stderr
    assert "2 files are as they were kept" in run("--verify").stderr
    assert home.kept(f"-p/{ONE}.jsonl").count(b"\n") == 2


def test_json_and_its_accounts(home, keep):
    home.write("-q/empty.jsonl", b"")
    home.write("-q/notes.md", b"x")
    report = keep()
    files = report["counts"]["files"]
    assert files == {"in": 4, "kept": 2, "dropped": {"empty": 1, "not_a_session": 1}}
    [source] = report["sources"]
    told = {name: source[name] for name in ("new", "grown", "unchanged", "forgotten", "unreadable")}
    assert told == {"new": 2, "grown": 0, "unchanged": 0, "forgotten": 0, "unreadable": 0}
    assert source["bytes"] == report["metrics"]["bytes_added"] == source["bytes_added"]
    assert (report["status"], keep()["status"]) == ("done", "up to date")


def test_dry_run_and_list_only_write_nothing(home, run):
    assert run("--dry_run").returncode == 0
    listed = run("--list_only")
    assert "2 new, 0 grown files at the sources; nothing was copied" in listed.stderr
    assert not home.archive.exists()
    run()
    home.write(f"-p/{ONE}.jsonl", a_line("more", ONE), add=True)
    before = home.all_bytes()
    assert "0 new, 1 grown" in run("--list_only").stderr
    assert home.all_bytes() == before


def test_no_assistant_here_is_one_line(home, run):
    shutil.rmtree(home.root)
    done = run()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "give --src a folder" in done.stderr


@pytest.mark.parametrize(
    "flags",
    [["--verify"], ["--forget", ONE], ["--verify", "--list_only"], ["--src", "nowhere"]],
    ids=" ".join,
)
def test_what_cannot_be_done_is_one_line(home, run, flags):
    done = run(*flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


class TestVerify:
    def test_damage_is_refused_with_the_name_and_the_next_run_mends_it(self, home, run):
        run()
        path = home.archive / home.place / f"-p/{ONE}.jsonl"
        data = path.read_bytes()
        path.write_bytes(data.replace(b"one", b"0ne"))
        done = run("--verify")
        assert done.returncode == 3
        assert "1 files are not as they were kept" in done.stderr and "differs" in done.stderr
        assert "1 replaced" in run().stderr
        assert path.read_bytes() == data
        assert run("--verify").returncode == 0

    def test_damage_without_a_source_stays_known(self, home, run):
        run()
        (home.archive / home.place / f"-p/{ONE}.jsonl").unlink()
        (home.archive / home.place / f"-q/{TWO}.jsonl").write_bytes(b"short")
        shutil.rmtree(home.root / "-p")
        told = run().stderr
        assert f"-p/{ONE}.jsonl: differs" in told and "1 replaced" in told
        done = run("--verify", "--json")
        assert done.returncode == 3
        assert json.loads(done.stdout)["counts"]["files"]["dropped"] == {"missing": 1}

    def test_a_file_that_nobody_kept_is_told(self, home, run):
        run()
        (home.archive / home.place / "-p/more.jsonl").write_bytes(b"{}\n")
        assert "unrecorded" in run("--verify").stderr
        assert "found again" in run().stderr
        assert run("--verify").returncode == 0


class TestForget:
    def test_without_a_terminal_it_shows_and_wants_yes(self, home, run):
        run()
        before = home.all_bytes()
        done = run("--forget", ONE)
        assert done.returncode == 2 and ONE in done.stdout and "add --yes" in done.stderr
        assert home.all_bytes() == before

    def test_no_log_keeps_the_name(self, home, run):
        run()
        logs = home.folder / "logs"
        shutil.rmtree(logs)
        for flags in (["--forget", ONE], [f"--forget={ONE}", "--yes"], ["--forget", "-q", "--yes"]):
            run(*flags)
        files = [path for path in logs.rglob("*") if path.is_file()]
        assert len(files) >= 4
        for path in files:
            assert ONE.encode() not in path.read_bytes(), path
        assert ONE.encode() not in home.all_bytes()

    def test_it_is_gone_and_stays_gone_and_rows_lose_it(self, home, run, root):
        shutil.copytree(root / "data/staging/claude_logs", home.root, dirs_exist_ok=True)
        run()
        project = "-home-mirela-tools-loomlog"
        assert run(f"--forget={project}", "--yes").returncode == 0
        assert project.encode() not in home.all_bytes()
        told = json.loads(run("--json").stdout)
        assert told["sources"][0]["forgotten"] > 0
        for name, source in (("a", "data/archive"), ("b", home.root)):
            done = run("--src", source, "--out", f"data/{name}.jsonl", "--json", script=SFT)
            assert done.returncode == 0, done.stderr
            left = json.loads(done.stdout)["counts"]["files"]["dropped"].get("forgotten", 0)
            assert left == (0 if name == "a" else told["sources"][0]["forgotten"])
        work = home.folder / "data"
        assert (work / "a.jsonl").read_bytes() == (work / "b.jsonl").read_bytes()

    @pytest.mark.parametrize(("said", "left"), [(b"y\n", 1), (b"n\n", 2), (b"\n", 2)])
    def test_on_a_terminal_it_asks(self, home, root, run, said, left):
        run()
        ours, theirs = pty.openpty()
        command = [sys.executable, root / "scripts" / SCRIPT, "--forget", ONE]
        env = {**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "150"}
        place = home.folder
        asked = subprocess.Popen(command, cwd=place, env=env, stdin=theirs, stdout=theirs)
        os.write(ours, said)
        assert asked.wait(60) == (0 if left == 1 else 2)
        assert ONE.encode() in os.read(ours, 10_000)
        os.close(theirs)
        os.close(ours)
        assert len(home.index().entries) == left


class TestRowsAreTheSame:
    def rows(self, home, run, name, *sources):
        done = run("--src", *sources, "--out", f"data/{name}.jsonl", script=SFT)
        assert done.returncode == 0, done.stderr
        return (home.folder / f"data/{name}.jsonl").read_bytes()

    def test_two_roots_with_equal_projects_and_a_session_in_both(self, home, run, root):
        """The staging sessions; in the second root with the same names, some of them longer."""
        staging = root / "data/staging/claude_logs"
        second = home.folder / ".config/claude/projects"
        shutil.rmtree(home.root)
        for place in (home.root, second):
            shutil.copytree(staging, place)
        # one root has the beginning of a session, the other all of it, in either order
        files = sorted(path.relative_to(staging) for path in staging.rglob("*.jsonl"))
        for number, name in enumerate(files):
            short = (home.root, second)[number % 2] / name
            lines = short.read_bytes().splitlines(keepends=True)
            short.write_bytes(b"".join(lines[: len(lines) // 2]))
        originals = self.rows(home, run, "a", home.root, second)
        assert run().returncode == 0
        assert self.rows(home, run, "b", "data/archive") == originals
        assert self.rows(home, run, "c", "data/archive", home.root, second) == originals
        alone = self.rows(home, run, "d", home.root)
        assert self.rows(home, run, "e", home.archive / home.place) == alone
        shutil.rmtree(home.root)
        shutil.rmtree(second)
        assert self.rows(home, run, "f", "data/archive") == originals

    @pytest.mark.slow
    def test_real_sessions(self, home, run, shared):
        logs = shared / "data" / "logs"
        shutil.rmtree(home.root)
        for name in ("claude-code-log/projects", "sniffly/projects", "entire-cli/projects"):
            shutil.copytree(logs / name, home.root, dirs_exist_ok=True)
        for name in ("codex/sessions", "gemini-cli"):
            place = ".codex/sessions" if name.startswith("codex") else ".gemini/tmp/abcd/chats"
            shutil.copytree(logs / name, home.folder / place)
        places = [home.folder / p for p in (".claude/projects", ".codex/sessions", ".gemini/tmp")]
        originals = self.rows(home, run, "a", *places)
        assert run().returncode == 0
        assert self.rows(home, run, "b", "data/archive") == originals
        assert home.equals_sources()


class TestTogether:
    def test_two_at_once_wait_for_each_other(self, home, root):
        for number in range(120):
            home.write(f"-p/{a_session(number)}.jsonl", a_line("x", a_session(number)) * 50)
        env = {**os.environ, "PYTHONPATH": str(root / "src")}
        command = [sys.executable, root / "scripts" / SCRIPT]
        place = home.folder
        runs = [
            subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.PIPE) for _ in range(3)
        ]
        told = [run.communicate(timeout=120)[1] for run in runs]
        assert [run.returncode for run in runs] == [0, 0, 0], told
        assert home.equals_sources() and home.wrong() == []
        lines = (home.archive / "archive.index").read_bytes().splitlines()
        names = [json.loads(line).get("name") for line in lines]
        assert len(names) == len(set(names)), "a file was copied twice"

    def test_one_that_has_waited_long_enough_says_so(self, home, run):
        home.keep()
        with artefact.locked(home.archive / archive.LOCK, 0, lambda: None):
            started = time.monotonic()
            done = run("--wait", "0.3")
            assert time.monotonic() - started < 20
        assert done.returncode == 2
        assert "waiting for it" in done.stderr and "try later" in done.stderr
        assert run().returncode == 0


LIMITED = 'ulimit -f 1000; exec "$0" "$@"'


class TestTheMachine:
    """Real refusals of the system: a full disk, a limit on files, files that are not ours."""

    def command(self, root, *before):
        return [*before, sys.executable, root / "scripts" / SCRIPT]

    def started(self, home, command):
        env = {**os.environ, "PYTHONPATH": str(home.root_of_code)}
        place = home.folder
        return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)

    @pytest.fixture(autouse=True)
    def code(self, home, root):
        home.root_of_code = root / "src"

    def test_a_limit_on_the_size_of_files_is_one_line_and_loses_nothing(self, home, root):
        big = a_line("x" * 1000, ONE) * 900
        home.write(f"-p/{ONE}.jsonl", big)
        home.keep()
        home.write(f"-p/{ONE}.jsonl", big, add=True)
        done = self.started(home, self.command(root, "bash", "-c", LIMITED))
        assert done.returncode == 2
        assert "disk is full" in done.stderr and done.stderr.count("\n") == 1
        assert home.kept(f"-p/{ONE}.jsonl") == big and home.wrong() == []
        assert home.keep().total("grown") == 1
        assert home.equals_sources()

    def test_a_full_disk_is_one_line_and_the_next_run_goes_on(self, home, root):
        small = home.archive
        small.mkdir(parents=True)
        options = ["-t", "tmpfs", "-o", "size=2m", "none", small]
        if subprocess.run(["mount", *options], capture_output=True).returncode != 0:
            pytest.skip("mounting a small disk needs root")
        try:
            for number in range(30):
                session = a_session(number)
                home.write(f"-p/{session}.jsonl", a_line("x" * 1000, session) * 100)
            done = self.started(home, self.command(root))
            assert done.returncode == 2
            assert "disk is full" in done.stderr and done.stderr.count("\n") == 1
            assert home.wrong() == []
            assert 5 < len(home.index().entries) < 25
            subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
            done = self.started(home, self.command(root))
            assert done.returncode == 0, done.stderr
            assert home.equals_sources() and home.wrong() == []
        finally:
            subprocess.run(["umount", small], check=True)

    def test_what_may_not_be_read_is_told_and_the_rest_is_kept(self, home, root):
        closed = home.write(f"-p/{a_session(3)}.jsonl", a_line("x"))
        closed.chmod(0)
        (home.root / "-closed").mkdir(mode=0o000)
        before = []
        if os.geteuid() == 0:  # root reads everything, unless it gives that up
            before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
            if shutil.which("setpriv") is None:
                pytest.skip("root can read everything here")
        done = self.started(home, [*self.command(root, *before), "--json"])
        assert done.returncode == 0, done.stderr
        assert "warning: not kept, unreadable" in done.stderr
        assert str(closed) in done.stderr and "-closed" in done.stderr
        files = json.loads(done.stdout)["counts"]["files"]
        assert files == {"in": 4, "kept": 2, "dropped": {"unreadable": 2}}
        closed.chmod(0o600)
        assert home.keep().total("new") == 1

    def test_an_archive_that_may_not_be_written_is_one_line(self, home, root):
        home.archive.parent.mkdir()
        home.archive.write_text("in the way")
        done = self.started(home, self.command(root))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_names_from_outside_reach_no_terminal(home, run):
    session = f"{ONE}\x1b]0;owned\x07"
    home.write("-p/\x1b[31mred\n.jsonl", a_line("x", session, cwd="/\x1b[2Jx"))
    run()
    done = run("--forget", str(home.root / "-p"))
    assert "\x1b" not in done.stdout + done.stderr


def test_nothing_is_sent_and_sources_are_not_touched(home, run):
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in home.root.rglob("*.jsonl")}
    run()
    run(f"--forget={ONE}", "--yes")
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in home.root.rglob("*.jsonl")} == before
