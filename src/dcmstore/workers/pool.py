"""accepted connections -> the process that has fewest of them; what it tells comes back to who would have known it."""

import itertools
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from dcmstore import sockets
from dcmstore.config import Configuration
from dcmstore.connection import Registry, Shared
from dcmstore.errors import reason_of
from dcmstore.logs import Log
from dcmstore.seldom import Teller
from dcmstore.workers import channel, messages
from dcmstore.workers.channel import Channel
from dcmstore.workers.messages import News, Told, Use

MAX_DEATHS = 5  # of one worker in a row, each within SOON of its start: then the receiver itself gives up
SOON = 10.0  # seconds from a start to a death that the start is to blame for: a worker is up after one or two
START_WAIT = 60.0  # seconds until a worker has to answer: a virus scanner may look at all that it loads
READY_WAIT = 10.0  # seconds that workers get to have new settings in force; those that need longer get it
PAUSE = 0.5  # seconds until a worker that ended is started again; each early death in a row doubles them
MAX_PAUSE = 30.0  # seconds; what keeps workers from living may be over by then, and starting them costs a second
KILL_WAIT = 10.0  # seconds for the system to end a process that was killed; one that waits for a disk takes longer


class Handed:
    """A connection that a worker serves. The server treats it as one of its own, Connection."""

    def __init__(
        self,
        pool: "Pool",
        number: int,
        peer_socket: socket.socket,
        address: tuple[object, ...],
        shared: Shared,
        registry: Registry,
        *,
        is_secure: bool,
    ) -> None:
        self.socket = peer_socket
        self.host = sockets.host_of(address)
        self.shared = shared
        self.registry = registry
        self.calling_ae_title = ""
        self.stored = 0
        self.number = number
        self.serve = messages.Serve(number, address, is_secure, pool.generation_of(shared))
        self.worker: Worker | None = None
        self._pool = pool
        self._closed = threading.Event()

    def start(self) -> None:
        """Raises RuntimeError when no worker takes it."""
        self._pool.hand(self)

    def close(self) -> None:
        self.socket.close()

    def join(self, timeout: float) -> None:
        self._closed.wait(timeout)

    def drain(self) -> None:
        self._tell(messages.Drain(self.number))

    def cut(self) -> None:
        self._tell(messages.Cut(self.number))

    def end(self, stored: int) -> None:
        """It is over, or its worker is."""
        self.stored = stored
        self.close()
        self._closed.set()
        self.registry.forget(self)

    def _tell(self, message: object) -> None:
        if self.worker is not None:
            self.worker.tell(message)


