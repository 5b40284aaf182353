"""audit messages -> a file, or a syslog server: each delivered whole, or an error raised."""

import contextlib
import errno
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dcmstore.audit import syslog
from dcmstore.audit.messages import Message
from dcmstore.audit.syslog import THIS_SYSTEM, Destination
from dcmstore.errors import ConfigurationError
from dcmstore.logs import FileSink

if TYPE_CHECKING:
    import ssl

TIMEOUT = 5.0  # seconds that a server may take to answer or to read
FILE_MODE = 0o640  # at most, for it names patients; `permissions` of the ini may take more away
LOCAL_LOG = "/dev/log"


class Sink(Protocol):
    """Where messages go. `deliver` may raise OSError; `fault` is what went wrong without a loss."""

    name: str
    fault: str

    def deliver(self, message: Message) -> None: ...

    def close(self) -> None: ...


class AuditFile:
    """A file with a message a line, put aside like the log when it is full. Raises OSError when it can't be opened.

    A full disk or a power cut may leave a part of a message on a line of its own; the message itself comes again.
    """

    def __init__(self, path: Path, max_size: int, kept: int) -> None:
        self._file = FileSink(path, max_size, kept, mode=FILE_MODE)
        self.name = str(path)

    @property
    def fault(self) -> str:
        return self._file.fault

    @fault.setter
    def fault(self, fault: str) -> None:
        self._file.fault = fault

    def deliver(self, message: Message) -> None:
        self._file.write(f"{message.xml}\n")

    def close(self) -> None:
        self._file.close()


class Syslog:
    """A syslog server, connected to when there is something to deliver.

    `new_context` gives what TLS is spoken with; by default the server's certificate has to lead to an authority that
    this system trusts. Raises ConfigurationError where this system has no log of its own.
    """

    fault = ""

    def __init__(self, destination: Destination, new_context: "Callable[[], ssl.SSLContext] | None" = None) -> None:
        if destination == THIS_SYSTEM and sys.platform == "win32":
            raise ConfigurationError("audit= syslog: Windows has no syslog of its own; name a server in audit-syslog")
        self.name = str(destination) or LOCAL_LOG
        self._destination = destination
        self._new_context = new_context or _default_context
        self._socket: socket.socket | None = None

    def deliver(self, message: Message) -> None:
        try:
            if self._socket is not None and self._is_stream and _has_closed(self._socket):
                self.close()
            if self._socket is None:
                self._socket = self._connected()
            self._socket.sendall(self._encode(message))
        except OSError:  # the server may have got a part: what comes next needs a new connection
            self.close()
            raise

    def close(self) -> None:
        connection, self._socket = self._socket, None
        if connection is None:
            return
        with contextlib.suppress(OSError):
            if self._destination.protocol == "tls":
                _take_leave(connection)
        with contextlib.suppress(OSError):
            connection.close()

    @property
    def _is_stream(self) -> bool:
        return self._destination.protocol in ("tcp", "tls")

    def _encode(self, message: Message) -> bytes:
        if self._destination == THIS_SYSTEM:
            return syslog.encode_local(message)
        encoded = syslog.encode(message)
        return syslog.frame(encoded) if self._is_stream else encoded

    def _connected(self) -> socket.socket:
        """A socket on which one send is one message, or a part of a stream of them."""
        protocol, host, port = self._destination.protocol, self._destination.host, self._destination.port
        if not protocol:
            return _connect_local()
        if protocol == "udp":
            return _connect_udp(host, port)
        stream = socket.create_connection((host, port), TIMEOUT)
        if protocol == "tcp":
            return stream
        with contextlib.ExitStack() as opened:
            opened.enter_context(stream)
            secured = self._new_context().wrap_socket(stream, server_hostname=host)
            opened.pop_all()
        return secured


def _connect_local() -> socket.socket:
    if sys.platform == "win32":
        raise AssertionError("refused when it was configured")
    local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    return _connect(local, LOCAL_LOG)


def _connect_udp(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except UnicodeError:  # a part between its dots is empty or longer than 63 signs
        raise OSError(errno.EINVAL, "no name of a host") from None
    return _connect(socket.socket(family, kind, number), address)


def _connect(datagrams: socket.socket, address: str | tuple[object, ...]) -> socket.socket:
    datagrams.settimeout(TIMEOUT)
    try:
        datagrams.connect(address)
    except OSError:
        datagrams.close()
        raise
    return datagrams


def _has_closed(connection: socket.socket) -> bool:
    """Whether the server has gone: a syslog server says nothing, so that only its end can be heard.

    A send would not tell: the first one behind the end succeeds, and its message is lost.
    """
    connection.settimeout(0)
    try:
        return not connection.recv(1)
    except OSError as error:
        return not _is_silence(error)
    finally:
        connection.settimeout(TIMEOUT)


def _is_silence(error: OSError) -> bool:
    """TLS has its own word for it, and may have had something to read that is none of ours."""
    if isinstance(error, BlockingIOError):
        return True
    ssl = sys.modules.get("ssl")  # loaded where it was needed
    return ssl is not None and isinstance(error, ssl.SSLWantReadError)


def _take_leave(connection: socket.socket) -> None:
    """RFC 5425 4.4: a sender says that it closes, and need not wait for the answer."""
    connection.settimeout(0)
    connection.unwrap()  # type: ignore[attr-defined]


def _default_context() -> "ssl.SSLContext":
    import ssl  # nobody else needs it

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # PS3.15 A.6
    return context
