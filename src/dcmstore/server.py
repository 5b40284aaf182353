"""sockets <-> connections: listen, accept, keep the limits, and drain at the end."""

import contextlib
import operator
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

from dcmstore import sockets
from dcmstore.audit.trail import Trail
from dcmstore.connection import Connection, Registry, Served, Shared
from dcmstore.errors import ConfigurationError, DcmStoreError
from dcmstore.events import refusals_audited
from dcmstore.logs import Log
from dcmstore.seldom import Seldom
from dcmstore.settings import Settings

MAX_UNASSOCIATED = 100  # connections that have not asked for an association, or have ended theirs, and do not close
ACCEPT_PAUSE = 0.05  # seconds after a connection could not be accepted, for instance for want of descriptors
REFUSALS_DUE = 10.0  # seconds at most between two looks for refusals that are to be told together
CUT_WAIT = 2.0  # seconds that the threads get to notice that their connections were cut


class Endpoint(NamedTuple):
    """Where to listen: an address, or nothing for all of them, and a port."""

    address: str
    port: int
    is_secure: bool = False  # by TLS


class CannotListen(DcmStoreError):
    """A port is not to be had; `error` is the system's word."""

    def __init__(self, port: int, error: OSError) -> None:
        super().__init__(f"port {port}: {error}")
        self.port = port
        self.error = error


class Listener(NamedTuple):
    """A socket at an endpoint."""

    socket: socket.socket
    is_secure: bool


def endpoints_of(settings: Settings) -> list[Endpoint]:
    plain = [] if settings.tls_only else [Endpoint(settings.bind, settings.port)]
    return plain + ([Endpoint(settings.bind, settings.tls_port, is_secure=True)] if settings.tls_port else [])


class Connect(Protocol):
    """What makes a connection of an accepted socket, as Connection itself does."""

    def __call__(
        self,
        peer_socket: socket.socket,
        address: tuple[object, ...],
        shared: Shared,
        registry: Registry,
        *,
        is_secure: bool = False,
    ) -> Served: ...


def _nothing() -> None:
    pass


