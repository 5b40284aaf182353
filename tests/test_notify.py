"""The notify protocol, between the real `dcmstore run` and a socket as systemd opens it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dcmstore.errors import ConfigurationError
from dcmstore.service import notify
from dcmstore.service.notify import Notifier
from tests.support import Peer

RUN = [sys.executable, "-m", "dcmstore", "run"]
PATIENCE = 30  # seconds, after which a test fails in place of hanging


@dataclass
class Systemd:
    """The end of the notify socket that systemd has."""

    socket: socket.socket
    address: str

    def receive(self) -> dict[str, str]:
        """The next message."""
        return dict(line.split("=", 1) for line in self.socket.recv(65536).decode().split("\n"))

    def rest(self) -> list[dict[str, str]]:
        """What has come and was not read yet."""
        self.socket.setblocking(False)
        messages = []
        try:
            while True:
                messages.append(self.receive())
        except BlockingIOError:
            return messages


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    address = f"@dcmstore-{uuid.uuid4()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(address.replace("@", "\0"))
        opened.settimeout(PATIENCE)
        yield Systemd(opened, address)


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    for name in ("images", "rdsr"):
        (tmp_path / name).mkdir()
    path = tmp_path / "DcmStore.ini"
    path.write_text("port= 0\nbind= 127.0.0.1\nIMG-DIR= images\nRDSR-DIR= rdsr\nlogfile= 0\nstop-timeout= 7\n")
    return path


@pytest.fixture
def process(systemd: Systemd, ini: Path) -> Iterator[subprocess.Popen[str]]:
    with start(RUN, ini, systemd.address) as started:
        yield started
        started.kill()


def start(command: list[str], ini: Path, address: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, "--config", str(ini)],
        env={**os.environ, "NOTIFY_SOCKET": address, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def port_in(message: dict[str, str]) -> int:
    match = re.fullmatch(r"DCMSTORE on port (\d+), 0 associations open, 0 objects stored", message["STATUS"])
    assert match, message
    return int(match[1])


def test_ready_comes_first_and_the_port_listens_by_then(systemd: Systemd, process: subprocess.Popen[str]) -> None:
    message = systemd.receive()
    assert message["READY"] == "1"
    with Peer(port_in(message)) as peer:
        peer.associate()


def test_a_receiver_that_can_not_listen_is_never_ready(systemd: Systemd, ini: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ini.write_text(ini.read_text().replace("port= 0", f"port= {taken.getsockname()[1]}"))
        with start(RUN, ini, systemd.address) as process:
            process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert systemd.rest() == []


@pytest.mark.parametrize("line", ["allowed-ae= CT1\n", "no sign of equality\n"])
def test_a_reload_is_announced_and_ends_in_ready(
    systemd: Systemd, process: subprocess.Popen[str], ini: Path, line: str
) -> None:
    """Also when the new settings are wrong: the old ones are in force, and systemd must not wait."""
    port = port_in(systemd.receive())
    ini.write_text(ini.read_text() + line)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    process.send_signal(signal.SIGHUP)
    message = systemd.receive()
    assert message["RELOADING"] == "1"
    assert before <= int(message["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    message = systemd.receive()
    assert message["READY"] == "1"
    assert port_in(message) == port


def test_a_stop_is_announced_with_the_time_that_it_may_take(
    systemd: Systemd, process: subprocess.Popen[str], ini: Path
) -> None:
    systemd.receive()
    process.send_signal(signal.SIGTERM)
    message = systemd.receive()
    assert message["STOPPING"] == "1"
    assert message["STATUS"] == "stopping; objects under way get 7 seconds"
    assert int(message["EXTEND_TIMEOUT_USEC"]) == (2 * 7 + 40) * 1_000_000
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert systemd.rest() == []


def test_the_watchdog_hears_from_a_receiver_that_answers(systemd: Systemd, ini: Path) -> None:
    shell = ["sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh", *RUN]
    with start(shell, ini, systemd.address, WATCHDOG_USEC="150000") as process:
        port = port_in(systemd.receive())
        for _ in range(3):
            message = systemd.receive()
            assert message["WATCHDOG"] == "1"
            assert port_in(message) == port
        process.kill()


def test_signals_however_many_put_no_look_off(systemd: Systemd, ini: Path) -> None:
    ini.write_text(ini.read_text() + "log-level= error\n")  # nobody reads what it writes
    with start(RUN, ini, systemd.address, WATCHDOG_USEC="3000000") as process:
        systemd.receive()
        messages: list[dict[str, str]] = []
        while not any("WATCHDOG" in message for message in messages):
            process.send_signal(signal.SIGHUP)  # each well within the second between two looks
            messages.append(systemd.receive())
            assert len(messages) < 10_000
        process.kill()
    assert any("RELOADING" in message for message in messages)


def test_a_stop_is_heard_among_signals_however_many(systemd: Systemd, ini: Path) -> None:
    ini.write_text(ini.read_text() + "log-level= error\n")
    with start(RUN, ini, systemd.address) as process:
        systemd.receive()
        for _ in range(3000):
            process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        while "STOPPING" not in systemd.receive():
            pass
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


# The real program, but it accepts no connection to the end, and tells of each look at it on standard output.
STUCK = """
import sys, threading
from dcmstore import cli, receiver
from dcmstore.server import Server

