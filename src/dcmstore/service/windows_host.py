"""the Service Control Manager <-> a running receiver: the process of the Windows service.

`python -m dcmstore.service.windows_host INI`, started by the manager only. It answers before anything of weight is
imported, for the manager waits 30 seconds, and a virus scanner may look at each file.
"""

import contextlib
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run by its path, by a Python that does not know dcmstore: the one behind a virtual environment
    sys.path.insert(0, str(Path(__file__).parents[2]))

from dcmstore.errors import ConfigurationError
from dcmstore.service import SERVICE_NAME, winsvc
from dcmstore.service.advapi import Advapi, CallError, Progress

if TYPE_CHECKING:
    from dcmstore.hosting import Request

REPORT_INTERVAL = 1.0  # seconds between two signs of life while it starts or stops
WAIT_HINT = 10_000  # milliseconds without one, after which the manager may take it for hung
PATIENCE = 120.0  # seconds to start, or to begin to stop; a share that answers later is as good as away

_PENDING = (winsvc.SERVICE_START_PENDING, winsvc.SERVICE_STOP_PENDING)
_ACCEPTED = {
    winsvc.SERVICE_RUNNING: (
        winsvc.SERVICE_ACCEPT_STOP
        | winsvc.SERVICE_ACCEPT_SHUTDOWN
        | winsvc.SERVICE_ACCEPT_PRESHUTDOWN  # comes earlier, and leaves the time that `install` asks for
        | winsvc.SERVICE_ACCEPT_PARAMCHANGE
    )
}
_BY_HAND = (
    "dcmstore: this is the process of the Windows service, and only Windows starts it.\n"
    "To install and start the service: `dcmstore service install`, then `dcmstore service start`.\n"
    "To receive in this window: `dcmstore run --config PATH`."
)


