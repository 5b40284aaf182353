"""`python -m dcmstore.worker`: connections that another process has accepted -> associations, as it wants them.

That process, which started this one, keeps all that there is one of: ports, limits, log, audit trail, DICOMDIRs, index.
When it closes the channel, or is gone, this one ends.
"""

import contextlib
import errno
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dcmstore import needs, receiver, wiring
from dcmstore.audit.messages import Peer, Transferred
from dcmstore.config import Configuration
from dcmstore.connection import Connection, Served, Shared
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.index.notes import Note
from dcmstore.logs import Log, brief
from dcmstore.server import CUT_WAIT
from dcmstore.settings import Settings
from dcmstore.storage.store import Store
from dcmstore.workers import channel, messages
from dcmstore.workers.channel import Channel
from dcmstore.workers.telling import Telling

if TYPE_CHECKING:
    from dcmstore.services.commitment import CommitmentService

TELL_WAIT = 3.0  # seconds for what is told last; with CUT_WAIT it is less than a worker has to end (receiver.py)


class _Lines:
    """A sink of the log: the process that listens writes what it gets. Lines without room are counted by the log."""

    name = "receiver"
    fault = ""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def write(self, text: str) -> None:
        if not self._telling.tell_news(messages.Lines(text)):
            raise OSError(errno.ENOBUFS, "the process that listens does not keep up")

    def close(self) -> None:
        """What it tells is not ours to close."""


class _Folders:
    """What keeps the DICOMDIRs, for those that store: all it does is tell. So do those below."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def add(self, folder: str, path: str) -> None:
        self._telling.tell_news(messages.InFolder(folder, path))


class _Trail:
    def __init__(self, telling: Telling, *, is_on: bool) -> None:
        self._telling = telling
        self.is_on = is_on

    def transferred(self, peer: Peer, counts: Mapping[Transferred, int]) -> None:
        self._telling.tell_news(messages.ForTrail(peer, counts))


class _Index:
    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def began(self, association: int) -> None:
        self._telling.tell(messages.Began(association))

    def add(self, note: Note) -> None:
        self._telling.tell_news(messages.ForIndex(note))

    def ended(self, association: int) -> None:
        self._telling.tell(messages.Ended(association))


class _Seldom:
    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def tell(self, kind: Hashable, event: str, **facts: object) -> None:
        kind = tuple(map(brief, kind)) if isinstance(kind, tuple) else brief(kind)
        self._telling.tell_news(messages.Seldom(kind, event, {name: brief(value) for name, value in facts.items()}))


@dataclass(frozen=True, slots=True)
class _Generation:
    """Settings, and what connections that bear them get."""

    settings: Settings
    store: Store
    shared: Shared


class _Registry:
    """The connections here; whether one may be an association, the process that listens decides."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self.is_stopping = False
        self.seldom = _Seldom(telling)
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
        self._telling.tell(messages.Asked(number, connection.calling_ae_title))
        return self._answers[number].get()

    def dismiss(self, connection: Served) -> None:
        self._telling.tell(messages.Dismissed(self._numbers[connection]))

    def forget(self, connection: Served) -> None:
        with self._lock:
            number = self._numbers.pop(connection)
            del self._answers[number]
        self._telling.tell(messages.Closed(number, connection.stored))


class _CannotServe(Exception):
    """By these settings nothing can be received here; the text says why."""


class _Said(NamedTuple):
    """What the process that listens has said, and the socket that came with it."""

    message: object
    handed: socket.socket | None


class _Opened(NamedTuple):
    """What became of settings: they are in force, or there is a problem."""

    number: int
    result: _Generation | _CannotServe


_Step: TypeAlias = _Said | _Opened | None  # None is the end of the channel


