"""a socket -> one that is quick and exclusive, on Linux and Windows: the options that DICOM wants.

A sender writes the command PDU, then the data PDU. Its Nagle algorithm holds the second one until the first is
acknowledged, and a receiver with default options acknowledges only after about 40 ms (200 ms on Windows). Hence
no delay on what we send, and acknowledgement at once of what we receive.
"""

import contextlib
import errno
import mmap
import socket
import struct
import sys

from dcmstore.errors import ConfigurationError

BACKLOG = 512  # connections the system accepts before we do
_KEEPALIVE_IDLE = 60  # seconds of silence before the system asks whether the peer still lives

# What a receive or send ends in when `limit_waiting` has let it. Elsewhere than on Windows a TimeoutError is the
# system's own word that the peer is gone.
GAVE_UP: type[OSError] = TimeoutError if sys.platform == "win32" else BlockingIOError

_QUICK_ACK = socket.TCP_QUICKACK if sys.platform == "linux" else None

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _SIO_TCP_SET_ACK_FREQUENCY = 0x98000017

    def _acknowledge_every_segment(connection: socket.socket) -> None:
        frequency, returned = wintypes.DWORD(1), wintypes.DWORD()
        ctypes.windll.ws2_32.WSAIoctl(
            ctypes.c_size_t(connection.fileno()),
            wintypes.DWORD(_SIO_TCP_SET_ACK_FREQUENCY),
            ctypes.byref(frequency),
            ctypes.sizeof(frequency),
            None,
            0,
            ctypes.byref(returned),
            None,
            None,
        )
else:

    def _acknowledge_every_segment(connection: socket.socket) -> None:
        """Linux forgets TCP_QUICKACK by itself: `acknowledge_now` sets it after each receive."""


def listen(address: str, port: int) -> socket.socket:
    """A listening socket that no other process can share. Without an address: all, IPv4 and IPv6.

    Raises ConfigurationError for an address that is not this machine's, OSError when the port is taken.
    """
    family, host = _family_of(address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # there SO_REUSEADDR would let a second process take the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(address)))
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigurationError(f"bind= {address!r}: not an address of this machine") from None
        raise
    return listener


def _family_of(address: str) -> tuple[socket.AddressFamily, str]:
    if not address:
        return (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "")
    try:
        family, _, _, _, resolved = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):  # of two dots side by side
        raise ConfigurationError(f"bind= {address!r}: not an address, and no name that this machine knows") from None
    return family, str(resolved[0])


def tune(connection: socket.socket) -> None:
    """Options of a connection, set once. It blocks, whatever it inherited from the listening socket."""
    connection.setblocking(True)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        with contextlib.suppress(OSError):  # Windows before 10.1709 and Wine only know the system's two hours
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    _acknowledge_every_segment(connection)


def limit_waiting(connection: socket.socket, receive: float, send: float) -> None:
    """Let a receive, and a send by `send_all`, give up after so many seconds, with GAVE_UP.

    On Windows by Python's own limit, for after the system's a socket must not be used any more; elsewhere by the
    system's, for Python's costs two more calls for each receive and each send.
    """
    if sys.platform == "win32":
        connection.settimeout(receive)
        return
    for option, seconds in ((socket.SO_RCVTIMEO, receive), (socket.SO_SNDTIMEO, send)):
        limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
        connection.setsockopt(socket.SOL_SOCKET, option, limit)


def receive_buffer(size: int) -> mmap.mmap:
    """A buffer whose pages cost no memory until data reaches them; `let_go` of them when nothing more comes."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def let_go(buffer: mmap.mmap) -> None:
    """Give the pages of a receive buffer back to the system, and forget what is in it."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        buffer.madvise(mmap.MADV_DONTNEED)


def send_all(connection: socket.socket, data: bytes, limit: float) -> None:
    """Send within the limit that `limit_waiting` was told, which Python's own limit has to be told again."""
    if sys.platform != "win32":
        connection.sendall(data)
        return
    receive_limit = connection.gettimeout()
    connection.settimeout(limit)
    try:
        connection.sendall(data)
    finally:
        connection.settimeout(receive_limit)


def acknowledge_now(connection: socket.socket) -> None:  # hot: bench
    """Acknowledge what was received, and the next segment, without delay. Linux forgets it with the next answer."""
    if _QUICK_ACK is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)


def host_of(address: tuple[object, ...]) -> str:
    """IPv4 without its IPv6 prefix."""
    return str(address[0]).removeprefix("::ffff:")


def show_address(address: tuple[object, ...]) -> str:
    """`host:port`."""
    host = host_of(address)
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def wake(connection: socket.socket) -> None:
    """End a receive that blocks in another thread; on Windows it may first have to reach its limit."""
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RD)
