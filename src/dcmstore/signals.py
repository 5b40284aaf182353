"""Ctrl-C and SIGTERM -> a return from `wait`, at once, whichever thread the system picked to hear the signal."""

import signal
import socket

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Listens from its making on. After the first stop signal, the next Ctrl-C ends the program where it stands."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        signal.set_wakeup_fd(self._sender.fileno())
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_stop)

    def wait(self) -> None:
        """Return when a stop signal or a `wake` comes, or has come. Main thread only."""
        self._receiver.recv(1)

    def wake(self) -> None:
        """From any thread: let `wait` return."""
        self._sender.send(b"\0")

    def _on_stop(self, number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
