"""What a receiver says -> systemd: the notify protocol of sd_notify(3), a datagram a message.

The watchdog is honest: systemd hears from it only through `alive`, which follows a look at the accepting thread.
"""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

from dcmstore.errors import ConfigurationError
from dcmstore.hosting import ConsoleHost, Host, stop_seconds

STATUS_INTERVAL = 10.0  # seconds between two looks at the receiver: `systemctl status` is never older
CHECKS_A_WATCHDOG = 3  # one that comes late does no harm
SEND_PATIENCE = 1.0  # seconds; a systemd that does not read must not keep a stop from being heard


class Notifier:
    """The socket that systemd hears. `send` never raises: what can't be told is lost, and the receiver goes on."""

    def __init__(self, address: str) -> None:
        """`address` is what NOTIFY_SOCKET says. Raises ConfigurationError."""
        if not address.startswith(("/", "@")):
            raise ConfigurationError(f"NOTIFY_SOCKET= {address!r}: allowed is an absolute path, or @ and a name")
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # kept, for descriptors may run out later
        self._socket.settimeout(SEND_PATIENCE)

    def send(self, *assignments: str) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(assignments).encode("utf-8", "backslashreplace"), self._address)

    def close(self) -> None:
        self._socket.close()


class SystemdHost(ConsoleHost):
    """systemd: signals come from it as from a console, and it hears the answers."""

    def __init__(self, notifier: Notifier, check_interval: float = STATUS_INTERVAL) -> None:
        super().__init__(check_interval)
        self._notifier = notifier

    def ready(self, status: str) -> None:
        self._notifier.send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000  # systemd's own clock, whatever Python takes
        self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reading the settings again")

    def stopping(self, seconds: float) -> None:
        """`stop-timeout` may have been raised since the unit was written: systemd is asked for the time it takes."""
        self._notifier.send(
            "STOPPING=1",
            f"STATUS=stopping; objects under way get {seconds:g} seconds",
            f"EXTEND_TIMEOUT_USEC={int(stop_seconds(seconds) * 1_000_000)}",
        )

    def alive(self, status: str) -> None:
        self._notifier.send("WATCHDOG=1", f"STATUS={status}")


def host_from_environment(environment: MutableMapping[str, str] = os.environ) -> Host:
    """Who started this process, by what systemd leaves in the environment. Takes that out of it.

    Raises ConfigurationError.
    """
    address = environment.pop("NOTIFY_SOCKET", "")  # a program that we start must not speak for us
    interval = check_interval(environment)
    return SystemdHost(Notifier(address), interval) if address else ConsoleHost(interval)


def check_interval(environment: MutableMapping[str, str]) -> float:
    """How often to look at the receiver, in seconds. Takes out of the environment what says so."""
    microseconds, process = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    is_wanted = microseconds.isdecimal() and int(microseconds) and process in ("", str(os.getpid()))
    return min(int(microseconds) / 1e6 / CHECKS_A_WATCHDOG, STATUS_INTERVAL) if is_wanted else STATUS_INTERVAL