def answers(self, timeout, look=Server.answers):
    answer = look(self, timeout)
    print(answer, flush=True)
    return answer

receiver.CHECK_PATIENCE = 0.2
Server.answers = answers
Server._accept_one = lambda self, listener: threading.Event().wait()
sys.exit(cli.main())
"""


def test_the_watchdog_hears_nothing_when_no_connection_is_accepted(systemd: Systemd, ini: Path) -> None:
    with start([sys.executable, "-c", STUCK, "run"], ini, systemd.address, WATCHDOG_USEC="30000") as process:
        port = port_in(systemd.receive())
        assert systemd.receive()["WATCHDOG"] == "1"
        with socket.create_connection(("127.0.0.1", port)):
            assert process.stdout is not None
            looks = []
            while looks[-3:] != ["False\n"] * 3:
                looks.append(process.stdout.readline())
                assert looks[-1] in ("True\n", "False\n")
            process.kill()
    assert looks.index("False\n") == 1 + len(systemd.rest())  # one was read above; `True` was told each time
    assert looks[looks.index("False\n") :] == ["False\n"] * 3


def test_a_receiver_that_nobody_hears_receives_all_the_same(ini: Path, tmp_path: Path) -> None:
    with start(RUN, ini, str(tmp_path / "nobody"), WATCHDOG_USEC="100000") as process:
        assert process.stderr is not None
        assert "receiver.listening" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


def test_an_address_of_another_kind_is_a_configuration_error(ini: Path) -> None:
    with start(RUN, ini, "vsock:2:1234") as process:
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert told == "dcmstore: NOTIFY_SOCKET= 'vsock:2:1234': allowed is an absolute path, or @ and a name\n"


@pytest.mark.parametrize("address", ["", "relative/path", "vsock:2:1234"])
def test_only_sockets_of_this_machine_are_spoken_to(address: str) -> None:
    with pytest.raises(ConfigurationError):
        Notifier(address)


OURS, OTHER = str(os.getpid()), str(os.getppid())


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, notify.STATUS_INTERVAL),
        ({"WATCHDOG_USEC": "6000000"}, 2.0),
        ({"WATCHDOG_USEC": "6000000", "WATCHDOG_PID": OURS}, 2.0),
        ({"WATCHDOG_USEC": "6000000", "WATCHDOG_PID": OTHER}, notify.STATUS_INTERVAL),
        ({"WATCHDOG_USEC": "999000000"}, notify.STATUS_INTERVAL),
        ({"WATCHDOG_USEC": "0"}, notify.STATUS_INTERVAL),
        ({"WATCHDOG_USEC": "soon"}, notify.STATUS_INTERVAL),
    ],
)
def test_the_receiver_is_looked_at_three_times_a_watchdog(environment: dict[str, str], seconds: float) -> None:
    assert notify.check_interval(environment) == seconds
    assert environment == {}, "left for programs that we start, who would speak for us"
