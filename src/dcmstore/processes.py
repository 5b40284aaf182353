"""the number of a process -> its name, and since when it runs."""

import sys
import time
from pathlib import Path

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _QUERY_LIMITED_INFORMATION = 0x1000
    _SINCE_1601 = 11_644_473_600  # seconds from the year in which Windows' clock begins to that of Unix
    _MAX_PATH = 32_768
    _SYSTEM = 4  # the number of the process that is Windows' own kernel

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.OpenProcess.restype = wintypes.HANDLE
    _kernel32.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    _kernel32.CloseHandle.argtypes = (wintypes.HANDLE,)
    _kernel32.QueryFullProcessImageNameW.argtypes = (
        wintypes.HANDLE, wintypes.DWORD, wintypes.LPWSTR, ctypes.POINTER(wintypes.DWORD),
    )  # fmt: skip
    _kernel32.GetProcessTimes.argtypes = (wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4)

    def name_of(process: int) -> str:
        """The name of its program, or nothing when it is gone or hidden from us."""
        if process == _SYSTEM:
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

    def since(process: int) -> str:
        """When it was started, in local time, or nothing."""
        handle = _kernel32.OpenProcess(_QUERY_LIMITED_INFORMATION, False, process)
        if not handle:
            return ""
        try:
            times = [wintypes.FILETIME() for _ in range(4)]  # made, ended, in the kernel, in the program
            if not _kernel32.GetProcessTimes(handle, *map(ctypes.byref, times)):
                return ""
            ticks = times[0].dwHighDateTime << 32 | times[0].dwLowDateTime  # of 100 ns
            return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ticks / 10_000_000 - _SINCE_1601))
        finally:
            _kernel32.CloseHandle(handle)
else:

    def name_of(process: int) -> str:
        """The name of its program, or nothing when it is gone or hidden from us."""
        try:
            return Path(f"/proc/{process}/comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def since(process: int) -> str:
        """When it was started, in local time, or nothing."""
        try:
            started = Path(f"/proc/{process}").stat().st_ctime
        except OSError:
            return ""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
