"""A listener between a sender and the receiver: what was really sent, read by other people's code.

Interoperability is judged by bytes: the data set on disk must be the one that crossed the wire, not the one in
the sender's file, which many senders re-encode.
"""

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.filereader import read_dataset


@dataclass(frozen=True)
class Sent:
    """One C-STORE-RQ as it crossed the wire."""

    sop_class_uid: str
    sop_instance_uid: str
    data_set: bytes


class Tap:
    """Forwards connections to a port and keeps what the clients send."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._streams: list[bytearray] = []
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def stores(self) -> list[Sent]:
        """Every complete C-STORE-RQ so far, in order of its association."""
        return [sent for stream in self._streams for sent in _stores(bytes(stream))]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                stream = bytearray()
                self._streams.append(stream)
                self._spawn(_relay, client, server, stream)


@contextlib.contextmanager
def tapping(target_port: int) -> Iterator[Tap]:
    tap = Tap(target_port)
    try:
        yield tap
    finally:
        tap.close()


def _forward(source: socket.socket, target: socket.socket, keep: bytearray | None) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 18):
            if keep is not None:
                keep += chunk
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _relay(client: socket.socket, server: socket.socket, stream: bytearray) -> None:
    """Both directions of one connection, until both have ended."""
    with client, server:
        back = threading.Thread(target=_forward, args=(server, client, None), daemon=True)
        back.start()
        _forward(client, server, stream)
        back.join()


def _stores(stream: bytes) -> Iterator[Sent]:
    command, data = b"", b""
    sent: tuple[str, str] | None = None
    for control, fragment in _pdvs(stream):
        if control & 1:
            command += fragment
            if control & 2:
                elements = read_dataset(io.BytesIO(command), is_implicit_VR=True, is_little_endian=True)
                if elements[0x0000, 0x0100].value == 0x0001:
                    sent = elements[0x0000, 0x0002].value, elements[0x0000, 0x1000].value
                command = b""
        else:
            data += fragment
            if control & 2:
                assert sent is not None
                yield Sent(*sent, data)
                sent, data = None, b""


def _pdvs(stream: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 6 <= len(stream):
        kind, length = struct.unpack_from(">BxI", stream, position)
        body = stream[position + 6 : position + 6 + length]
        position += 6 + length
        while kind == 4 and body:
            (size,) = struct.unpack_from(">I", body)
            yield body[5], body[6 : 4 + size]
            body = body[4 + size :]
