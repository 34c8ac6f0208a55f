"""Ports of the loopback: which are free, who holds one, and how to reach one from elsewhere."""

from __future__ import annotations

import ipaddress
import shlex
import socket

from codetune import console
from codetune.errors import UserError

HOST = "127.0.0.1"
TRIED = 50  # ports, one after the other


def free_port(first: int) -> int:
    """The first port from `first` on that nobody listens at. UserError when there is none near."""
    for port in range(first, min(first + TRIED, 65536)):
        if is_free(port):
            return port
    raise UserError(f"no port from {first} on is free; name one with --port")


def is_free(port: int) -> bool:
    """Whether a server could listen at the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Who listens at the port, as far as this user may know."""
    import psutil

    try:
        for found in psutil.net_connections("tcp"):
            if found.status != psutil.CONN_LISTEN or not found.laddr or not found.pid:
                continue
            if found.laddr.port == port:
                name = " ".join(console.clean(psutil.Process(found.pid).name()).split())
                return f"another program ({name}, pid {found.pid})"
    except (psutil.Error, OSError):
        pass
    return "another program"


def tunnel(port: int, connection: str | None, user: str) -> str:
    """The command that brings the page to the machine one sits at.

    `connection` is SSH_CONNECTION: client, its port, this machine, its port.
    """
    forward, words = f"ssh -L {port}:{HOST}:{port}", (connection or "").split()
    try:
        address, reached = ipaddress.ip_address(words[2]), int(words[3])
    except (IndexError, ValueError):
        return f"{forward} <this machine>"
    place = f"{console.clean(user)}@{address}" if user else str(address)
    return f"{forward}{'' if reached == 22 else f' -p {reached}'} {shlex.quote(place)}"
