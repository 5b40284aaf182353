"""A receiver in this process under a host that a test plays: asked to start, reload, be checked and stop."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

from dcmstore import receiver
from dcmstore.hosting import Request
from tests.support import WAIT, free_port


class Host:
    """Asks what the test asks, and keeps what the receiver answers."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[str, object]] = queue.SimpleQueue()

    def ask(self, request: Request) -> None:
        self._requests.put(request)

    def answer(self) -> tuple[str, object]:
        return self._answers.get(timeout=WAIT)

    def wait(self) -> Request:
        return self._requests.get()

    def wake(self) -> None:
        self._requests.put(Request.STOP)

    def ready(self, status: str) -> None:
        self._answers.put(("ready", status))

    def reloading(self) -> None:
        self._answers.put(("reloading", None))

    def stopping(self, seconds: float) -> None:
        self._answers.put(("stopping", seconds))

    def alive(self, status: str) -> None:
        self._answers.put(("alive", status))


class Running:
    """A receiver on a thread, with its ini in `folder`."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self.folder = folder
        self._workers = workers
        self.host = Host()
        self.exit_code: int | None = None
        self._thread = threading.Thread(target=self._run)

    def configure(self, **changed: object) -> None:
        keys = {"port": 0, "bind": "127.0.0.1", "IMG-DIR": "images", "RDSR-DIR": "rdsr", "workers": self._workers}
        keys |= {key.replace("_", "-"): value for key, value in changed.items()}
        text = "".join(f"{key}= {value}\n" for key, value in keys.items())
        (self.folder / "DcmStore.ini").write_text(text, encoding="utf-8")

    def start(self) -> None:
        self._thread.start()
        assert self.host.answer()[0] == "ready"

    def reload(self) -> None:
        self.host.ask(Request.RELOAD)
        assert self.host.answer() == ("reloading", None)
        assert self.host.answer()[0] == "ready"

    def stop(self) -> None:
        self.host.ask(Request.STOP)
        self.join()

    def join(self) -> None:
        self._thread.join(WAIT)
        assert not self._thread.is_alive()

    @property
    def log(self) -> list[str]:
        return (self.folder / "DcmStore.log").read_text(encoding="utf-8").splitlines()

    def logged(self, event: str) -> list[str]:
        return [line for line in self.log if f" {event} " in line]

    def _run(self) -> None:
        self.exit_code = receiver.run(self.folder / "DcmStore.ini", self.host, with_console=False)


@contextlib.contextmanager
def running_in(folder: Path, workers: int = 1) -> Iterator[Running]:
    """Configured, with its folders, and stopped at the end if it was started."""
    for name in ("images", "rdsr"):
        (folder / name).mkdir()
    process = Running(folder, workers)
    process.configure(port=free_port())
    yield process
    with contextlib.suppress(RuntimeError):  # never started
        process.stop()