class _Worker:
    """Takes one step after the other, each a quick one, so that it always answers; folders are opened beside it."""

    def __init__(self, to: Channel) -> None:
        self._to = to
        self._telling = Telling(to)
        self._log = Log([_Lines(self._telling)])
        self._registry = _Registry(self._telling)
        self._steps: queue.SimpleQueue[_Step] = queue.SimpleQueue()
        self._opening: set[int] = set()
        self._generations: dict[int, _Generation] = {}
        self._waiting: dict[int, tuple[messages.Serve, socket.socket]] = {}  # connections, for what is being opened
        self._in_force = Settings()
        self._has_all_told = False

    def run(self) -> int:
        """Do what is told until nobody tells anything any more; return the exit code: 1 for settings of no use."""
        threading.Thread(target=self._hear, name="hearing", daemon=True).start()
        try:
            while (step := self._steps.get()) is not None:
                self._do(step)
        except _CannotServe as problem:
            self._log.error("worker.failed", reason=problem)
            return 1
        finally:
            self._end()
        return 0 if self._has_all_told else 2

    def _hear(self) -> None:
        with contextlib.suppress(OSError, EOFError):  # the channel is at its end
            while True:
                self._steps.put(_Said(*self._to.receive()))
        self._steps.put(None)

    def _do(self, step: _Said | _Opened) -> None:
        """Raises _CannotServe."""
        match step:
            case _Opened(number, result):
                self._use(number, result)
            case _Said(messages.Serve() as serve, handed) if handed is not None:
                self._serve(serve, handed)
            case _Said(messages.Serve(number)):  # no descriptor is left for it; the sender tries again
                advice = "raise the limit of open files of this service"
                self._log.error("connection.not_accepted", reason="too many open files", what_to_do=advice)
                self._telling.tell(messages.Closed(number, 0))
            case _Said(messages.Admitted(number, obstacle)):
                self._registry.answer(number, obstacle)
            case _Said(messages.Use() as use):
                self._open(use)
            case _Said(messages.Retire(generation)):
                self._retire(generation)
            case _Said(messages.Drain(number)):
                self._registry.is_stopping = True
                self._act(number, lambda connection: connection.drain())
            case _Said(messages.Cut(number)):
                self._act(number, lambda connection: connection.cut())
            case _Said(messages.Ask(question)):
                stored = {number: connection.stored for number, connection in self._registry.all().items()}
                self._telling.tell(messages.Alive(question, stored))

    # --- settings --------------------------------------------------------------------------------

    def _open(self, use: messages.Use) -> None:
        """On a thread of its own, for a share may take its time; connections that need it wait for it."""
        self._log.flush()
        self._apply(use.configuration.settings)
        self._opening.add(use.generation)
        receiver.beside(lambda: self._opened(use), "opening")

    def _opened(self, use: messages.Use) -> None:
        result: _Generation | _CannotServe = _CannotServe("a fault of dcmstore; its traceback is on standard error")
        try:
            result = self._made(use)
        except ConfigurationError as error:
            result = _CannotServe(str(error))
        except OSError as error:
            result = _CannotServe(wiring.as_written(f"{error.filename}: {reason_of(error)}"))
        finally:
            self._steps.put(_Opened(use.generation, result))

    def _made(self, use: messages.Use) -> _Generation:
        settings = use.configuration.settings
        store = wiring.store_of(settings)
        store.open()
        shared = receiver.shared_of(
            settings,
            store,
            self._log,
            use.sop_classes,
            _Folders(self._telling) if wiring.wants_dicomdir(settings) else None,
            _Trail(self._telling, is_on=settings.audit != "off"),
            _Index(self._telling) if settings.index else None,
            self._commitment_of(use.configuration),
            tls_may_wait=True,  # the process that listens has looked at them
        )
        return _Generation(settings, store, shared)

    def _commitment_of(self, configuration: Configuration) -> "CommitmentService | None":
        """What puts requests for commitment into the queue; the process that listens checks and reports."""
        settings = configuration.settings
        if settings.storage_commitment == "off":
            return None
        from dcmstore.commitment.line import Lines  # and these, which no receiver without commitment needs
        from dcmstore.commitment.promises import Promises
        from dcmstore.commitment.reporting import Reporter, Way
        from dcmstore.forwarding import peers
        from dcmstore.services.commitment import CommitmentService

        path = wiring.queue_path_of(configuration)
        promises = Promises(str(path), str(path.parent), lambda: self._telling.tell(messages.Promised()))
        reporter = Reporter(
            lambda: self._in_force.local_ae,
            lambda: Way.NEW,  # the association is here, and the report is made where the index is
            lambda ae_title: peers.by_ae_title(self._in_force.peers).get(ae_title),
            Lines(),
        )
        return CommitmentService(promises.add, reporter.obstacle)

    def _use(self, number: int, result: _Generation | _CannotServe) -> None:
        """Raises _CannotServe."""
        if number not in self._opening:  # nothing came of these settings meanwhile
            if isinstance(result, _Generation):
                _close(result.store)
            return
        if isinstance(result, _CannotServe):
            raise result
        self._opening.remove(number)
        self._generations[number] = result
        self._telling.tell(messages.Ready(number))
        for connection, (serve, _) in list(self._waiting.items()):
            if serve.generation == number:
                self._serve(*self._waiting.pop(connection))

    def _retire(self, number: int) -> None:
        if number in self._opening:  # nothing came of them, so what was in force before is as ready as ever
            self._opening.remove(number)
            self._telling.tell(messages.Ready(number))
        else:
            _close(self._generations.pop(number).store)
        if self._generations and not self._opening:  # what was told last may have come to nothing
            self._apply(self._generations[max(self._generations)].settings)

    def _apply(self, settings: Settings) -> None:
        """What counts for the whole process."""
        self._in_force = settings
        wiring.apply_permissions(settings)
        needs.raise_open_files(settings)
        self._log.use([_Lines(self._telling)], settings.log_level)

    # --- connections -----------------------------------------------------------------------------

    def _serve(self, serve: messages.Serve, peer_socket: socket.socket) -> None:
        if serve.generation in self._opening:
            self._waiting[serve.number] = serve, peer_socket
            return
        shared = self._generations[serve.generation].shared
        connection = Connection(peer_socket, serve.address, shared, self._registry, is_secure=serve.is_secure)
        self._registry.keep(serve.number, connection)
        self._telling.tell(messages.Taken(serve.number))
        try:
            connection.start()
        except RuntimeError as error:  # the system gives no more threads; the sender tries again
            self._log.error("connection.not_accepted", reason=error)
            connection.close()
            self._registry.forget(connection)

    def _act(self, number: int, act: Callable[[Served], None]) -> None:
        """Drain or cut a connection; one that waits has nothing under way."""
        connection = self._registry.all().get(number)
        if connection is not None:
            act(connection)
        elif number in self._waiting:
            _, peer_socket = self._waiting.pop(number)
            peer_socket.close()
            self._telling.tell(messages.Closed(number, 0))

    # --- the end ---------------------------------------------------------------------------------

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
        for _, peer_socket in self._waiting.values():
            peer_socket.close()
        for generation in self._generations.values():
            generation.store.close()
        self._log.close()
        is_quiet = not self._registry.all()
        self._has_all_told = self._telling.close(TELL_WAIT) and is_quiet


def _close(store: Store) -> None:
    """The share that it was on may be slow, or gone."""
    receiver.beside(store.close, "closing")


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
