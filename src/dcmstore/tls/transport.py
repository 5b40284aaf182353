"""a TCP connection -> a TLS connection, server side: the handshake, and a socket that behaves as a plain one does.

A handshake takes as long as the peer likes, within its limit: it belongs on the connection's own thread.
"""

import contextlib
import socket
import ssl
import time
from typing import Any

from dcmstore import sockets
from dcmstore.errors import DcmStoreError, reason_of
from dcmstore.tls import faults

LINGER = 2.0  # seconds that a peer gets to read why its handshake failed
_SHORTEST_WAIT = 0.001  # seconds; 0 would mean not to wait at all


class TlsError(DcmStoreError):
    """A handshake failed; the text says who has to do what.

    `said_nothing` is true where the peer sent no byte: a port scan or a load balancer's probe.
    """

    def __init__(self, text: str, *, said_nothing: bool = False) -> None:
        super().__init__(text)
        self.said_nothing = said_nothing


class TlsSocket(ssl.SSLSocket):
    """What `sockets` says of a plain socket holds for this one.

    A receive or send that takes too long ends in `sockets.GAVE_UP`, and what TLS itself finds wrong is a
    ConnectionError. `shutdown` from another thread ends a receive; that of the base class would let the bytes after it
    go past TLS, in both directions.
    """

    # Class attributes, for the base class makes its objects without __init__.
    _receive_limit: float | None = None
    _send_limit: float | None = None
    _is_open = False  # the handshake is done, and the peer has not closed

    def limit_waiting(self, receive: float, send: float) -> None:
        """As `sockets.limit_waiting`, by Python's own limits: TLS does not hear of the system's."""
        self._receive_limit, self._send_limit = receive, send
        self.settimeout(receive)

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        self._is_open = True

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        try:
            size = super().recv_into(buffer, nbytes, flags)
        except (TimeoutError, ssl.SSLError) as error:
            raise _as_of_plain_socket(error) from None
        if not size:
            self._is_open = False
        return size

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.settimeout(self._send_limit)
        try:
            super().sendall(data, flags)
        except (TimeoutError, ssl.SSLError) as error:
            raise _as_of_plain_socket(error) from None
        finally:
            self.settimeout(self._receive_limit)

    def shutdown(self, how: int) -> None:
        socket.socket.shutdown(self, how)

    def close(self) -> None:
        """Say so to a peer that has not closed before us (RFC 8446 6.1).

        One that has would not hear it. And TLS 1.2 keeps the session of a connection that it closed itself, with its
        client certificate about 10 kB, for somebody to resume, which nobody may here.
        """
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(OSError, ValueError):
                self.settimeout(0)
                self.unwrap()
        super().close()

    def peek(self) -> bytes:
        """The first byte, left where it is; empty when the peer has closed. Before the handshake only."""
        return socket.socket.recv(self, 1, socket.MSG_PEEK)

    def linger(self) -> None:
        """Let the peer read the alert: to close over bytes that nobody has read resets the connection."""
        deadline = time.monotonic() + LINGER
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_WR)
            while (remaining := deadline - time.monotonic()) > 0:
                self.settimeout(remaining)
                if not socket.socket.recv(self, 65536):
                    return


def _as_of_plain_socket(error: OSError) -> OSError:
    if isinstance(error, ssl.SSLError):
        return ConnectionError(f"TLS: {faults.phrase(error)}")
    return error if error.errno else sockets.GAVE_UP(str(error))  # with a number it is the system's word


def wrap(context: ssl.SSLContext, connection: socket.socket) -> TlsSocket:
    """The same connection with TLS around it; nothing is sent or received yet. `context` is one of `context_of`.

    From now on `connection` is an empty shell: whoever wants to end the handshake from another thread needs what is
    returned. Raises TlsError, with the connection closed, when the peer has gone already.
    """
    try:
        connection.getpeername()  # fails where the peer has gone; wrap_socket would do so too, and leave a socket open
        wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    except (OSError, ValueError):
        connection.close()
        raise TlsError("the peer closed the connection at once", said_nothing=True) from None
    assert isinstance(wrapped, TlsSocket)
    return wrapped


def shake_hands(connection: TlsSocket, timeout: float) -> None:
    """The handshake, whole, within `timeout` seconds, which are `artim-timeout`. Raises TlsError."""
    deadline = time.monotonic() + timeout
    first = None
    try:
        connection.settimeout(timeout)
        first = connection.peek()
        if problem := faults.of_first_byte(first):
            raise TlsError(problem, said_nothing=not first)
        connection.settimeout(max(deadline - time.monotonic(), _SHORTEST_WAIT))
        connection.do_handshake()
        sockets.acknowledge_now(connection)  # else a sender's Nagle algorithm holds its request for 40 ms (TLS 1.3)
    except ssl.SSLError as error:
        connection.linger()
        raise TlsError(faults.of_handshake(error)) from None
    except TimeoutError:
        where = "in the middle of the TLS handshake" if first else "before a byte came"
        raise TlsError(f"artim-timeout ran out {where}", said_nothing=not first) from None
    except OSError as error:
        raise TlsError(f"connection lost in the TLS handshake: {reason_of(error)}", said_nothing=not first) from None
