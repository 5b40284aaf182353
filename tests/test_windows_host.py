"""The process of the Windows service: a real receiver in it, and a library in place of advapi32 around it."""

import contextlib
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dcmstore import receiver
from dcmstore.server import Server
from dcmstore.service import windows_host, winsvc
from dcmstore.service.advapi import Advapi, Progress
from tests.scm_support import Library
from tests.support import Peer, data_set, store_request

PATIENCE = 30.0  # seconds until a test gives up
ACCEPTED = 0x001 | 0x004 | 0x008 | 0x100  # stop, shutdown, changed parameters, preshutdown

STARTING, STOPPING = winsvc.SERVICE_START_PENDING, winsvc.SERVICE_STOP_PENDING
RUNNING, STOPPED = winsvc.SERVICE_RUNNING, winsvc.SERVICE_STOPPED


class Windows(Library):
    """The side of Windows that the process of a service meets."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: queue.SimpleQueue[tuple[int, Progress]] = queue.SimpleQueue()
        self._handler: Any = None

    def control(self, number: int) -> int:
        """On a thread of Windows; return the service's answer."""
        return int(self._handler(number, 0, None, None))

    def until(self, state: int) -> list[Progress]:
        """What is reported up to this state, which comes last."""
        seen: list[Progress] = []
        while not seen or seen[-1].state != state:
            accepted, progress = self.reports.get(timeout=PATIENCE)
            assert accepted == (ACCEPTED if progress.state == RUNNING else 0)
            seen.append(progress)
        return seen

    def _StartServiceCtrlDispatcherW(self, table: Any) -> int:
        assert table[0].lpServiceName == "DcmStoreService"
        assert table[1].lpServiceName is None  # the end of the table
        thread = threading.Thread(target=table[0].lpServiceProc, args=(0, None))
        thread.start()
        thread.join()
        return 0

    def _RegisterServiceCtrlHandlerExW(self, name: str, handler: Any, context: None) -> int:
        assert name == "DcmStoreService"
        self._handler = handler
        return 0

    def _SetServiceStatus(self, handle: int, status: Any) -> int:
        seen = status._obj
        assert (handle, seen.dwServiceType) == (1, winsvc.SERVICE_WIN32_OWN_PROCESS)
        progress = Progress(
            seen.dwCurrentState,
            seen.dwWin32ExitCode,
            seen.dwServiceSpecificExitCode,
            seen.dwCheckPoint,
            seen.dwWaitHint,
        )
        self.reports.put((seen.dwControlsAccepted, progress))
        return 0


class Process:
    """The service's process, as a thread, with its ini in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.windows = Windows()
        self.folder = folder
        self.ini = folder / "DcmStore.ini"
        self.exit_code: int | None = None
        self._thread = threading.Thread(target=self._run)

    def configure(self, *lines: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = int(server.getsockname()[1])
        always = (f"port= {self.port}", "bind= 127.0.0.1", "IMG-DIR= images", "RDSR-DIR= rdsr")
        self.ini.write_text("\n".join([*always, *lines]), encoding="utf-8")

    def start(self) -> list[Progress]:
        """Return what is reported until it runs."""
        self._thread.start()
        return self.windows.until(RUNNING)

    def fail(self) -> list[Progress]:
        """It can't run: return what is reported until it has stopped."""
        self._thread.start()
        return self.windows.until(STOPPED)

    def stop(self) -> list[Progress]:
        """Return what is reported until it is stopped."""
        assert self.windows.control(winsvc.SERVICE_CONTROL_STOP) == 0
        return self.windows.until(STOPPED)

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def end(self) -> None:
        """Whatever it does: at the end of a test, also of one that has failed."""
        if self._thread.is_alive():
            self.windows.control(winsvc.SERVICE_CONTROL_STOP)
            self.join()

    @property
    def log(self) -> str:
        return (self.folder / "DcmStore.log").read_text(encoding="utf-8")

    def _run(self) -> None:
        library = Advapi(self.windows, lambda: self.windows.error)
        self.exit_code = windows_host.main([str(self.ini)], library)


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """In a folder that is not the present one, and without a console."""
    monkeypatch.chdir("/")
    for stream in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, stream, None)
    for name in ("images", "rdsr"):
        (tmp_path / name).mkdir()
    made = Process(tmp_path)
    made.configure()
    yield made
    made.end()