class Worker:
    """A process that serves, started again when it ends by itself. `start` it once, `close` at the end."""

    def __init__(self, pool: "Pool", number: int) -> None:
        self._pool = pool
        self._number = number
        self.handed: dict[int, Handed] = {}
        self.is_ready = threading.Event()
        self.is_buried = False  # what it had told is heard, and it tells nothing more
        self._newest = 0  # generation of settings that it was told of
        self._questions = itertools.count(1)
        self._answered = 0  # the newest question that it has answered
        self._has_heard = threading.Condition()
        self._is_closing = threading.Event()
        self._began = 0.0
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name=f"worker {number}", daemon=True)

    def start(self) -> None:
        """Raises OSError."""
        self._begin()
        self._thread.start()

    def tell(self, message: object, handed: socket.socket | None = None) -> bool:
        """False when it is gone; what it had to serve is then being told as lost."""
        open_channel, process = self._channel, self._process
        if open_channel is None or process is None:
            return False
        try:
            open_channel.send(message, handed)
        except OSError:  # gone, or it has read nothing for long
            process.kill()
            return False
        return True

    def use(self, use: Use) -> bool:
        """False when it is gone; else `is_ready` says when the settings are in force."""
        self._newest = use.generation  # first, for an older one may become ready just now
        self.is_ready.clear()
        return self.tell(use)

    def ask(self) -> int | None:
        """Ask whether it answers; return the question's number, or None when it is gone."""
        number = next(self._questions)
        return number if self.tell(messages.Ask(number)) else None

    def has_answered(self, number: int, deadline: float) -> bool:
        """Whether this question, or a later one, is answered until then: all that it told before is heard too."""
        with self._has_heard:
            seconds = max(deadline - time.monotonic(), 0)
            return self._has_heard.wait_for(lambda: self._answered >= number, seconds)

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def close(self, deadline: float) -> None:
        """Let it end in order until then. Harmless when it was not started, or has ended."""
        self._is_closing.set()
        if self._thread.ident is None:
            return
        if self._channel is not None:
            self._channel.end()
        self._thread.join(max(deadline - time.monotonic(), 0))
        if self._thread.is_alive():
            self.kill()
            self._thread.join(KILL_WAIT)

    # --- the thread ------------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._pool.telling:  # settings that come meanwhile reach it behind these
            self._process, begun = channel.start()
            self._began = time.monotonic()
            self.is_ready.clear()
            for use in self._pool.in_use():
                self._newest = use.generation
                begun.send(use)
            self.is_buried, self._channel = False, begun
            if self._is_closing.is_set():
                begun.end()

    def _keep(self) -> None:
        deaths = 0
        while True:
            self._listen()
            code = self._bury()
            if self._is_closing.is_set():
                return
            deaths = deaths + 1 if self.age < SOON else 1
            self._pool.log.error("worker.ended", worker=self._number, exit_code=code, what_to_do=_ADVICE)
            if deaths >= MAX_DEATHS and not self._pool.has_other(self):
                self._pool.give_up()
                return
            if not self._begin_again(min(PAUSE * 2 ** (deaths - 1), MAX_PAUSE)):
                return

    def _begin_again(self, pause: float) -> bool:
        """Start it after a pause, and again until it starts; false where it is not wanted any more."""
        told = ""
        while not self._is_closing.wait(pause):
            try:
                self._begin()
            except OSError as error:
                reason = reason_of(error)
                if reason != told:
                    self._pool.log.error("worker.not_started", worker=self._number, reason=reason, what_to_do=_MEMORY)
                told, pause = reason, MAX_PAUSE
            else:
                return True
        return False

    def _listen(self) -> None:
        """Hear what it tells until it ends."""
        assert self._channel is not None
        while True:
            try:
                message, _ = self._channel.receive()
            except (OSError, EOFError):
                return
            self._hear(message)

    def _hear(self, message: Told) -> None:
        match message:
            case messages.Lines(text):
                self._pool.log.pass_on(text)
            case messages.Ready(generation):
                if generation >= self._newest:  # else it has others still to open
                    self.is_ready.set()
            case messages.Taken(number):
                self.handed[number].close()
            case messages.Asked(number, calling_ae_title):
                handed = self.handed[number]
                handed.calling_ae_title = calling_ae_title
                self.tell(messages.Admitted(number, handed.registry.admit(handed)))
            case messages.Dismissed(number):
                handed = self.handed[number]
                handed.registry.dismiss(handed)
            case messages.Closed(number, stored):
                self.handed.pop(number).end(stored)
            case messages.Seldom(kind, event, facts):
                self._pool.seldom.tell(kind, event, **facts)
            case messages.Alive(question, stored):
                for number, count in stored.items():
                    if number in self.handed:
                        self.handed[number].stored = count
                with self._has_heard:
                    self._answered = max(self._answered, question)
                    self._has_heard.notify_all()
            case messages.Missed(notes, folders, transfers, lines):
                counts = {"notes": notes, "dicomdir": folders, "audit": transfers, "lines": lines}
                lost = {name: count or None for name, count in counts.items()}
                self._pool.log.warning("worker.behind", worker=self._number, **lost, what_to_do=_BEHIND)
                self._pool.on_news(message)
            case _:
                self._pool.on_news(message)

    def _bury(self) -> int:
        """Nothing of it is left behind: its connections are gone with it."""
        assert self._process is not None
        self.is_ready.clear()
        ended, self._channel = self._channel, None
        if ended is not None:
            ended.close()
        if not self._is_closing.is_set():
            self._process.kill()  # where it has closed its end and lives on
        code = self._process.wait()
        while self.handed:
            _, handed = self.handed.popitem()
            handed.end(handed.stored)
        self._pool.on_news(messages.Gone(self._process.pid, is_orderly=self._is_closing.is_set() and code == 0))
        self.is_buried = True
        return code


_MEMORY = "see to the memory and the limits of this machine; it is tried again"
_ADVICE = (
    "nothing, once: another one takes its place, and senders send again what was under way; if it comes again, look at "
    "the lines above and for a traceback, in the journal or where `dcmstore run` was started"
)
_BEHIND = (
    "see what keeps this machine busy; the objects are stored, an index looks for what it was not told, a DICOMDIR has "
    "it after that patient's next object, and an audit trail lacks it"
)