class Reporter:
    """What the manager is told of this service. For any thread."""

    def __init__(self, report: Callable[[int, Progress], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`report` takes the controls that are accepted, and the progress."""
        self._report = report
        self._clock = clock
        self._changed = threading.Condition()
        self._state = 0
        self._check_point = 0
        self._until = 0.0
        threading.Thread(target=self._show_life, name="progress", daemon=True).start()

    def pending(self, state: int, seconds: float) -> None:
        """It starts or stops, and may take so long: signs of life are given until then, and no longer."""
        with self._changed:
            self._state = state
            self._until = self._clock() + seconds
            self._tell_pending()
            self._changed.notify()

    def running(self) -> None:
        with self._changed:
            if self._state != winsvc.SERVICE_STOP_PENDING:  # a stop that came in between is not taken back
                self._state = winsvc.SERVICE_RUNNING
                self._tell(Progress(winsvc.SERVICE_RUNNING))

    def stopped(self, exit_code: int) -> None:
        with self._changed:
            self._state = winsvc.SERVICE_STOPPED
            self._changed.notify()
            # Any code but 0 is a failure to the manager, which then restarts the service.
            win32_code = winsvc.ERROR_SERVICE_SPECIFIC_ERROR if exit_code else winsvc.NO_ERROR
            self._tell(Progress(winsvc.SERVICE_STOPPED, win32_code, exit_code))

    def _show_life(self) -> None:
        with self._changed:
            while self._state != winsvc.SERVICE_STOPPED:
                is_pending = self._state in _PENDING and self._clock() < self._until
                is_silent = not self._changed.wait(REPORT_INTERVAL if is_pending else None)
                if is_silent and self._state in _PENDING:
                    self._tell_pending()

    def _tell_pending(self) -> None:
        self._check_point += 1
        self._tell(Progress(self._state, check_point=self._check_point, wait_hint=WAIT_HINT))

    def _tell(self, progress: Progress) -> None:
        with contextlib.suppress(CallError):  # the manager does not listen any more, or never will
            self._report(_ACCEPTED.get(progress.state, 0), progress)


class WindowsHost:
    """The Service Control Manager as the receiver's host: controls become requests."""

    def __init__(self, reporter: Reporter) -> None:
        from dcmstore.hosting import Request

        self._reporter = reporter
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._by_control = {
            winsvc.SERVICE_CONTROL_STOP: Request.STOP,
            winsvc.SERVICE_CONTROL_SHUTDOWN: Request.STOP,
            winsvc.SERVICE_CONTROL_PRESHUTDOWN: Request.STOP,
            winsvc.SERVICE_CONTROL_PARAMCHANGE: Request.RELOAD,
        }
        self._stop = Request.STOP

    def control(self, number: int) -> int:
        """What the manager wants; return Windows' number for whether it is known. At once, on the manager's thread."""
        request = self._by_control.get(number)
        if request is None:
            known = number == winsvc.SERVICE_CONTROL_INTERROGATE
            return winsvc.NO_ERROR if known else winsvc.ERROR_CALL_NOT_IMPLEMENTED
        if request is self._stop:
            self._reporter.pending(winsvc.SERVICE_STOP_PENDING, PATIENCE)
        self._requests.put(request)
        return winsvc.NO_ERROR

    def wait(self) -> "Request":
        return self._requests.get()

    def wake(self) -> None:
        self._requests.put(self._stop)

    def ready(self, status: str) -> None:
        self._reporter.running()

    def reloading(self) -> None:
        """It goes on running all the while."""

    def stopping(self, seconds: float) -> None:
        from dcmstore.hosting import stop_seconds

        self._reporter.pending(winsvc.SERVICE_STOP_PENDING, stop_seconds(seconds))

    def alive(self, status: str) -> None:
        """Nobody asks here."""


class Service:
    """The service of one ini, from the manager's call to the end."""

    def __init__(self, library: Advapi, ini: Path) -> None:
        self._library = library
        self._ini = ini
        self._host: WindowsHost | None = None
        self._is_over = threading.Event()
        # Kept, for Windows calls them as long as the process lives
        self._main = winsvc.ServiceMain(self._run)
        self._handler = winsvc.HandlerEx(self._on_control)

    def run(self) -> None:
        """Return when it has stopped. Raises CallError when it was not the manager that started this process."""
        self._library.dispatch(SERVICE_NAME, self._main)
        self._is_over.wait()

    def _run(self, count: int, words: object) -> None:
        """On a thread of Windows, which must see no exception."""
        try:
            handle = self._library.register(SERVICE_NAME, self._handler)
            reporter = Reporter(lambda accepted, progress: self._library.report(handle, accepted, progress))
            reporter.pending(winsvc.SERVICE_START_PENDING, PATIENCE)
            code = 1
            try:
                self._host = WindowsHost(reporter)
                code = receive(self._ini, self._host)
            finally:
                reporter.stopped(code)  # last of all: from here on Windows may start the next process
        finally:
            self._is_over.set()

    def _on_control(self, number: int, kind: int, data: object, context: object) -> int:
        return self._host.control(number) if self._host else winsvc.NO_ERROR  # without a host nothing was accepted yet


def receive(ini: Path, host: WindowsHost) -> int:
    """Run the receiver and return its exit code. What ends it is in the log, for nobody sees an exception here."""
    try:
        from dcmstore import receiver

        return receiver.run(ini, host, with_console=False)
    except ConfigurationError as error:
        _log_failure(ini, str(error), "correct it; Windows starts the service again within a minute")
        return 2
    except Exception as error:  # noqa: BLE001 - the last fence of the process
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        _log_failure(ini, f"{type(error).__name__}: {error} ({place})", "please report this line")
        return 1


def _log_failure(ini: Path, reason: str, what_to_do: str) -> None:
    from dcmstore import logs, wiring
    from dcmstore.settings import Settings
    from dcmstore.storage.space import MEGABYTE

    usual = Settings()  # the ini may be what can't be read
    with contextlib.suppress(OSError):  # then the exit code has to do, and `dcmstore service start` looks for itself
        log = logs.Log([logs.FileSink(ini.parent / wiring.LOG_NAME, usual.logfile_size * MEGABYTE, usual.logfile_keep)])
        log.error("receiver.failed", reason=reason, what_to_do=what_to_do)
        log.close()


def main(arguments: list[str], library: Advapi) -> int:
    try:
        if len(arguments) == 1:
            Service(library, Path(arguments[0])).run()
            return 0
        told = _BY_HAND
    except CallError as error:
        is_by_hand = error.code == winsvc.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT
        told = _BY_HAND if is_by_hand else f"dcmstore: {error}"
    if sys.stderr is not None:
        print(told, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Advapi.of_windows()))
