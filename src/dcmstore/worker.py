"""`python -m dcmstore.worker`: connections that another process has accepted -> associations, as it wants them.

That process, which started this one, keeps all that there is one of: ports, limits, log, audit trail, DICOMDIRs, index.
When it closes the channel, or is gone, this one ends.
"""

import contextlib
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from dcmstore import needs, receiver, wiring
from dcmstore.audit.messages import Peer, Transferred
from dcmstore.connection import Connection, Served, Shared
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.index.notes import Note
from dcmstore.logs import Log, brief
from dcmstore.server import CUT_WAIT
from dcmstore.settings import Settings
from dcmstore.storage.store import Store
from dcmstore.workers import channel, messages
from dcmstore.workers.channel import Channel


class _Lines:
    """A sink of the log: the process that listens writes what it gets."""

    name = "receiver"
    fault = ""

    def __init__(self, to: Channel) -> None:
        self._to = to

    def write(self, text: str) -> None:
        self._to.send(messages.Lines(text))

    def close(self) -> None:
        """The channel is not ours to close."""


class _Folders:
    """What keeps the DICOMDIRs, for those that store: all it does is tell. So do those below."""

    def __init__(self, to: Channel) -> None:
        self._to = to

    def add(self, folder: str, path: str) -> None:
        with contextlib.suppress(OSError):  # the other process is gone, and this one is about to end
            self._to.send(messages.InFolder(folder, path))


class _Trail:
    def __init__(self, to: Channel, *, is_on: bool) -> None:
        self._to = to
        self.is_on = is_on

    def transferred(self, peer: Peer, counts: Mapping[Transferred, int]) -> None:
        with contextlib.suppress(OSError):
            self._to.send(messages.ForTrail(peer, counts))


class _Index:
    def __init__(self, to: Channel) -> None:
        self._to = to

    def began(self, association: int) -> None:
        self._send(messages.Began(association))

    def add(self, note: Note) -> None:
        self._send(messages.ForIndex(note))

    def ended(self, association: int) -> None:
        self._send(messages.Ended(association))

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):
            self._to.send(message)


class _Seldom:
    def __init__(self, to: Channel) -> None:
        self._to = to

    def tell(self, kind: Hashable, event: str, **facts: object) -> None:
        kind = tuple(map(brief, kind)) if isinstance(kind, tuple) else brief(kind)
        self._to.send(messages.Seldom(kind, event, {name: brief(value) for name, value in facts.items()}))


@dataclass(frozen=True, slots=True)
class _Generation:
    """Settings, and what connections that bear them get."""

    settings: Settings
    store: Store
    shared: Shared


class _Registry:
    """The connections here; whether one may be an association, the process that listens decides."""

    def __init__(self, to: Channel) -> None:
        self._to = to
        self.is_stopping = False
        self.seldom = _Seldom(to)
        self._numbers: dict[Served, int] = {}
        self._answers: dict[int, queue.SimpleQueue[str]] = {}
        self._lock = threading.Lock()

    def keep(self, number: int, connection: Served) -> None:
        with self._lock:
            self._numbers[connection] = number
            self._answers[number] = queue.SimpleQueue()

    def all(self) -> dict[int, Served]:
        with self._lock:
            return {number: connection for connection, number in self._numbers.items()}

    def answer(self, number: int, obstacle: str) -> None:
        with self._lock:
            if number in self._answers:
                self._answers[number].put(obstacle)

    def admit(self, connection: Served) -> str:
        number = self._numbers[connection]
        self._to.send(messages.Asked(number, connection.calling))
        return self._answers[number].get()

    def dismiss(self, connection: Served) -> None:
        self._to.send(messages.Dismissed(self._numbers[connection]))

    def forget(self, connection: Served) -> None:
        with self._lock:
            number = self._numbers.pop(connection)
            del self._answers[number]
        with contextlib.suppress(OSError):
            self._to.send(messages.Closed(number, connection.stored))


class _CannotServe(Exception):
    """By these settings nothing can be received here; the text says why."""


