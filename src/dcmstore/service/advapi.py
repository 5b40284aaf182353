"""values <-> calls of advapi32.dll: the Service Control Manager of Windows, by its own names and numbers.

Of the system it knows the library that it is given, and so it can be tried on Linux with one that only takes notes.
Types are of fixed width, as Windows has them; names are those of Microsoft's headers.
"""

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

DWORD = ctypes.c_uint32
BOOL = ctypes.c_int32
HANDLE = ctypes.c_void_p
TEXT = ctypes.c_wchar_p
VOID = ctypes.c_void_p

# Access to the manager and to a service
SC_MANAGER_CONNECT = 0x0001
SC_MANAGER_CREATE_SERVICE = 0x0002
SERVICE_QUERY_CONFIG = 0x0001
SERVICE_CHANGE_CONFIG = 0x0002
SERVICE_QUERY_STATUS = 0x0004
SERVICE_START = 0x0010
SERVICE_STOP = 0x0020
SERVICE_PAUSE_CONTINUE = 0x0040  # also for SERVICE_CONTROL_PARAMCHANGE
DELETE = 0x00010000

SERVICE_WIN32_OWN_PROCESS = 0x10
SERVICE_AUTO_START = 2
SERVICE_ERROR_NORMAL = 1

# What SERVICE_STATUS says
SERVICE_STOPPED = 1
SERVICE_START_PENDING = 2
SERVICE_STOP_PENDING = 3
SERVICE_RUNNING = 4
SERVICE_ACCEPT_STOP = 0x001
SERVICE_ACCEPT_SHUTDOWN = 0x004
SERVICE_ACCEPT_PARAMCHANGE = 0x008
SERVICE_ACCEPT_PRESHUTDOWN = 0x100

# What a service is told
SERVICE_CONTROL_STOP = 1
SERVICE_CONTROL_INTERROGATE = 4
SERVICE_CONTROL_SHUTDOWN = 5
SERVICE_CONTROL_PARAMCHANGE = 6  # "its startup parameters have changed, read them again"
SERVICE_CONTROL_PRESHUTDOWN = 15

# What ChangeServiceConfig2W changes
SERVICE_CONFIG_DESCRIPTION = 1
SERVICE_CONFIG_FAILURE_ACTIONS = 2
SERVICE_CONFIG_FAILURE_ACTIONS_FLAG = 4
SERVICE_CONFIG_SERVICE_SID_INFO = 5
SERVICE_CONFIG_PRESHUTDOWN_INFO = 7
SERVICE_SID_TYPE_UNRESTRICTED = 1
SC_ACTION_RESTART = 1
_SC_STATUS_PROCESS_INFO = 0

NO_ERROR = 0
ERROR_ACCESS_DENIED = 5
ERROR_CALL_NOT_IMPLEMENTED = 120
ERROR_INSUFFICIENT_BUFFER = 122
ERROR_SERVICE_ALREADY_RUNNING = 1056
ERROR_SERVICE_DOES_NOT_EXIST = 1060
ERROR_SERVICE_NOT_ACTIVE = 1062
ERROR_FAILED_SERVICE_CONTROLLER_CONNECT = 1063
ERROR_SERVICE_SPECIFIC_ERROR = 1066
ERROR_SERVICE_MARKED_FOR_DELETE = 1072

if sys.platform == "win32":
    _function_type = ctypes.WINFUNCTYPE
else:
    _function_type = ctypes.CFUNCTYPE
ServiceMain = _function_type(None, DWORD, ctypes.POINTER(TEXT))
HandlerEx = _function_type(DWORD, DWORD, DWORD, VOID, VOID)  # control, event type, event data, context


class SERVICE_STATUS(ctypes.Structure):
    _fields_ = (
        ("dwServiceType", DWORD),
        ("dwCurrentState", DWORD),
        ("dwControlsAccepted", DWORD),
        ("dwWin32ExitCode", DWORD),
        ("dwServiceSpecificExitCode", DWORD),
        ("dwCheckPoint", DWORD),
        ("dwWaitHint", DWORD),
    )


class SERVICE_STATUS_PROCESS(ctypes.Structure):
    _fields_ = (*SERVICE_STATUS._fields_, ("dwProcessId", DWORD), ("dwServiceFlags", DWORD))


class QUERY_SERVICE_CONFIGW(ctypes.Structure):
    _fields_ = (
        ("dwServiceType", DWORD),
        ("dwStartType", DWORD),
        ("dwErrorControl", DWORD),
        ("lpBinaryPathName", TEXT),
        ("lpLoadOrderGroup", TEXT),
        ("dwTagId", DWORD),
        ("lpDependencies", VOID),
        ("lpServiceStartName", TEXT),
        ("lpDisplayName", TEXT),
    )