class Server:
    """Listens, serves associations, and drains. `start` returns when the port listens; `stop` when all is quiet.

    `apply` gives connections to come other settings, and leaves alone those that are open. `on_fault` is called, on
    another thread, when nothing more can be accepted: the process should then end, so that it is started again.
    """

    def __init__(
        self,
        settings: Settings,
        shared: Shared,
        log: Log,
        on_fault: Callable[[], None] = _nothing,
        trail: Trail | None = None,
        connect: Connect = Connection,
    ) -> None:
        self.log = log
        self.is_stopping = False
        self.has_fault = False
        self.seldom = Seldom(refusals_audited(log.warning, trail))
        self._settings = settings
        self._shared = shared
        self._on_fault = on_fault
        self._connect = connect
        self._replaced: dict[Shared, Callable[[], None]] = {}  # by newer settings -> what to do once nobody has it
        self._associated: set[Served] = set()
        self._unassociated: dict[Served, None] = {}  # the one that has been so for longest comes first
        self._leaving: set[Served] = set()  # that made room
        self._lock = threading.Lock()
        self._is_refusing = False
        self._listeners: dict[Endpoint, Listener] = {}
        self._unwanted: set[Listener] = set()  # that were replaced, until the accepting thread has closed them
        self._came_round = threading.Event()
        self._stored = 0  # by connections that are closed

    @property
    def address(self) -> tuple[str, int]:
        """Where the server listens. Only between `start` and `stop`."""
        name = next(iter(self._listeners.values())).socket.getsockname()
        return name[0], name[1]

    @property
    def associations(self) -> int:
        """How many are open."""
        return len(self._associated)

    @property
    def stored(self) -> int:
        """How many objects were stored since the start."""
        with self._lock:
            return self._stored + sum(connection.stored for connection in self._all())

    def connections(self) -> list[Served]:
        """Those that are open now."""
        with self._lock:
            return self._all()

    def _all(self) -> list[Served]:
        return [*self._associated, *self._unassociated, *self._leaving]

    def start(self) -> None:
        """Listen and accept. Raises CannotListen when a port is taken, ConfigurationError for a foreign address."""
        self._listeners = self._listen(self._settings)
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_sender.setblocking(False)
        self._accepting = threading.Thread(target=self._accept, name="accept", daemon=True)
        self._accepting.start()

    def apply(self, settings: Settings, shared: Shared, when_unused: Callable[[], None] = _nothing) -> None:
        """Serve connections to come by other settings, on another port too.

        `when_unused` is called, on any thread, once no connection has what is replaced. Raises as `start` does, and
        then nothing has changed.
        """
        listeners = self._listen(settings)
        with self._lock:
            self._replaced[self._shared] = when_unused
            self._unwanted |= set(self._listeners.values()) - set(listeners.values())
            self._settings, self._shared, self._listeners = settings, shared, listeners
        self._wake()
        self._retire()

    def fail(self) -> None:
        """Nothing more can be received: the process is to end, and to be started again."""
        self.has_fault = True
        self._on_fault()

    def answers(self, timeout: float) -> bool:
        """Whether the accepting thread comes round within `timeout` seconds."""
        self._came_round.clear()
        self._wake()
        return self._came_round.wait(timeout)

    def stop(self, timeout: float) -> None:
        """No new associations; idle ones are aborted at once, messages under way get `timeout` seconds.

        May be called again.
        """
        deadline = time.monotonic() + timeout
        self.is_stopping = True
        self._wake()
        self._accepting.join(timeout)
        connections = self.connections()
        for connection in connections:
            connection.drain()
        _join_all(connections, deadline)
        remaining = self.connections()
        for connection in remaining:
            connection.cut()
        _join_all(remaining, time.monotonic() + CUT_WAIT)
        self.seldom.flush()

    # --- what a connection asks of its registry ---------------------------------------------------

    def admit(self, connection: Served) -> str:
        """Count a connection as an association, or say why not."""
        with self._lock:
            obstacle = self._obstacle_to(connection)
            if not obstacle:
                self._unassociated.pop(connection, None)
                self._associated.add(connection)
        return obstacle

    def _obstacle_to(self, connection: Served) -> str:
        if self.is_stopping:
            return "the receiver stops"
        if connection in self._leaving:
            return "it had to make room for other connections"
        settings, most = self._settings, self._settings.max_associations
        each = most - most // 10  # so that one sender can't keep the others out
        if len(self._associated) >= most:
            return "max-associations is reached"
        for key, limit, whose in (
            ("max-associations-per-host", settings.max_associations_per_host, operator.attrgetter("host")),
            ("max-associations-per-ae", settings.max_associations_per_ae, operator.attrgetter("calling_ae_title")),
        ):
            of = whose(connection)
            if sum(whose(other) == of for other in self._associated) >= (limit or each):
                return f"{key} is reached"
        return ""

    def dismiss(self, connection: Served) -> None:
        """The association is over, or never came to be; the connection still has to close."""
        with self._lock:
            if connection in self._associated:
                self._associated.remove(connection)
                self._unassociated[connection] = None

    def forget(self, connection: Served) -> None:
        """The connection is closed."""
        with self._lock:
            self._associated.discard(connection)
            self._unassociated.pop(connection, None)
            self._leaving.discard(connection)
            self._stored += connection.stored
        if self._replaced:
            self._retire()

    def _retire(self) -> None:
        """Let go of what newer settings have replaced and no connection has any more."""
        with self._lock:
            used = {connection.shared for connection in self._all()}
            unused = [self._replaced.pop(shared) for shared in self._replaced.keys() - used]
        for when_unused in unused:
            when_unused()

    # --- the accepting thread ---------------------------------------------------------------------

    def _listen(self, settings: Settings) -> dict[Endpoint, Listener]:
        """A listener for each endpoint of the settings: the one that it has, or a new one."""
        listeners: dict[Endpoint, Listener] = {}
        with contextlib.ExitStack() as opened:
            for endpoint in endpoints_of(settings):
                listener = self._listeners.get(endpoint)
                if listener is None:
                    try:
                        listening = opened.enter_context(sockets.listen(endpoint.address, endpoint.port))
                    except OSError as error:
                        if any(endpoint.port == own.port for own in self._listeners):
                            raise ConfigurationError(
                                f"port {endpoint.port}: this receiver listens on it at another address, or with TLS "
                                "switched the other way; that takes a stop and a start, or another port"
                            ) from None
                        raise CannotListen(endpoint.port, error) from None
                    listening.setblocking(False)
                    listener = Listener(listening, endpoint.is_secure)
                listeners[endpoint] = listener
            opened.pop_all()
        return listeners

    def _wake(self) -> None:
        """Let the accepting thread look at what has changed."""
        with contextlib.suppress(OSError):  # it has ended, or has many such bytes to read already
            self._wake_sender.send(b"\0")

    def _accept(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_receiver, selectors.EVENT_READ, None)
                try:
                    while not self.is_stopping:
                        self._renew(selector)
                        self._accept_on(selector)
                finally:
                    for listener in self._unwanted | set(self._listeners.values()):
                        listener.socket.close()
        finally:
            for resource in (self._wake_receiver, self._wake_sender):
                resource.close()
            if not self.is_stopping:
                advice = "it ends, so that its service manager starts it again; else start it yourself"
                self.log.error("receiver.fault", reason="no more connections can be accepted", what_to_do=advice)
                self.fail()

    def _renew(self, selector: selectors.BaseSelector) -> None:
        """Watch the present listeners; those that are no longer wanted accept what already waits, and close."""
        with self._lock:
            wanted, unwanted = set(self._listeners.values()), self._unwanted
            self._unwanted = set()
        watched = {key.data for key in selector.get_map().values()}
        for listener in wanted - watched:
            selector.register(listener.socket, selectors.EVENT_READ, listener)
        for listener in unwanted:
            if listener in watched:
                selector.unregister(listener.socket)
            with listener.socket:
                for _ in range(sockets.BACKLOG):  # not for ever: others may go on calling
                    if self.is_stopping or not self._accept_one(listener):
                        break

    def _accept_on(self, selector: selectors.BaseSelector) -> None:
        """Accept until the thread is woken."""
        while True:
            ready = [key.data for key, _ in selector.select(REFUSALS_DUE)]
            self.seldom.tell_due()
            if None in ready:
                self._wake_receiver.recv(4096)
                self._came_round.set()
                return
            for listener in ready:
                self._accept_one(listener)

    def _accept_one(self, listener: Listener) -> bool:
        """Give the next connection its thread; false when there is none, or the system has no room for it."""
        try:
            peer_socket, address = listener.socket.accept()
        except BlockingIOError:
            return False  # the peer is gone again
        except OSError as error:
            return self._refuse(error.strerror)
        with self._lock:
            connection = self._connect(peer_socket, address, self._shared, self, is_secure=listener.is_secure)
            leaving = self._one_too_many()
            self._unassociated[connection] = None
            if leaving is not None:
                del self._unassociated[leaving]
                self._leaving.add(leaving)
        if leaving is not None:  # silent connections make room for one that may speak
            leaving.cut()
        try:
            connection.start()
        except RuntimeError as error:  # the system gives no more threads; the sender tries again
            self.forget(connection)
            peer_socket.close()
            return self._refuse(str(error))
        self._is_refusing = False
        return True

    def _one_too_many(self) -> Served | None:
        """The oldest silent connection of the host that has most of them: a port scan cuts its own, not a sender's."""
        if len(self._unassociated) < MAX_UNASSOCIATED:
            return None
        of_host = Counter(connection.host for connection in self._unassociated)
        return max(self._unassociated, key=lambda connection: of_host[connection.host])

    def _refuse(self, reason: str | None) -> bool:
        """Say once that connections are not accepted, until one is."""
        if not self._is_refusing:
            self.log.error("connection.not_accepted", reason=reason)
        self._is_refusing = True
        time.sleep(ACCEPT_PAUSE)
        return False


def _join_all(connections: list[Served], deadline: float) -> None:
    """Wait for all of them, until then."""
    for connection in connections:
        connection.join(max(deadline - time.monotonic(), 0))
