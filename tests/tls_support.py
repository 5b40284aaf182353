"""What tests of TLS need beside certificates: a hospital with its files, and both ends of a connection."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from dcmstore.tls.context import TlsSettings, context_of
from dcmstore.tls.transport import TlsError, TlsSocket, shake_hands, wrap
from tests.certificates import Authority, Issued
from tests.hosted import Running
from tests.support import WAIT, Peer, free_port


@dataclass(frozen=True)
class Hospital:
    """An authority, a server with its files, and the authority's file, in a folder."""

    folder: Path
    authority: Authority
    server: Issued
    settings: TlsSettings

    @classmethod
    def in_folder(cls, folder: Path) -> "Hospital":
        authority = Authority()
        server = authority.issue("receiver", names=["localhost", "127.0.0.1"])
        certificate, key = server.save(folder, "server")
        ca = folder / "ca.pem"
        ca.write_bytes(authority.pem)
        return cls(folder, authority, server, TlsSettings(certificate, key, ca, client="required"))

    def file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def context(self, **changed: object) -> ssl.SSLContext:
        return context_of(replace(self.settings, **changed))  # type: ignore[arg-type]

    def client(
        self, issued: Issued | None = None, version: ssl.TLSVersion | None = None, trusts: Authority | None = None
    ) -> ssl.SSLContext:
        """A sender: its certificate, the one version that it speaks, and the authority that it trusts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=(trusts or self.authority).pem.decode())
        if issued is not None:
            context.load_cert_chain(*issued.save(self.folder, "client"))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


def accept(context: ssl.SSLContext, connection: socket.socket, timeout: float = WAIT) -> TlsSocket:
    """What a connection does with its socket; on failure that is closed."""
    wrapped = wrap(context, connection)
    try:
        shake_hands(wrapped, timeout)
    except TlsError:
        wrapped.close()
        raise
    return wrapped


class Served:
    """A server that shakes hands with one peer and then echoes, on a thread of its own."""

    def __init__(self, context: ssl.SSLContext, timeout: float = WAIT) -> None:
        self._context = context
        self._timeout = timeout
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._results: SimpleQueue[TlsSocket | TlsError] = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "Served":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        self._listener.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), WAIT)

    def result(self) -> TlsSocket:
        """The connection. Raises the TlsError if there is one."""
        result = self._results.get(timeout=WAIT)
        if isinstance(result, TlsError):
            raise result
        return result

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        try:
            accepted = accept(self._context, connection, self._timeout)
        except TlsError as error:
            self._results.put(error)
            return
        self._results.put(accepted)
        buffer = bytearray(65536)
        with accepted, contextlib.suppress(ConnectionError):
            while size := accepted.recv_into(buffer):
                accepted.sendall(buffer[:size])


@contextlib.contextmanager
def connected(context: ssl.SSLContext, client: ssl.SSLContext) -> Iterator[tuple[TlsSocket, ssl.SSLSocket]]:
    """Both ends of a connection, in this thread, after the handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname(), WAIT)
        results: SimpleQueue[ssl.SSLSocket] = SimpleQueue()
        thread = threading.Thread(target=lambda: results.put(client.wrap_socket(plain)))
        thread.start()
        with accept(context, listener.accept()[0]) as server_end, results.get(timeout=WAIT) as client_end:
            thread.join(WAIT)
            yield server_end, client_end


def talk(server: Served, client: ssl.SSLContext, data: bytes = b"dicom") -> bytes:
    """Shake hands, send, return what comes back. Raises what a sender would see."""
    with server.connect() as plain, client.wrap_socket(plain) as connection:
        connection.sendall(data)
        return connection.recv(65536)


class Secured:
    """A receiver on a thread, with a plain port and one for TLS, and the files of a hospital beside its ini."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.hospital = Hospital.in_folder(running.folder)
        self.port, self.tls_port = free_port(), free_port()
        self._keys: dict[str, object] = {}

    def configure(self, **keys: object) -> None:
        """Keys of the ini, over those that were set before."""
        self._keys |= keys
        defaults = {
            "tls_certificate": "server.pem",
            "tls_key": "server.key",
            "tls_ca": "ca.pem",
            "tls_client": "required",
        }
        self.running.configure(port=self.port, tls_port=self.tls_port, **(defaults | self._keys))

    def start(self, **keys: object) -> None:
        self.configure(**keys)
        self.running.start()

    def peer(self, issued: Issued | None = None) -> Peer:
        """A sender over TLS, after its handshake."""
        peer = Peer(self.tls_port)
        peer.socket = self.hospital.client(issued).wrap_socket(peer.socket)
        return peer

    def issue(self, name: str = "ct1.example") -> Issued:
        return self.hospital.authority.issue(name)

    def logged_after_stop(self, event: str) -> list[str]:
        self.running.stop()
        return self.running.logged(event)


@contextlib.contextmanager
def receiving(folder: Path) -> Iterator[Secured]:
    """A receiver that is still to be started; it is stopped at the end."""
    for name in ("images", "rdsr"):
        (folder / name).mkdir()
    running = Running(folder)
    yield Secured(running)
    with contextlib.suppress(RuntimeError):  # never started
        running.stop()
