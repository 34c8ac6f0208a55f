"""A real PostgreSQL server for the tests of the run log, started once; they skip without one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from codetune.runlog.store import database
from codetune.runlog.store.database import locate, transaction

PASSWORD = "hunter2"


@dataclass(frozen=True)
class Server:
    """A server in a folder of its own, on a port of the loopback interface."""

    folder: Path
    port: int
    user: str | None  # of the operating system: the server refuses to run as root

    @property
    def url(self) -> str:
        """Of its first database; the rules let every password pass, but for user `guarded`."""
        return f"postgres://me:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def run(self, *words: str) -> None:
        """Runs one of PostgreSQL's own programs."""
        subprocess.run(
            words, check=True, user=self.user, cwd=self.folder, stdout=subprocess.DEVNULL
        )

    def pg_ctl(self, *words: str) -> None:
        """Starts or stops the server, and waits for it."""
        data, log = str(self.folder / "db"), str(self.folder / "log")
        self.run("pg_ctl", "-w", "-D", data, "-l", log, *words)

    def create(self) -> None:
        """Makes an empty server that does not outlive a crash of the machine, and starts it."""
        self.run("initdb", "-D", str(self.folder / "db"), "-A", "trust", "-U", "me", "--no-sync")
        with (self.folder / "db/postgresql.conf").open("a") as settings:
            settings.write(f"port={self.port}\nlisten_addresses='127.0.0.1'\nfsync=off\n")
            settings.write(f"unix_socket_directories='{self.folder}'\n")
        rules = self.folder / "db/pg_hba.conf"
        strict = "host all guarded 127.0.0.1/32 scram-sha-256\n"
        rules.write_text(strict + rules.read_text())
        self.pg_ctl("start")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The server, which other tests of the session may have filled."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("no PostgreSQL server here: initdb and pg_ctl are not on the PATH")
    folder = Path(tempfile.mkdtemp(prefix="codetune-pg-", dir="/tmp"))
    user = None
    if os.geteuid() == 0:
        user = "postgres"
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(folder, port, user)
    try:
        server.create()
        yield server
    finally:
        stop = ["pg_ctl", "-D", str(folder / "db"), "-m", "immediate", "stop"]
        subprocess.run(stop, user=user, cwd=folder, capture_output=True)
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """The URL of the server with nothing in it."""
    ours = text(
        "SELECT nspname FROM pg_namespace "
        "WHERE nspname = 'public' OR nspname LIKE 'codetune_backup_%'"
    )
    with transaction(database.engine(locate(Path(), postgres_server.url))) as connection:
        for schema in connection.execute(ours).scalars().all():
            connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))
        connection.execute(text("CREATE SCHEMA public"))
    return postgres_server.url