def test_it_is_running_only_when_it_listens(process: Process) -> None:
    *before, running = process.start()
    assert {progress.state for progress in before} == {STARTING}
    assert running == Progress(RUNNING)
    with Peer(process.port) as peer:
        peer.associate()
        assert peer.store(data_set()).status == 0
        peer.release()
    assert list(process.folder.glob("images/**/*.dcm"))


def test_a_service_that_is_asked_to_stop_ends_well(process: Process) -> None:
    process.start()
    *before, stopped = process.stop()
    assert {progress.state for progress in before} == {STOPPING}
    assert stopped == Progress(STOPPED)
    process.join()
    assert process.exit_code == 0
    assert "receiver.stopped" in process.log


@pytest.mark.parametrize("control", [winsvc.SERVICE_CONTROL_SHUTDOWN, winsvc.SERVICE_CONTROL_PRESHUTDOWN])
def test_the_end_of_windows_stops_it_too(process: Process, control: int) -> None:
    process.start()
    assert process.windows.control(control) == 0
    assert process.windows.until(STOPPED)[-1] == Progress(STOPPED)


def test_it_gives_signs_of_life_while_objects_are_under_way(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_host, "REPORT_INTERVAL", 0.01)
    servers: list[Server] = []

    def make(*parts: Any) -> Server:
        servers.append(Server(*parts))
        return servers[0]

    monkeypatch.setattr(receiver, "Server", make)
    process.start()
    with Peer(process.port) as peer:
        peer.associate()
        whole = store_request(data_set("1.2.1"), "1.2.1")
        peer.send(whole[:-1])
        wait_until_busy(servers[0])
        process.windows.control(winsvc.SERVICE_CONTROL_STOP)
        seen = [process.windows.until(STOPPING)[-1] for _ in range(10)]
        peer.send(whole[-1:])
        assert peer.receive_response().status == 0
        assert process.windows.until(STOPPED)[-1] == Progress(STOPPED)
    check_points = [progress.check_point for progress in seen]
    assert check_points == sorted(set(check_points))
    assert {progress.wait_hint for progress in seen} == {windows_host.WAIT_HINT}


def wait_until_busy(server: Server) -> None:
    """Return when the one connection is in the middle of a message."""
    tick = threading.Event()
    for _ in range(1000):
        if any(not connection.is_idle for connection in server.connections()):
            return
        tick.wait(0.01)
    raise AssertionError("no message under way")


def test_a_start_or_stop_that_takes_too_long_gives_no_more_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: queue.SimpleQueue[float | None] = queue.SimpleQueue()

    class Condition(threading.Condition):
        """In which the time of a wait is over at once, and a wait without a time goes on until there is news."""

        def wait(self, timeout: float | None = None) -> bool:
            waits.put(timeout)
            return super().wait() if timeout is None else False

    monkeypatch.setattr(windows_host, "threading", SimpleNamespace(Condition=Condition, Thread=threading.Thread))
    clock = iter(range(1000))  # a second passes with each look
    told: list[int] = []
    reporter = windows_host.Reporter(lambda accepted, progress: told.append(progress.state), lambda: next(clock))
    assert waits.get(timeout=PATIENCE) is None
    reporter.pending(STARTING, 5)
    assert [waits.get(timeout=PATIENCE) for _ in range(5)] == [*[windows_host.REPORT_INTERVAL] * 4, None]
    reporter.stopped(1)
    assert told == [*[STARTING] * 5, STOPPED]


def test_a_taken_port_is_a_failure_and_never_called_running(process: Process) -> None:
    with socket.create_server(("127.0.0.1", process.port)):
        *before, stopped = process.fail()
    assert {progress.state for progress in before} == {STARTING}
    assert stopped == Progress(STOPPED, winsvc.ERROR_SERVICE_SPECIFIC_ERROR, 1)
    assert f'ERROR   receiver.failed reason="port {process.port}: ' in process.log
    assert "what_to_do=" in process.log


