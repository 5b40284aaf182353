"""a TCP port -> which program listens on it: what a person wants to know when it is taken."""

import struct

_LISTENING = 0x0A  # state of a socket in /proc/net/tcp
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

_TCP_TABLE_OWNER_PID_LISTENER = 3
_ERROR_INSUFFICIENT_BUFFER = 122
# Per address family of Windows: how a row of the table is laid out, and where in it the port and the process stand.
# The port is in network byte order (MIB_TCPROW_OWNER_PID, MIB_TCP6ROW_OWNER_PID).
_ROWS = {
    2: struct.Struct("<8x >H 6x <I".replace(" <", " ").replace(">", "").replace("<", "", 1)),
}


def owner_of(port: int) -> str:
    return ""
