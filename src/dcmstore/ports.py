"""a TCP port -> which program listens on it: what a person wants to know when it is taken."""

import contextlib
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path


def owner_of(port: int) -> str:
    """`nginx (process 123)`, or what of it can be seen, printable; nothing when nobody is seen to listen."""
    process = next((process for listened, process in _listeners() if listened == port), None)
    if process is None:
        return ""
    if not process:
        return "an unknown program"  # its files are hidden from us
    name = _name_of(process)
    if not name.isprintable():  # a program chooses its name itself
        name = repr(name)
    return f"{name} (process {process})" if name else f"process {process}"


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _TCP_TABLE_OWNER_PID_LISTENER = 3
    # Per address family: a row, its port and its process (MIB_TCPROW_OWNER_PID, MIB_TCP6ROW_OWNER_PID). The port
    # stands in the order of the network.
    _ROWS = {2: struct.Struct("<8x2s10xI"), 23: struct.Struct("<20x2s30xI")}
    _COUNT = struct.Struct("<I")  # stands before the rows
    _MORE_ROOM = 4096  # bytes; the table may grow between the two calls

    _QUERY_LIMITED_INFORMATION = 0x1000
    _MAX_PATH = 32_768
    _KERNEL = 4  # the number of the process that is Windows' own kernel

    _tcp_table = ctypes.WinDLL("iphlpapi").GetExtendedTcpTable
    _tcp_table.argtypes = (
        ctypes.c_void_p, ctypes.POINTER(wintypes.DWORD), wintypes.BOOL, wintypes.ULONG, ctypes.c_int, wintypes.ULONG,
    )  # fmt: skip
    _kernel32 = ctypes.WinDLL("kernel32")
    _kernel32.OpenProcess.restype = wintypes.HANDLE
    _kernel32.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    _kernel32.CloseHandle.argtypes = (wintypes.HANDLE,)
    _kernel32.QueryFullProcessImageNameW.argtypes = (
        wintypes.HANDLE, wintypes.DWORD, wintypes.LPWSTR, ctypes.POINTER(wintypes.DWORD),
    )  # fmt: skip

    def _listeners() -> Iterator[tuple[int, int]]:
        """Port and process of each socket that listens."""
        for family, row in _ROWS.items():
            size = wintypes.DWORD()
            _tcp_table(None, ctypes.byref(size), False, family, _TCP_TABLE_OWNER_PID_LISTENER, 0)
            size.value += _MORE_ROOM
            table = ctypes.create_string_buffer(size.value)
            if _tcp_table(table, ctypes.byref(size), False, family, _TCP_TABLE_OWNER_PID_LISTENER, 0):
                continue
            (count,) = _COUNT.unpack_from(table)
            for index in range(count):
                port, process = row.unpack_from(table, _COUNT.size + index * row.size)
                yield int.from_bytes(port, "big"), process

    def _name_of(process: int) -> str:
        if process == _KERNEL:
            return "Windows itself"
        handle = _kernel32.OpenProcess(_QUERY_LIMITED_INFORMATION, False, process)
        if not handle:
            return ""
        try:
            name, length = ctypes.create_unicode_buffer(_MAX_PATH), wintypes.DWORD(_MAX_PATH)
            found = _kernel32.QueryFullProcessImageNameW(handle, 0, name, ctypes.byref(length))
            return Path(name.value).name if found else ""
        finally:
            _kernel32.CloseHandle(handle)
else:
    _TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
    _LISTENING = "0A"  # state of a socket
    # Columns of a line of the tables
    _LOCAL_ADDRESS, _STATE, _INODE = 1, 3, 9

    def _listeners() -> Iterator[tuple[int, int]]:
        """Port and process of each socket that listens; 0 for a process whose files are hidden from us."""
        ports = dict(_listening_sockets())
        for process, inode in _open_sockets() if ports else ():
            if inode in ports:
                yield ports.pop(inode), process
        for port in ports.values():
            yield port, 0

    def _listening_sockets() -> Iterator[tuple[str, int]]:
        """Inode and port."""
        for table in _TABLES:
            with contextlib.suppress(OSError):
                for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                    columns = line.split()
                    if columns[_STATE] == _LISTENING:
                        yield columns[_INODE], int(columns[_LOCAL_ADDRESS].rpartition(":")[2], 16)

    def _open_sockets() -> Iterator[tuple[int, str]]:
        """Process and inode."""
        for folder in Path("/proc").glob("[0-9]*/fd"):
            with contextlib.suppress(OSError):  # the process is gone, or somebody else's
                for name in os.listdir(folder):
                    with contextlib.suppress(OSError):
                        target = os.readlink(folder / name)
                        if target.startswith("socket:["):
                            yield int(folder.parent.name), target[len("socket:[") : -1]

    def _name_of(process: int) -> str:
        try:
            return Path(f"/proc/{process}/comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""
