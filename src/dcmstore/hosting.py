"""What surrounds a running receiver -> what it asks for: a console, systemd, or the Service Control Manager.

The receiver's main thread waits for requests and answers them; the host carries both to whoever started the process.
"""

import contextlib
import signal
import socket
import time
from enum import Enum
from typing import Protocol

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What a stop takes beside the drain: cutting what is left, the DICOMDIRs, which get as long again, jobs, index and log.
STOP_MARGIN = 40  # seconds


def stop_seconds(stop_timeout: float) -> float:
    """How long a stop may take in all; a host that grants less cuts it short."""
    return 2 * stop_timeout + STOP_MARGIN


class Request(Enum):
    """What a host asks of the receiver."""

    STOP = "stop"
    RELOAD = "reload"
    CHECK = "check"  # whether it still answers; `Host.alive` is the answer


class Host(Protocol):
    """Who started the receiver, waits for it and stops it. All but `wake` are for the main thread."""

    def wait(self) -> Request:
        """Block until something is asked for."""

    def wake(self) -> None:
        """Let `wait` return STOP. From any thread."""

    def ready(self, status: str) -> None:
        """The port listens and the folders can be written; also said after a reload."""

    def reloading(self) -> None:
        """The settings are being read again; `ready` follows."""

    def stopping(self, seconds: float) -> None:
        """No new associations from now on; those that are open get so long."""

    def alive(self, status: str) -> None:
        """The receiver was checked, and answers."""


class ConsoleHost:
    """A terminal or a plain parent process: Ctrl-C and SIGTERM stop, SIGHUP reloads; nobody hears the answers.

    Listens from its making on. After the first stop signal, the next Ctrl-C ends the program where it stands.
    """

    def __init__(self, check_interval: float | None = None) -> None:
        """`check_interval` is in seconds; without it nothing is ever checked."""
        self._receiver, self._sender = socket.socketpair()
        self._check_interval = check_interval
        self._check_due = time.monotonic() + (check_interval or 0)
        self._sender.setblocking(False)
        self._requests = {0: Request.STOP}  # by the byte that comes: the number of a signal, or 0
        self._is_to_stop = False
        # It hears a signal whichever thread the system picks for it. Of more signals than it holds, none is missed:
        # what is asked for is still to be read, and a stop is noted besides.
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            self._requests[number] = Request.STOP
            signal.signal(number, self._on_stop)
        if hasattr(signal, "SIGHUP"):
            self._requests[signal.SIGHUP] = Request.RELOAD
            signal.signal(signal.SIGHUP, self._on_reload)

    def wait(self) -> Request:
        while not self._is_to_stop:
            if self._check_interval is not None:  # signals, however many, put no check off
                now = time.monotonic()
                if now >= self._check_due:
                    self._check_due = now + self._check_interval
                    return Request.CHECK
                self._receiver.settimeout(self._check_due - now)
            with contextlib.suppress(TimeoutError):
                (byte,) = self._receiver.recv(1)
                if byte in self._requests:  # else a signal that somebody else handles
                    return self._requests[byte]
        return Request.STOP

    def wake(self) -> None:
        self._is_to_stop = True
        with contextlib.suppress(BlockingIOError):  # then there is enough to wake up for
            self._sender.send(b"\0")

    def ready(self, status: str) -> None: ...

    def reloading(self) -> None: ...

    def stopping(self, seconds: float) -> None: ...

    def alive(self, status: str) -> None: ...

    def _on_stop(self, number: int, frame: object) -> None:
        self._is_to_stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _on_reload(self, number: int, frame: object) -> None:
        """The byte that the system writes is enough."""
