"""what `WindowsManager` needs of Windows beside advapi32: programs, the registry, drives, the clock.

All in one place, so that tests can give it another machine.
"""

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

import dcmstore
from dcmstore.errors import reason_of
from dcmstore.service import SERVICE_NAME, windows_rights
from dcmstore.service.advapi import Advapi
from dcmstore.service.manager import ServiceError
from dcmstore.service.windows_rights import Command

HOST_MODULE = "dcmstore.service.windows_host"
RECORD_KEY = f"SYSTEM\\CurrentControlSet\\Services\\{SERVICE_NAME}\\Parameters"


@dataclass(frozen=True, slots=True)
class Record:
    """What `install` has done beside the service, so that `delete` undoes just that."""

    grants: tuple[tuple[str, str], ...] = ()  # path and rights
    ports: str = ""  # those of the rule of the firewall, if there is one
    shutdown: int = 0  # seconds that a shutdown of Windows leaves it (preshutdown)

    def __or__(self, other: "Record") -> "Record":
        """What either has, this one's first."""
        ports = dict.fromkeys(port for record in (self, other) for port in record.ports.split(",") if port)
        grants = dict.fromkeys((*self.grants, *other.grants))
        return Record(tuple(grants), ",".join(ports), max(self.shutdown, other.shutdown))

    def covers(self, wanted: "Record") -> bool:
        return self | wanted == self


class Records(Protocol):
    """Where the record is kept. All raise OSError."""

    def read(self) -> Record: ...

    def write(self, record: Record) -> None: ...

    def remove(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Program:
    """How the service is started: Python, its options, and behind them the ini; and the folders it is read from."""

    python: str
    options: tuple[str, ...]
    folders: tuple[Path, ...]

    @classmethod
    def present(cls) -> "Program":
        """The one that runs now, without what Windows or a person have set for Python (-I)."""
        package, base = Path(dcmstore.__file__).parent, Path(sys.base_prefix)
        folders = tuple(dict.fromkeys([Path(sys.executable).parent, base, package.parent]))
        outermost = tuple(folder for folder in folders if not any(other in folder.parents for other in folders))
        # In a virtual environment python.exe only starts the one behind it, which Windows would take for a stranger.
        python = sys.executable if sys.prefix == sys.base_prefix else str(base / "python.exe")
        if package.is_relative_to(base):
            return cls(python, ("-I", "-m", HOST_MODULE), outermost)
        host = package.joinpath(*HOST_MODULE.split(".")[1:]).with_suffix(".py")
        return cls(python, ("-I", f'"{host}"'), outermost)

    def command_line(self, ini: str) -> str:
        """Paths may hold blanks, and no quotes."""
        return f'"{self.python}" {" ".join(self.options)} "{ini}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A Windows machine."""

    advapi: Advapi
    records: Records
    program: Program
    run: Callable[[Command], None]  # raises ServiceError
    is_remote: Callable[[PurePath], bool]
    ask_password: Callable[[str], str]
    since: Callable[[int], str]
    words_of: Callable[[int], str]
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


def shown(command: Command) -> str:
    """A command line that can be typed."""
    return subprocess.list2cmdline(command)


if sys.platform == "win32":
    import ctypes
    import winreg
    from ctypes import wintypes

    _QUERY_LIMITED_INFORMATION = 0x1000
    _SINCE_1601 = 11_644_473_600  # seconds from the year in which Windows' clock begins to that of Unix
    _SEPARATOR = "|"  # between path and rights; no path holds it

    _kernel32 = ctypes.WinDLL("kernel32")
    _kernel32.GetDriveTypeW.argtypes = (wintypes.LPCWSTR,)
    _kernel32.OpenProcess.restype = wintypes.HANDLE
    _kernel32.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    _kernel32.CloseHandle.argtypes = (wintypes.HANDLE,)
    _kernel32.GetProcessTimes.argtypes = (wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4)

    class _Registry:
        """The key of parameters that a service may have; it goes with the service."""

        def read(self) -> Record:
            try:
                with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, RECORD_KEY) as key:
                    pairs = (grant.rpartition(_SEPARATOR) for grant in _value(key, "Grants", []))
                    grants = tuple((path, rights) for path, _, rights in pairs)
                    return Record(grants, _value(key, "Firewall", ""), _value(key, "Shutdown", 0))
            except FileNotFoundError:
                return Record()

        def write(self, record: Record) -> None:
            with winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, RECORD_KEY) as key:
                grants = [_SEPARATOR.join(grant) for grant in record.grants]
                winreg.SetValueEx(key, "Grants", 0, winreg.REG_MULTI_SZ, grants)
                winreg.SetValueEx(key, "Firewall", 0, winreg.REG_SZ, record.ports)
                winreg.SetValueEx(key, "Shutdown", 0, winreg.REG_DWORD, record.shutdown)

        def remove(self) -> None:
            try:
                winreg.DeleteKey(winreg.HKEY_LOCAL_MACHINE, RECORD_KEY)
            except FileNotFoundError:
                return

    def _value(key: winreg.HKEYType, name: str, default: Any) -> Any:
        """What a dcmstore that did not write it down yet has not done."""
        try:
            return winreg.QueryValueEx(key, name)[0]
        except FileNotFoundError:
            return default

    def _run(command: Command) -> None:
        """A program of Windows itself, by its whole path: nobody can put another one in front of it."""
        program = Path(os.environ["SYSTEMROOT"], "System32", command[0]).with_suffix(".exe")
        try:
            done = subprocess.run(
                [str(program), *command[1:]], capture_output=True, stdin=subprocess.DEVNULL, check=False,
                encoding="oem", errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise ServiceError(f"{command[0]}: {reason_of(error)}") from None
        if done.returncode:
            told = " ".join((done.stderr + done.stdout).split()) or f"exit code {done.returncode}"
            raise ServiceError(f"`{shown(command)}`: {told}")

    def _since(process: int) -> str:
        """When a process was started, in local time, or nothing when Windows does not tell."""
        handle = _kernel32.OpenProcess(_QUERY_LIMITED_INFORMATION, False, process)
        if not handle:
            return ""
        try:
            times = [wintypes.FILETIME() for _ in range(4)]  # made, ended, in the kernel, in the program
            if not _kernel32.GetProcessTimes(handle, *map(ctypes.byref, times)):
                return ""
        finally:
            _kernel32.CloseHandle(handle)
        ticks = times[0].dwHighDateTime << 32 | times[0].dwLowDateTime  # of 100 ns
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ticks // 10_000_000 - _SINCE_1601))

    def this_machine() -> Machine:
        return Machine(
            advapi=Advapi.of_windows(),
            records=_Registry(),
            program=Program.present(),
            run=_run,
            is_remote=lambda path: windows_rights.is_remote(path, _kernel32.GetDriveTypeW),
            ask_password=lambda account: getpass.getpass(f"password of {account}: "),
            since=_since,
            words_of=lambda code: ctypes.FormatError(code).strip(),
        )
else:

    def this_machine() -> Machine:
        raise NotImplementedError("Windows only")