class SERVICE_TABLE_ENTRYW(ctypes.Structure):
    _fields_ = (("lpServiceName", TEXT), ("lpServiceProc", ServiceMain))


class SERVICE_DESCRIPTIONW(ctypes.Structure):
    _fields_ = (("lpDescription", TEXT),)


class SC_ACTION(ctypes.Structure):
    _fields_ = (("Type", DWORD), ("Delay", DWORD))


class SERVICE_FAILURE_ACTIONSW(ctypes.Structure):
    _fields_ = (
        ("dwResetPeriod", DWORD),
        ("lpRebootMsg", TEXT),
        ("lpCommand", TEXT),
        ("cActions", DWORD),
        ("lpsaActions", ctypes.POINTER(SC_ACTION)),
    )


class SERVICE_FAILURE_ACTIONS_FLAG(ctypes.Structure):
    _fields_ = (("fFailureActionsOnNonCrashFailures", BOOL),)


class SERVICE_SID_INFO(ctypes.Structure):
    _fields_ = (("dwServiceSidType", DWORD),)


class SERVICE_PRESHUTDOWN_INFO(ctypes.Structure):
    _fields_ = (("dwPreshutdownTimeout", DWORD),)


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
    """What a service is doing now; `state` is one of SERVICE_STOPPED …, times are in milliseconds."""

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
    def manager(self, access: int = SC_MANAGER_CONNECT) -> Iterator[object]:
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
        with self.manager(SC_MANAGER_CONNECT | SC_MANAGER_CREATE_SERVICE) as manager:
            service = self._call(
                "CreateServiceW",
                manager,
                name,
                setup.display_name,
                SERVICE_QUERY_STATUS,
                SERVICE_WIN32_OWN_PROCESS,
                SERVICE_AUTO_START,
                SERVICE_ERROR_NORMAL,
                setup.command_line,
                None,  # load order group
                None,  # tag in it
                names,
                setup.account,
                password,
            )
            self._calls["CloseServiceHandle"](service)

    def change(self, name: str, what: int, value: ctypes.Structure) -> None:
        """`value` is the structure that goes with `what`, one of SERVICE_CONFIG_DESCRIPTION …"""
        # A service can be told to restart only by somebody who may start it.
        with self.service(name, SERVICE_CHANGE_CONFIG | SERVICE_START) as service:
            self._call("ChangeServiceConfig2W", service, what, ctypes.byref(value))

    def setup(self, name: str) -> Setup:
        with self.service(name, SERVICE_QUERY_CONFIG) as service:
            needed = DWORD()
            with contextlib.suppress(CallError):  # it tells how much it needs
                self._call("QueryServiceConfigW", service, None, 0, ctypes.byref(needed))
            buffer = ctypes.create_string_buffer(max(needed.value, ctypes.sizeof(QUERY_SERVICE_CONFIGW)))
            self._call("QueryServiceConfigW", service, buffer, len(buffer), ctypes.byref(needed))
            found = QUERY_SERVICE_CONFIGW.from_buffer(buffer)
            return Setup(found.lpBinaryPathName or "", found.lpServiceStartName or "", found.lpDisplayName or "")

    def progress(self, name: str) -> Progress:
        status, needed = SERVICE_STATUS_PROCESS(), DWORD()
        with self.service(name, SERVICE_QUERY_STATUS) as service:
            self._call(
                "QueryServiceStatusEx",
                service,
                _SC_STATUS_PROCESS_INFO,
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
        with self.service(name, SERVICE_START) as service:
            self._call("StartServiceW", service, 0, None)

    def control(self, name: str, control: int, access: int) -> None:
        """`access` is what this control needs."""
        with self.service(name, access) as service:
            self._call("ControlService", service, control, ctypes.byref(SERVICE_STATUS()))

    def delete(self, name: str) -> None:
        with self.service(name, DELETE) as service:
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
        table = (SERVICE_TABLE_ENTRYW * 2)()  # a second entry, empty, ends it
        table[0] = SERVICE_TABLE_ENTRYW(name, main)
        self._call("StartServiceCtrlDispatcherW", table)

    def register(self, name: str, handler: Any) -> object:
        """A handle for `report`. `handler` is a HandlerEx, which the caller keeps alive."""
        return self._call("RegisterServiceCtrlHandlerExW", name, handler, None)

    def report(self, handle: object, accepted: int, progress: Progress) -> None:
        status = SERVICE_STATUS(
            SERVICE_WIN32_OWN_PROCESS,
            progress.state,
            accepted,
            progress.win32_exit_code,
            progress.specific_exit_code,
            progress.check_point,
            progress.wait_hint,
        )
        self._call("SetServiceStatus", handle, ctypes.byref(status))