class Pool:
    """The workers of a receiver. `use` settings before connections come that bear them.

    `on_news` gets what was stored, on one thread a worker; `on_fault` is called when workers can't be kept alive.
    """

    def __init__(
        self,
        number: int,
        log: Log,
        on_news: Callable[[News], None],
        on_fault: Callable[[], None],
    ) -> None:
        self.log = log
        self.on_news = on_news
        self._on_fault = on_fault
        self._numbers = itertools.count(1)
        self._generations: dict[Shared, Use] = {}
        self.telling = threading.Lock()  # while settings are told
        self._workers = [Worker(self, each + 1) for each in range(number)]

    def start(self, seldom: Teller) -> None:
        """`seldom` is told what is to be told once a minute. Raises OSError."""
        self.seldom = seldom
        for worker in self._workers:
            worker.start()
        _await(self._workers)

    def use(
        self,
        shared: Shared,
        configuration: Configuration,
        sop_classes: Mapping[str, tuple[str, ...]] | None,
    ) -> None:
        """Connections that come with `shared` are to be served by these settings, as `receiver.shared_of` has them.

        Returns when the workers that run have them in force.
        """
        with self.telling:
            use = Use(next(self._numbers), configuration, sop_classes)
            self._generations[shared] = use
            told = [worker for worker in self._workers if worker.use(use)]
        _await(told)

    def retire(self, shared: Shared) -> None:
        """No connection has these settings any more."""
        with self.telling:
            use = self._generations.pop(shared)
            self._tell_all(messages.Retire(use.generation))

    def generation_of(self, shared: Shared) -> int:
        return self._generations[shared].generation

    def in_use(self) -> list[Use]:
        return list(self._generations.values())

    def connect(
        self,
        peer_socket: socket.socket,
        address: tuple[object, ...],
        shared: Shared,
        registry: Registry,
        *,
        is_secure: bool = False,
    ) -> Handed:
        """What Connection is where there are no workers."""
        return Handed(self, next(self._numbers), peer_socket, address, shared, registry, is_secure=is_secure)

    def hand(self, handed: Handed) -> None:
        """Give a connection to the worker with fewest, a ready one first. Raises RuntimeError when none takes it."""
        for worker in sorted(self._workers, key=lambda worker: (not worker.is_ready.is_set(), len(worker.handed))):
            worker.handed[handed.number] = handed
            handed.worker = worker
            if worker.tell(handed.serve, handed.socket):
                return
            if worker.handed.pop(handed.number, None) is None:
                return  # the worker had it, ended, and was buried with it
        raise RuntimeError("no worker takes connections")

    def require_answers(self, timeout: float) -> None:
        """End those that answer nothing for so many seconds: they are started again."""
        deadline = time.monotonic() + timeout
        up = [worker for worker in self._workers if worker.is_ready.is_set() or worker.age > START_WAIT]
        asked = [(worker, worker.ask()) for worker in up]  # young ones too, for what they have stored
        for worker, number in asked:
            has_answered = number is None or worker.has_answered(number, deadline)
            if not has_answered and worker.age > START_WAIT:  # else it has ended by itself, and is another already
                worker.kill()

    def have_told_all(self, timeout: float) -> bool:
        """Whether all that was stored up to now is heard of; false also where that is not known in so many seconds."""
        deadline = time.monotonic() + timeout
        asked = [(worker, worker.ask()) for worker in self._workers if not worker.is_buried]
        return all(number is not None and worker.has_answered(number, deadline) for worker, number in asked)

    def has_other(self, worker: Worker) -> bool:
        """Whether another one is at work."""
        return any(other.is_ready.is_set() for other in self._workers if other is not worker)

    def give_up(self) -> None:
        self.log.error("receiver.fault", reason="workers end as soon as they are started", what_to_do="see above")
        self._on_fault()

    def close(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for worker in self._workers:
            worker.close(deadline)

    def _tell_all(self, message: object) -> None:
        for worker in self._workers:
            worker.tell(message)


def _await(workers: Iterable[Worker]) -> None:
    """Until each has its settings in force, or does not get to it."""
    deadline = time.monotonic() + READY_WAIT
    for worker in workers:
        worker.is_ready.wait(max(deadline - time.monotonic(), 0))
