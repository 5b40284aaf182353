"""messages <-> bytes between a process and one that it started; a socket may come with a message.

Both are the same program of the same user, and nobody else has an end of the channel: that is why pickle will do.
"""

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Any

from dcmstore import sockets

_LENGTH = 4  # bytes in front of each message
_MODULE = "dcmstore.worker"
SEND_WAIT = 5.0  # seconds until a process that reads nothing is given up: one that lives reads at once


class Channel:
    """One end. `send` is for any thread, `receive` for one. Both raise OSError or EOFError when the other is gone."""

    def __init__(self, connection: socket.socket, other_process: int = 0) -> None:
        """`other_process` is the identifier of the process that sockets are sent to."""
        self._socket = connection
        self._other_process = other_process
        self._sending = threading.Lock()

    def send(self, message: object, handed: socket.socket | None = None) -> None:
        """The socket stays the caller's, to close once the other process has it."""
        shared = None
        if sys.platform == "win32" and handed is not None:
            shared = handed.share(self._other_process)
        encoded = _encoded(message, shared)
        with self._sending:
            if handed is not None and sys.platform != "win32":
                sent = socket.send_fds(self._socket, [encoded[:_LENGTH]], [handed.fileno()])
                encoded = encoded[sent:]
            self._socket.sendall(encoded)

    def send_each(self, messages: Iterable[object]) -> None:
        """Several in one go, none of them with a socket."""
        encoded = b"".join(map(_encoded, messages))
        with self._sending:
            self._socket.sendall(encoded)

    def receive(self) -> tuple[Any, socket.socket | None]:
        """The next message, and the socket that came with it."""
        length, handed = self._receive_length()
        message, shared = pickle.loads(self._receive(length))
        if shared is not None and sys.platform == "win32":
            handed = socket.fromshare(shared)
        return message, handed

    def _receive_length(self) -> tuple[int, socket.socket | None]:
        if sys.platform == "win32":
            return int.from_bytes(self._receive(_LENGTH), "big"), None
        head, descriptors, _, _ = socket.recv_fds(self._socket, _LENGTH, 1)
        handed = socket.socket(fileno=descriptors[0]) if descriptors else None
        if not head:
            raise EOFError
        return int.from_bytes(head + self._receive(_LENGTH - len(head)), "big"), handed

    def _receive(self, length: int) -> bytes:
        received = bytearray()
        while len(received) < length:
            try:
                piece = self._socket.recv(length - len(received))
            except TimeoutError:  # what limits a send limits a receive too on Windows
                continue
            if not piece:
                raise EOFError
            received += piece
        return bytes(received)

    def end(self) -> None:
        """Send nothing more: the other process hears that it is to end, and can still tell what it has to."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


def _encoded(message: object, shared: bytes | None = None) -> bytes:
    encoded = pickle.dumps((message, shared), pickle.HIGHEST_PROTOCOL)
    return len(encoded).to_bytes(_LENGTH, "big") + encoded


def start() -> "tuple[subprocess.Popen[bytes], Channel]":
    """A process that serves, and our end of the channel to it. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = _started(theirs)
        except OSError:
            ours.close()
            raise
    if sys.platform == "win32":
        ours.settimeout(SEND_WAIT)
    else:
        sockets.limit_waiting(ours, receive=0, send=SEND_WAIT)
    return process, Channel(ours, process.pid)


def inherited() -> Channel:
    """The end of the channel in the process that was started."""
    if sys.platform == "win32":
        return Channel(socket.fromshare(sys.stdin.buffer.read()))
    return Channel(socket.socket(fileno=0))


def _started(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    """Standard input is the channel, or on Windows bears it."""
    command = ["-P", "-m", _MODULE]
    if sys.platform == "win32":
        # In a virtual environment, sys.executable starts another process than the one that would get the socket.
        program = getattr(sys, "_base_executable", sys.executable)
        process = subprocess.Popen(
            [program, *command],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
        assert process.stdin is not None
        with process.stdin as file:
            file.write(theirs.share(process.pid))
        return process
    # In a group of its own: Ctrl-C is for the process that listens.
    return subprocess.Popen([sys.executable, *command], stdin=theirs.fileno(), process_group=0)
