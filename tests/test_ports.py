"""Which program has a port, by the system's own tables."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dcmstore import ports

LISTEN = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_program_that_listens_is_named(family: socket.AddressFamily, address: str) -> None:
    with socket.create_server((address, 0), family=family) as server:
        name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        assert ports.owner_of(server.getsockname()[1]) == f"{name} (process {os.getpid()})"


def test_the_program_may_be_another_one() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert f"(process {process.pid})" in ports.owner_of(int(process.stdout.readline()))
        process.communicate("\n")


def test_a_port_without_a_listener_has_no_owner() -> None:
    """One that is bound, or connected, is not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert ports.owner_of(bound.getsockname()[1]) == ""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert ports.owner_of(client.getsockname()[1]) == ""


def test_a_program_whose_files_are_hidden_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of other users are, unless one is root."""
    monkeypatch.setattr(ports, "_open_sockets", lambda: iter([]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ports.owner_of(server.getsockname()[1]) == "an unknown program"