@pytest.mark.parametrize(
    ("line", "told"),
    [("port= eleven", "port= 'eleven': allowed is"), ("IMG-DIR= nowhere", "nowhere does not exist; make it")],
)
def test_wrong_settings_are_a_failure_and_stand_in_the_log(process: Process, line: str, told: str) -> None:
    process.configure(line)
    *_, stopped = process.fail()
    assert stopped == Progress(STOPPED, winsvc.ERROR_SERVICE_SPECIFIC_ERROR, 2)
    assert " ERROR   receiver.failed reason=" in process.log
    assert told in process.log
    assert "what_to_do=" in process.log


def test_an_ini_that_is_gone_is_a_failure_even_without_a_folder_for_the_log(process: Process) -> None:
    process.ini = process.folder / "gone" / "DcmStore.ini"
    *_, stopped = process.fail()
    assert stopped == Progress(STOPPED, winsvc.ERROR_SERVICE_SPECIFIC_ERROR, 2)


def test_a_fault_of_the_program_is_a_failure_and_stands_in_the_log(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError("too bad")

    monkeypatch.setattr(receiver, "read", broken)
    *_, stopped = process.fail()
    assert stopped == Progress(STOPPED, winsvc.ERROR_SERVICE_SPECIFIC_ERROR, 1)
    assert 'reason="ZeroDivisionError: too bad (test_windows_host.py, line ' in process.log


def test_changed_parameters_are_a_reload(process: Process) -> None:
    process.start()
    old = process.port
    process.configure("localAE= OTHER")
    assert process.windows.control(winsvc.SERVICE_CONTROL_PARAMCHANGE) == 0
    assert process.windows.until(RUNNING) == [Progress(RUNNING)]
    with Peer(process.port) as peer:
        peer.associate()
        peer.release()
    with pytest.raises(ConnectionRefusedError):
        Peer(old)


def test_a_stop_behind_a_reload_is_not_taken_back() -> None:
    told: list[int] = []
    reporter = windows_host.Reporter(lambda accepted, progress: told.append(progress.state))
    host = windows_host.WindowsHost(reporter)
    host.control(winsvc.SERVICE_CONTROL_PARAMCHANGE)
    host.control(winsvc.SERVICE_CONTROL_STOP)
    host.ready("reloaded")
    reporter.stopped(0)
    assert RUNNING not in told


def test_a_fault_of_the_server_ends_it_and_is_a_failure(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(Server, "_accept_one", fail)
    process.start()
    with contextlib.suppress(OSError), Peer(process.port):  # it may be reset at once
        pass
    assert process.windows.until(STOPPED)[-1] == Progress(STOPPED, winsvc.ERROR_SERVICE_SPECIFIC_ERROR, 1)


@pytest.mark.parametrize(("control", "answer"), [(winsvc.SERVICE_CONTROL_INTERROGATE, 0), (2, 120), (200, 120)])
def test_what_else_a_service_can_be_told(process: Process, control: int, answer: int) -> None:
    """2 is a pause, which is not offered; 120 is ERROR_CALL_NOT_IMPLEMENTED."""
    process.start()
    assert process.windows.control(control) == answer


@pytest.mark.parametrize("arguments", [[], ["DcmStore.ini"], ["DcmStore.ini", "too much"]])
def test_started_by_hand_it_says_what_to_use_in_its_place(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    windows = Windows()
    if len(arguments) == 1:  # as Windows starts it, but it was not Windows
        windows.refusals["StartServiceCtrlDispatcherW"] = winsvc.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT
    assert windows_host.main(arguments, Advapi(windows, lambda: windows.error)) == 2
    told = capsys.readouterr().err
    assert "only Windows starts it" in told
    assert "`dcmstore service install`" in told
    assert "`dcmstore run --config PATH`" in told


def test_the_manager_is_answered_before_anything_of_weight_is_imported() -> None:
    code = (
        "import sys, dcmstore.service.windows_host\n"
        "print(sorted(name for name in sys.modules if name.startswith('dcmstore.') or name == 'socket'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ["dcmstore.errors", *(f"dcmstore.service{name}" for name in ("", ".advapi", ".windows_host", ".winsvc"))]
    assert done.stdout == f"{names}\n"
