"""TensorBoard is started for real, on this machine alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

Script = Callable[..., subprocess.CompletedProcess[str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served(tmp_path: Path, root: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A TensorBoard over a folder with one curve, and its port."""
    writer = EventFileWriter(str(tmp_path / "runs/first"))
    point = Summary.Value(tag="loss", simple_value=1.5)
    writer.add_event(Event(wall_time=1.0, step=0, summary=Summary(value=[point])))
    writer.close()
    port = free_port()
    command = [sys.executable, str(root / "scripts/runs/tensorboard.py"), "--port", str(port)]
    child = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    yield child, port
    child.kill()
    child.wait()
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


def test_it_serves_the_curves_on_loopback_and_nowhere_else(
    served: tuple[subprocess.Popen[str], int],
) -> None:
    child, port = served
    assert "<title>TensorBoard</title>" in fetch(f"http://127.0.0.1:{port}/")
    until = time.monotonic() + 30
    while '"first"' not in fetch(f"http://127.0.0.1:{port}/data/runs"):
        assert time.monotonic() < until, "the run was not read"
        time.sleep(0.2)
    process = psutil.Process(child.pid)
    everyone = [process, *process.children(recursive=True)]
    listening = {
        connection.laddr.ip
        for member in everyone
        for connection in member.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    assert "--reload_multifile=true" in process.cmdline()
    child.terminate()
    child.wait(20)
    said = child.stderr.read()
    assert f"http://127.0.0.1:{port}/" in said
    assert f"ssh -L {port}:127.0.0.1:{port}" in said


def test_a_taken_port_is_one_line_and_exit_2(run_script: Script, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_script("runs/tensorboard.py", "--port", port)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"port {port} on 127.0.0.1 cannot be used" in done.stderr
    assert f"--port {port + 1}" in done.stderr


def test_a_port_that_is_none_is_refused(run_script: Script, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    done = run_script("runs/tensorboard.py", "--port", 65536)
    assert done.returncode == 2
    assert "is not a port" in done.stderr


def test_a_missing_folder_is_one_line_and_exit_2(run_script: Script) -> None:
    done = run_script("runs/tensorboard.py")
    assert done.returncode == 2
    assert "runs: no such folder" in done.stderr


def test_no_flag_opens_it_to_others(run_script: Script) -> None:
    done = run_script("runs/tensorboard.py", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr
