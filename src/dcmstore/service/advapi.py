"""values <-> calls of advapi32.dll: the Service Control Manager of Windows.

Of the system it knows the library that it is given, and so it can be tried on Linux with one that only takes notes.
"""

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dcmstore.service import winsvc
from dcmstore.service.winsvc import BOOL, DWORD, HANDLE, TEXT, VOID, HandlerEx

# What is called, by what it takes and gives; a handle or True, and nothing when it failed
_CALLS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "OpenSCManagerW": (HANDLE, (TEXT, TEXT, DWORD)),
    "OpenServiceW": (HANDLE, (HANDLE, TEXT, DWORD)),
    "CreateServiceW": (
        HANDLE,
        (HANDLE, TEXT, TEXT, DWORD, DWORD, DWORD, DWORD, TEXT, TEXT, VOID, TEXT, TEXT, TEXT),
    ),
    "ChangeServiceConfig2W": (BOOL, (HANDLE, DWORD, VOID)),
    "QueryServiceConfigW": (BOOL, (HANDLE, VOID, DWORD, VOID)),
    "QueryServiceStatusEx": (BOOL, (HANDLE, DWORD, VOID, DWORD, VOID)),
    "StartServiceW": (BOOL, (HANDLE, DWORD, VOID)),
    "ControlService": (BOOL, (HANDLE, DWORD, VOID)),
    "DeleteService": (BOOL, (HANDLE,)),
    "CloseServiceHandle": (BOOL, (HANDLE,)),
    "StartServiceCtrlDispatcherW": (BOOL, (VOID,)),
    "RegisterServiceCtrlHandlerExW": (HANDLE, (TEXT, HandlerEx, VOID)),
    "SetServiceStatus": (BOOL, (HANDLE, VOID)),
}


class CallError(Exception):
    """A call failed: its name, and Windows' number for why."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call}: Windows error {code}")
        self.call = call
        self.code = code


@dataclass(frozen=True, slots=True)
class Setup:
    """How a service is set up."""

    command_line: str
    account: str
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a service is doing now; `state` is one of winsvc.SERVICE_STOPPED …, times are in milliseconds."""

    state: int
    win32_exit_code: int = 0
    specific_exit_code: int = 0
    check_point: int = 0
    wait_hint: int = 0
    process: int = 0


