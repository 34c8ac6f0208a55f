"""TensorBoard is started for real, on loopback alone, found again, and ended; never another's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from codetune.background import ports, tensorboard
from codetune.background.tensorboard import RECORDS, Server, servers
from codetune.errors import UserError
from codetune.runlog.process import Process, current

Script = Callable[..., subprocess.CompletedProcess[str]]
SCRIPT = "runs/tensorboard.py"


def listening(port: int = 0) -> socket.socket:
    """A server of somebody else, which may hold the port already."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("127.0.0.1", port))
    except OSError:
        assert port, "no port is free"
    else:
        server.listen()
    return server


def free_port() -> int:
    with listening() as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project folder with one curve; whatever TensorBoard it starts is gone afterwards."""
    writer = EventFileWriter(str(tmp_path / "runs/first"))
    point = Summary.Value(tag="loss", simple_value=1.5)
    writer.add_event(Event(wall_time=1.0, step=0, summary=Summary(value=[point])))
    writer.close()
    yield tmp_path
    for server in servers(tmp_path):
        tensorboard.end(server)


@pytest.fixture
def foreground(project: Path, root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the script as in a terminal of its own; returns when it says that it is open."""
    children: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(root / "scripts" / SCRIPT), *map(str, arguments)]
        child = subprocess.Popen(
            command,
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(root / "src")},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        children.append(child)
        assert child.stderr
        while "from another machine" not in child.stderr.readline():
            assert child.poll() is None, "it ended at once"
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        assert child.stderr
        child.stderr.close()


