"""A library in place of advapi32, which takes notes and answers as the Service Control Manager does."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcmstore.service import winsvc
from dcmstore.service.advapi import Advapi, Progress, Setup
from dcmstore.service.manager import Plan, ServiceError
from dcmstore.service.windows_machine import HOST_MODULE, Machine, Program, Record
from dcmstore.service.windows_rights import Command

RUNNING = Progress(winsvc.SERVICE_RUNNING, process=77)
STOPPED = Progress(winsvc.SERVICE_STOPPED)


def pending(state: int, check_point: int) -> Progress:
    return Progress(state, check_point=check_point, wait_hint=10_000, process=77)


class Library:
    """Its functions are those of advapi32; `changes` is what they were asked to change, in order."""

    def __init__(self) -> None:
        self.error = 0
        self.open_handles = 0
        self.changes: list[tuple[object, ...]] = []
        self.refusals: dict[object, int] = {}  # a function, or what ChangeServiceConfig2W changes -> Windows' error
        self.installed: Setup | None = None
        self.is_kept = False  # a deleted service that some window still shows
        self.states = [STOPPED]  # what is seen, one after the other; the last one stays
        self.on_change: Callable[[str], None] = lambda call: None
        self._strings: list[Any] = []
        for name in ("OpenSCManagerW", "OpenServiceW", "CreateServiceW", "ChangeServiceConfig2W", "QueryServiceConfigW",
                     "QueryServiceStatusEx", "StartServiceW", "ControlService", "DeleteService", "CloseServiceHandle",
                     "StartServiceCtrlDispatcherW", "RegisterServiceCtrlHandlerExW", "SetServiceStatus"):  # fmt: skip
            setattr(self, name, self._function(name))

    def _function(self, name: str) -> Any:
        def call(*arguments: Any) -> object:
            kinds = function.argtypes  # type: ignore[attr-defined]
            assert len(arguments) == len(kinds)
            for argument, kind in zip(arguments, kinds, strict=True):
                kind.from_param(argument)  # raises when ctypes could not hand it to Windows
            code = self.refusals.get(name, 0) or getattr(self, f"_{name}")(*arguments)
            self.error = code
            return 0 if code else 1

        def function(*arguments: Any) -> object:
            return call(*arguments)

        return function

    def _changed(self, call: str, *facts: object) -> int:
        self.changes.append((call, *facts))
        self.on_change(call)
        return 0

    # --- what advapi32 does: each returns the number of an error, or 0 ---------------------------------

    def _OpenSCManagerW(self, machine: None, database: None, access: int) -> int:
        if access & winsvc.SC_MANAGER_CREATE_SERVICE and "administrator" in self.refusals:
            return winsvc.ERROR_ACCESS_DENIED
        self.open_handles += 1
        return 0

    def _OpenServiceW(self, manager: object, name: str, access: int) -> int:
        self.access = access
        if self.installed is None:
            return winsvc.ERROR_SERVICE_DOES_NOT_EXIST
        if access & ~(winsvc.SERVICE_QUERY_CONFIG | winsvc.SERVICE_QUERY_STATUS) and "administrator" in self.refusals:
            return winsvc.ERROR_ACCESS_DENIED
        self.open_handles += 1
        return 0

    def _CreateServiceW(self, manager: object, name: str, display_name: str, access: int, *rest: Any) -> int:
        kind, start, on_error, command_line, group, tag, dependencies, account, password = rest
        self.installed = Setup(command_line, account, display_name)
        self.open_handles += 1
        return self._changed(
            "CreateServiceW", name, display_name, access, kind, start, on_error, command_line, group, tag,
            dependencies[:], account, password,
        )  # fmt: skip

    def _ChangeServiceConfig2W(self, service: object, what: int, value: Any) -> int:
        if what in self.refusals:
            return self.refusals[what]
        return self._changed("ChangeServiceConfig2W", what, _values(value._obj))

    def _QueryServiceConfigW(self, service: object, buffer: Any, size: int, needed: Any) -> int:
        assert self.installed is not None
        needed._obj.value = 500
        if size < 500:
            return winsvc.ERROR_INSUFFICIENT_BUFFER
        found = winsvc.QUERY_SERVICE_CONFIGW.from_buffer(buffer)
        found.lpBinaryPathName = self.installed.command_line
        found.lpServiceStartName = self.installed.account
        found.lpDisplayName = self.installed.display_name
        self._strings.append(found)
        return 0

    def _QueryServiceStatusEx(self, service: object, level: int, status: Any, size: int, needed: Any) -> int:
        assert (level, size) == (0, ctypes.sizeof(winsvc.SERVICE_STATUS_PROCESS))
        seen = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        status._obj.dwCurrentState = seen.state
        status._obj.dwWin32ExitCode = seen.win32_exit_code
        status._obj.dwServiceSpecificExitCode = seen.specific_exit_code
        status._obj.dwCheckPoint = seen.check_point
        status._obj.dwWaitHint = seen.wait_hint
        status._obj.dwProcessId = seen.process
        return 0

    def _StartServiceW(self, service: object, count: int, words: None) -> int:
        assert count == 0
        return self._changed("StartServiceW", self.access)

    def _ControlService(self, service: object, control: int, status: Any) -> int:
        assert isinstance(status._obj, winsvc.SERVICE_STATUS)
        return self._changed("ControlService", control, self.access)

    def _DeleteService(self, service: object) -> int:
        if not self.is_kept:
            self.installed = None
        return self._changed("DeleteService", self.access)

    def _CloseServiceHandle(self, handle: object) -> int:
        assert handle == 1
        self.open_handles -= 1
        return 0


def _values(structure: ctypes.Structure) -> tuple[object, ...]:
    """The fields of a structure, an array behind a pointer included."""
    values = []
    for name, *_ in structure._fields_:
        value = getattr(structure, name)
        if isinstance(structure, winsvc.SERVICE_FAILURE_ACTIONSW) and name == "lpsaActions":
            value = [(action.Type, action.Delay) for action in value[: structure.cActions]]
        values.append(value)
    return tuple(values)


class Records:
    """The registry, as far as it is ours."""

    def __init__(self, changes: list[tuple[object, ...]]) -> None:
        self.record = Record()
        self._changes = changes

    def read(self) -> Record:
        return self.record

    def write(self, record: Record) -> None:
        self._changes.append(("record", record))
        self.record = record

    def remove(self) -> None:
        self._changes.append(("no record",))
        self.record = Record()


@dataclass
class Windows:
    """A Windows machine of notes; time passes only while somebody waits."""

    library: Library = field(default_factory=Library)
    remote: str = "//"  # what paths on other machines begin with
    failing: str = ""  # a program that fails
    now: float = 0.0
    asked: list[str] = field(default_factory=list)  # whose passwords

    def __post_init__(self) -> None:
        self.changes = self.library.changes
        self.records = Records(self.changes)
        self.machine = Machine(
            advapi=Advapi(self.library, lambda: self.library.error),
            records=self.records,
            program=Program(
                r"C:\Dicom Store\bin\DcmStoreService.exe", ("-I", "-m", HOST_MODULE), (Path(r"C:\Dicom Store\bin"),)
            ),
            run=self._run,
            is_remote=lambda path: str(path).startswith(self.remote),
            ask_password=self._ask,
            since=lambda process: f"noon of {process}",
            words_of=lambda code: f"Windows' words for {code}.",
            clock=lambda: self.now,
            pause=self._pause,
        )

    def _run(self, command: Command) -> None:
        if command[0] == self.failing:
            raise ServiceError(f"{command[0]} failed")
        self.changes.append(command)

    def _ask(self, account: str) -> str:
        self.asked.append(account)
        return "secret"

    def _pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def carry_out(plan: Plan) -> tuple[list[str], list[str]]:
    """As the command does it; return what was said, and the warnings."""
    said: list[str] = []
    warnings: list[str] = []
    for action in plan.actions:
        try:
            said += filter(None, [action.do()])
        except ServiceError as error:
            if not action.without:
                raise
            warnings.append(f"{error}; {action.without}")
    return [*said, *filter(None, [plan.done])], warnings