class Advapi:
    """advapi32.dll. Each method raises CallError when Windows says no."""

    def __init__(self, library: Any, last_error: Callable[[], int]) -> None:
        self._last_error = last_error
        self._calls: dict[str, Any] = {}
        for name, (result, arguments) in _CALLS.items():
            call = self._calls[name] = getattr(library, name)
            call.restype, call.argtypes = result, arguments

    @classmethod
    def of_windows(cls) -> "Advapi":
        if sys.platform == "win32":
            return cls(ctypes.WinDLL("advapi32", use_last_error=True), ctypes.get_last_error)
        raise NotImplementedError("Windows only")

    def _call(self, name: str, *arguments: object) -> Any:
        result = self._calls[name](*arguments)
        if not result:
            raise CallError(name, self._last_error())
        return result

    # --- for whoever controls a service ------------------------------------------------------------

    @contextlib.contextmanager
    def manager(self, access: int = winsvc.SC_MANAGER_CONNECT) -> Iterator[object]:
        """A handle of the Service Control Manager."""
        with self._closed(self._call("OpenSCManagerW", None, None, access)) as manager:
            yield manager

    @contextlib.contextmanager
    def service(self, name: str, access: int) -> Iterator[object]:
        """A handle of a service that is installed."""
        with self.manager() as manager, self._closed(self._call("OpenServiceW", manager, name, access)) as service:
            yield service

    def create(self, name: str, setup: Setup, password: str | None, dependencies: Sequence[str]) -> None:
        """A service that starts with the machine, in a process of its own."""
        names = ctypes.create_unicode_buffer("".join(f"{dependency}\0" for dependency in dependencies))
        with self.manager(winsvc.SC_MANAGER_CONNECT | winsvc.SC_MANAGER_CREATE_SERVICE) as manager:
            service = self._call(
                "CreateServiceW",
                manager,
                name,
                setup.display_name,
                winsvc.SERVICE_QUERY_STATUS,
                winsvc.SERVICE_WIN32_OWN_PROCESS,
                winsvc.SERVICE_AUTO_START,
                winsvc.SERVICE_ERROR_NORMAL,
                setup.command_line,
                None,  # load order group
                None,  # tag in it
                names,
                setup.account,
                password,
            )
            self._calls["CloseServiceHandle"](service)

    def change(self, name: str, what: int, value: ctypes.Structure) -> None:
        """`value` is the structure that goes with `what`, one of winsvc.SERVICE_CONFIG_DESCRIPTION …"""
        # A service can be told to restart only by somebody who may start it.
        with self.service(name, winsvc.SERVICE_CHANGE_CONFIG | winsvc.SERVICE_START) as service:
            self._call("ChangeServiceConfig2W", service, what, ctypes.byref(value))

    def setup(self, name: str) -> Setup:
        with self.service(name, winsvc.SERVICE_QUERY_CONFIG) as service:
            needed = DWORD()
            with contextlib.suppress(CallError):  # it tells how much it needs
                self._call("QueryServiceConfigW", service, None, 0, ctypes.byref(needed))
            buffer = ctypes.create_string_buffer(max(needed.value, ctypes.sizeof(winsvc.QUERY_SERVICE_CONFIGW)))
            self._call("QueryServiceConfigW", service, buffer, len(buffer), ctypes.byref(needed))
            found = winsvc.QUERY_SERVICE_CONFIGW.from_buffer(buffer)
            return Setup(found.lpBinaryPathName or "", found.lpServiceStartName or "", found.lpDisplayName or "")

    def progress(self, name: str) -> Progress:
        status, needed = winsvc.SERVICE_STATUS_PROCESS(), DWORD()
        with self.service(name, winsvc.SERVICE_QUERY_STATUS) as service:
            self._call(
                "QueryServiceStatusEx",
                service,
                winsvc.SC_STATUS_PROCESS_INFO,
                ctypes.byref(status),
                ctypes.sizeof(status),
                ctypes.byref(needed),
            )
        return Progress(
            status.dwCurrentState,
            status.dwWin32ExitCode,
            status.dwServiceSpecificExitCode,
            status.dwCheckPoint,
            status.dwWaitHint,
            status.dwProcessId,
        )

    def start(self, name: str) -> None:
        with self.service(name, winsvc.SERVICE_START) as service:
            self._call("StartServiceW", service, 0, None)

    def control(self, name: str, control: int, access: int) -> None:
        """`access` is what this control needs."""
        with self.service(name, access) as service:
            self._call("ControlService", service, control, ctypes.byref(winsvc.SERVICE_STATUS()))

    def delete(self, name: str) -> None:
        with self.service(name, winsvc.DELETE) as service:
            self._call("DeleteService", service)

    @contextlib.contextmanager
    def _closed(self, handle: object) -> Iterator[object]:
        try:
            yield handle
        finally:
            self._calls["CloseServiceHandle"](handle)

    # --- for the service itself --------------------------------------------------------------------

    def dispatch(self, name: str, main: Any) -> None:
        """Return when the service has ended. `main` is a ServiceMain, which Windows calls on another thread."""
        table = (winsvc.SERVICE_TABLE_ENTRYW * 2)()  # a second entry, empty, ends it
        table[0] = winsvc.SERVICE_TABLE_ENTRYW(name, main)
        self._call("StartServiceCtrlDispatcherW", table)

    def register(self, name: str, handler: Any) -> object:
        """A handle for `report`. `handler` is a HandlerEx, which the caller keeps alive."""
        return self._call("RegisterServiceCtrlHandlerExW", name, handler, None)

    def report(self, handle: object, accepted: int, progress: Progress) -> None:
        status = winsvc.SERVICE_STATUS(
            winsvc.SERVICE_WIN32_OWN_PROCESS,
            progress.state,
            accepted,
            progress.win32_exit_code,
            progress.specific_exit_code,
            progress.check_point,
            progress.wait_hint,
        )
        self._call("SetServiceStatus", handle, ctypes.byref(status))