def fetch(url: str, seconds: float = 60.0) -> str:
    """The body of a page that may take a while to come up; never through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + seconds
    while True:
        try:
            with opener.open(url, timeout=10) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < until, f"{url} did not come up"
            time.sleep(0.2)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; who should look at a zombie is not our matter."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def a_record(project: Path, process: Process, port: int = 6006) -> Server:
    """Writes what a TensorBoard on `runs` would have noted."""
    file = project / RECORDS / "any.json"
    server = Server(str(project / "runs"), port, "log", process, str(file))
    file.parent.mkdir(parents=True, exist_ok=True)
    fields = {**vars(server), "process": vars(process)}
    file.write_text(json.dumps(fields))
    return server


def test_it_serves_the_curves_on_loopback_and_nowhere_else_and_is_opened_once(
    project: Path, run_script: Script
) -> None:
    port = free_port()
    opened = run_script(SCRIPT, "--detach", "--port", port, "--json")
    assert opened.returncode == 0, opened.stderr
    told = json.loads(opened.stdout)
    assert (told["state"], told["port"], told["logdir"]) == ("open", port, str(project / "runs"))
    assert "<title>TensorBoard</title>" in fetch(told["url"])  # at once: it was waited for
    until = time.monotonic() + 30
    while '"first"' not in fetch(f"{told['url']}data/runs"):
        assert time.monotonic() < until, "the run was not read"
        time.sleep(0.2)
    process = psutil.Process(told["pid"])
    everyone = [process, *process.children(recursive=True)]
    heard = [c for each in everyone for c in each.net_connections() if c.status == "LISTEN"]
    assert {connection.laddr.ip for connection in heard} == {"127.0.0.1"}
    assert "--reload_multifile=true" in process.cmdline()
    assert os.getsid(process.pid) == process.pid  # no terminal takes it along
    assert "TensorBoard 2" in Path(told["log"]).read_text()
    assert "TensorFlow" not in opened.stderr

    again = run_script(SCRIPT, "--port", free_port(), env={"SSH_CONNECTION": "::1 5 ::2 2222"})
    assert again.returncode == 0
    assert f"{told['url']} is already open" in again.stderr
    assert "was not used" in again.stderr
    assert f"ssh -L {port}:127.0.0.1:{port} -p 2222" in again.stderr
    (listed,) = json.loads(run_script(SCRIPT, "--status", "--json").stdout)
    assert (listed["url"], listed["pid"]) == (told["url"], told["pid"])
    assert told["url"] in run_script(SCRIPT, "--status").stdout

    (project / "other").mkdir()
    assert "no TensorBoard" in run_script(SCRIPT, "--stop", "--logdir", "other").stderr
    assert process.is_running()
    assert f"{told['url']} was ended" in run_script(SCRIPT, "--stop").stderr
    assert is_gone(told["pid"])
    assert json.loads(run_script(SCRIPT, "--status", "--json").stdout) == []


def test_one_in_another_terminal_is_ended_by_stop_and_says_so(
    project: Path, foreground: Callable[..., subprocess.Popen[str]], run_script: Script
) -> None:
    child = foreground("--port", free_port())
    (server,) = servers(project)
    assert psutil.Process(server.process.pid).ppid() == child.pid
    assert run_script(SCRIPT, "--stop").returncode == 0
    assert child.wait(20) == 0
    assert child.stderr and "TensorBoard was ended" in child.stderr.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_ending_the_terminal_ends_it(
    project: Path,
    foreground: Callable[..., subprocess.Popen[str]],
    number: signal.Signals,
    code: int,
) -> None:
    child = foreground("--port", free_port())
    (server,) = servers(project)
    child.send_signal(number)
    assert child.wait(20) == code
    assert not psutil.pid_exists(server.process.pid)
    assert not list((project / RECORDS).glob("*.json"))


@pytest.mark.slow
def test_one_that_does_not_end_when_asked_is_killed_and_frees_its_port(
    project: Path, foreground: Callable[..., subprocess.Popen[str]]
) -> None:
    port = free_port()
    child = foreground("--port", port)
    (server,) = servers(project)
    os.kill(server.process.pid, signal.SIGSTOP)  # it cannot hear SIGTERM
    assert tensorboard.end(server, seconds=0.5)
    assert child.wait(20) == 0
    assert ports.is_free(port)


def test_a_port_of_somebody_else_is_named_and_the_next_one_used(
    project: Path, run_script: Script
) -> None:
    with listening(tensorboard.PORT):
        opened = run_script(SCRIPT, "--detach", "--json")
    assert opened.returncode == 0, opened.stderr
    told = json.loads(opened.stdout)
    assert told["port"] > tensorboard.PORT
    assert "6006 is taken by another program" in opened.stderr
    assert f"using {told['port']}" in opened.stderr
    # a second folder gets a second one
    (project / "other").mkdir()
    second = json.loads(
        run_script(SCRIPT, "--detach", "--json", "--logdir", project / "other").stdout
    )
    assert second["port"] != told["port"]
    assert len(servers(project)) == 2
    assert run_script(SCRIPT, "--stop").stderr.count("was ended") == 2


@pytest.mark.slow
def test_two_calls_at_once_start_one(project: Path, root: Path) -> None:
    command = [sys.executable, str(root / "scripts" / SCRIPT), "--detach", "--json"]
    env = {**os.environ, "PYTHONPATH": str(root / "src")}
    calls = [
        subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = [json.loads(call.communicate(timeout=120)[0]) for call in calls]
    assert len({each["pid"] for each in told}) == 1
    assert sorted(each["state"] for each in told) == ["already open", "already open", "open"]


@pytest.mark.slow
def test_a_port_lost_between_the_look_and_the_start(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening() as foreign:
        port = foreign.getsockname()[1]
        looks = iter([True])
        real = ports.is_free
        lucky = lambda number: next(looks, False) or real(number)  # noqa: E731
        monkeypatch.setattr(tensorboard, "is_free", lucky)
        with pytest.raises(
            UserError, match=f"port {port} on 127.0.0.1 is taken by .*pytest|python"
        ):
            tensorboard.start(project, project / "runs", port, detach=True)
        looks = iter([True])
        monkeypatch.setattr(tensorboard, "PORT", port)
        monkeypatch.setattr(ports, "is_free", lucky)
        launch = tensorboard.start(project, project / "runs", None, detach=True)
        try:
            assert launch.server.port > port
            assert servers(project) == [launch.server]
            said = capsys.readouterr().err
            assert said.count("using") == 1 and f"using {launch.server.port}\n" in said
        finally:
            launch.end()
    assert servers(project) == []
    assert not list((project / RECORDS).glob("*.json"))


def test_one_that_cannot_start_is_one_line_with_its_reason(
    project: Path, run_script: Script
) -> None:
    broken = project / "broken/tensorboard"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no \\x1b[31mcurves today')")
    path = os.pathsep.join([str(broken.parent), str(Path(tensorboard.__file__).parents[2])])
    done = run_script(SCRIPT, "--detach", env={"PYTHONPATH": path})
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert line == "error: TensorBoard ended at once: ImportError: no curves today"
    assert servers(project) == []


@pytest.mark.slow
def test_what_lies_in_the_project_is_not_imported(project: Path, run_script: Script) -> None:
    (project / "tensorboard.py").write_text("open('imported', 'w')")
    (project / "absl.py").write_text("open('imported', 'w')")
    assert run_script(SCRIPT, "--detach", "--port", free_port()).returncode == 0
    assert not (project / "imported").exists()


class TestRecords:
    """A process is only ended when the record, the process table and its command line agree."""

    @pytest.fixture
    def bystander(self) -> Iterator[subprocess.Popen[bytes]]:
        child = subprocess.Popen(["sleep", "60"])
        yield child
        child.kill()
        child.wait()

    def facts(self, child: subprocess.Popen[bytes]) -> Process:
        started = int(psutil.Process(child.pid).create_time() * 1000)
        return Process(current().machine, child.pid, started)

    def test_another_program_with_that_pid_is_left_alone(
        self, project: Path, bystander: subprocess.Popen[bytes], run_script: Script
    ) -> None:
        server = a_record(project, self.facts(bystander))
        assert servers(project) == []
        assert "no TensorBoard of this project" in run_script(SCRIPT, "--stop").stderr
        assert not tensorboard.end(server)
        assert bystander.poll() is None

    @pytest.mark.parametrize("change", [{"started": 1}, {"machine": "elsewhere"}])
    def test_a_pid_used_again_or_of_another_boot_is_left_alone(
        self, project: Path, change: dict[str, object]
    ) -> None:
        code = "import sys, time; time.sleep(60)"
        words = [sys.executable, "-c", code, "tensorboard.main", "6006"]
        with subprocess.Popen(words) as child:
            facts = self.facts(child)
            assert servers(project) == [] and a_record(project, facts) in servers(project)
            server = a_record(project, replace(facts, **change))  # type: ignore[arg-type]
            assert servers(project) == []
            tensorboard.end(server)
            assert child.poll() is None
            assert not Path(server.record).exists()  # what it told is over
            child.kill()

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"port": 1}', '{"process": 3}'])
    def test_a_damaged_record_is_none(self, project: Path, text: str) -> None:
        for pid in ("x", -1, 2**70):
            a_record(project, replace(current(), pid=pid))  # type: ignore[arg-type]
            assert servers(project) == []
        (project / RECORDS / "any.json").write_text(text)
        assert servers(project) == []

    def test_ending_an_old_one_keeps_the_record_of_its_successor(self, project: Path) -> None:
        old = a_record(project, Process(current().machine, 2**22 - 3, 1))
        a_record(project, current())
        tensorboard.end(old)
        assert Path(old.record).exists()


def test_a_taken_port_that_was_asked_for_is_one_line_and_exit_2(
    run_script: Script, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    with listening() as taken:
        port = taken.getsockname()[1]
        done = run_script(SCRIPT, "--port", port)
        (free,) = [int(word) for word in done.stderr.split("; ")[1].split() if word.isdigit()]
        assert ports.is_free(free)
    assert done.returncode == 2
    error = done.stderr.splitlines()[-1]
    name = psutil.Process().name()
    assert error.startswith(f"error: port {port} on 127.0.0.1 is taken by another program ({name}")
    assert f"pid {os.getpid()})" in error


def test_a_port_that_is_none_is_refused(run_script: Script, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for port, said in ((65536, "is not a port"), (0, "is not a port"), ("x", "invalid int")):
        done = run_script(SCRIPT, "--port", port)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr


def test_a_missing_folder_is_one_line_and_exit_2(run_script: Script) -> None:
    done = run_script(SCRIPT)
    assert done.returncode == 2
    assert "runs: no such folder" in done.stderr


def test_no_flag_opens_it_to_others(run_script: Script) -> None:
    done = run_script(SCRIPT, "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


@pytest.mark.parametrize(
    ("connection", "user", "place"),
    [
        ("10.0.0.1 5 10.0.0.2 22", "ann", " ann@10.0.0.2"),
        ("10.0.0.1 5 10.0.0.2 2222", "", " -p 2222 10.0.0.2"),
        ("::1 5 fe80::1%eth0 22", "ann", " ann@fe80::1%eth0"),
        ("10.0.0.1 5 10.0.0.2 22", "$(touch x)", " '$(touch x)@10.0.0.2'"),
        ("10.0.0.1 5 $(touch x) 22", "ann", " <this machine>"),
        ("10.0.0.1 5 10.0.0.2 x", "ann", " <this machine>"),
        ("10.0.0.1", "ann", " <this machine>"),
        (None, "ann", " <this machine>"),
    ],
)
def test_the_tunnel_names_this_machine_where_ssh_tells(
    connection: str | None, user: str, place: str
) -> None:
    assert ports.tunnel(6007, connection, user) == f"ssh -L 6007:127.0.0.1:6007{place}"