class _Worker:
    def __init__(self, to: Channel) -> None:
        self._to = to
        self._log = Log([_Lines(to)])
        self._registry = _Registry(to)
        self._generations: dict[int, _Generation] = {}
        self._has_all_told = False

    def run(self) -> int:
        """Do what is told until nobody tells anything any more; return the exit code: 1 for settings of no use."""
        try:
            with contextlib.suppress(OSError, EOFError):  # the channel is at its end
                while True:
                    self._do(*self._to.receive())
        except _CannotServe as problem:
            self._log.error("worker.failed", reason=problem)
            return 1
        finally:
            self._end()
        return 0 if self._has_all_told else 2

    def _do(self, message: object, handed: socket.socket | None) -> None:
        match message:
            case messages.Serve() if handed is not None:
                self._serve(message, handed)
            case messages.Serve(number):  # no descriptor is left for it; the sender tries again
                advice = "raise the limit of open files of this service"
                self._log.error("connection.not_accepted", reason="too many open files", what_to_do=advice)
                self._to.send(messages.Closed(number, 0))
            case messages.Admitted(number, obstacle):
                self._registry.answer(number, obstacle)
            case messages.Use():
                self._use(message)
            case messages.Retire(generation):
                self._generations.pop(generation).store.close()
                if self._generations:  # what was told last may have come to nothing
                    self._apply(next(reversed(self._generations.values())).settings)
            case messages.Drain(number):
                self._registry.is_stopping = True
                self._act(number, lambda connection: connection.drain())
            case messages.Cut(number):
                self._act(number, lambda connection: connection.cut())
            case messages.Ask():
                stored = {number: connection.stored for number, connection in self._registry.all().items()}
                self._to.send(messages.Alive(stored))

    def _use(self, use: messages.Use) -> None:
        """Raises _CannotServe."""
        try:
            self._generations[use.generation] = self._opened(use)
        except ConfigurationError as error:
            raise _CannotServe(str(error)) from None
        except OSError as error:
            raise _CannotServe(wiring.as_written(f"{error.filename}: {reason_of(error)}")) from None
        self._to.send(messages.Ready())

    def _opened(self, use: messages.Use) -> _Generation:
        settings = use.configuration.settings
        self._log.flush()
        self._apply(settings)
        store = wiring.store_of(settings)
        store.open()
        shared = receiver.shared_of(
            settings,
            store,
            self._log,
            use.sop_classes,
            _Folders(self._to) if wiring.wants_dicomdir(settings) else None,
            _Trail(self._to, is_on=settings.audit != "off"),
            _Index(self._to) if settings.index else None,
            tls_may_wait=True,  # the process that listens has looked at them
        )
        return _Generation(settings, store, shared)

    def _apply(self, settings: Settings) -> None:
        """What counts for the whole process."""
        wiring.apply_permissions(settings)
        needs.raise_open_files(settings)
        self._log.use([_Lines(self._to)], settings.log_level)

    def _serve(self, serve: messages.Serve, peer_socket: socket.socket) -> None:
        shared = self._generations[serve.generation].shared
        connection = Connection(peer_socket, serve.address, shared, self._registry, is_secure=serve.is_secure)
        self._registry.keep(serve.number, connection)
        self._to.send(messages.Taken(serve.number))
        try:
            connection.start()
        except RuntimeError as error:  # the system gives no more threads; the sender tries again
            self._log.error("connection.not_accepted", reason=error)
            connection.close()
            self._registry.forget(connection)

    def _act(self, number: int, act: Callable[[Served], None]) -> None:
        connection = self._registry.all().get(number)
        if connection is not None:
            act(connection)

    def _end(self) -> None:
        """Whoever listens is done, or gone: what is under way can't be answered for any more."""
        self._registry.is_stopping = True
        left = self._registry.all()
        for connection in left.values():
            connection.cut()
        for number in left:
            self._registry.answer(number, "the receiver stops")
        deadline = time.monotonic() + CUT_WAIT
        for connection in left.values():
            connection.join(max(deadline - time.monotonic(), 0))
        self._has_all_told = not self._registry.all()
        for generation in self._generations.values():
            generation.store.close()
        self._log.close()


def main() -> int:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # they are for the process that listens
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.setswitchinterval(receiver.SWITCH_INTERVAL)
    to = channel.inherited()
    with contextlib.closing(to):
        return _Worker(to).run()


if __name__ == "__main__":
    sys.exit(main())
