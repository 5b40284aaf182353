"""sockets <-> connections: listen, accept, keep the limits, and drain at the end."""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping

from dcmstore import sockets
from dcmstore.connection import Connection, Shared
from dcmstore.dimse.command import CommandField
from dcmstore.events import AssociationEvents, FolderUpdater
from dcmstore.logs import Log
from dcmstore.services.storage import StorageService
from dcmstore.services.verification import VerificationService
from dcmstore.settings import Settings
from dcmstore.storage.store import Store
from dcmstore.ul.timers import Limits
from dcmstore.wiring import negotiation_policy_of

MAX_UNASSOCIATED = 100  # connections that have not asked for an association, or have ended theirs, and do not close
ACCEPT_PAUSE = 0.05  # seconds after a connection could not be accepted, for instance for want of descriptors
CUT_WAIT = 2.0  # seconds that the threads get to notice that their connections were cut


def _no_fault() -> None:
    pass


class Server:
    """Listens, serves associations, and drains. `start` returns when the port listens; `stop` when all is quiet.

    `profile` is what alone is accepted, as negotiation.Policy has it; None accepts everything that can be stored.
    `updater` is told of the master folders to which something came. `on_fault` is called, on another thread, when
    nothing more can be accepted: the process should then end, so that it is started again.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        log: Log,
        profile: Mapping[str, tuple[str, ...]] | None = None,
        updater: FolderUpdater | None = None,
        on_fault: Callable[[], None] = _no_fault,
    ) -> None:
        self.log = log
        self.is_stopping = False
        self.has_fault = False
        self._settings = settings
        self._shared = Shared(
            policy=negotiation_policy_of(settings, profile),
            limits=Limits(settings.artim_timeout, settings.idle_timeout, settings.stall_timeout),
            services={
                CommandField.C_ECHO_RQ: VerificationService(),
                CommandField.C_STORE_RQ: StorageService(store, log_patient=settings.log_patient),
            },
            log=log,
            new_events=lambda: AssociationEvents(store, updater),
        )
        self._on_fault = on_fault
        self._associated: set[Connection] = set()
        self._unassociated: dict[Connection, None] = {}  # the one that has been so for longest comes first
        self._leaving: set[Connection] = set()  # that made room
        self._lock = threading.Lock()
        self._is_refusing = False
        self._listener: socket.socket | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where the server listens. Only between `start` and `stop`."""
        assert self._listener is not None
        name = self._listener.getsockname()
        return name[0], name[1]

    @property
    def associations(self) -> int:
        """How many are open."""
        return len(self._associated)

    def connections(self) -> list[Connection]:
        """Those that are open now."""
        with self._lock:
            return [*self._associated, *self._unassociated, *self._leaving]

    def start(self) -> None:
        """Listen and accept. Raises OSError when the port is taken, ConfigurationError for a foreign address."""
        self._listener = sockets.listen(self._settings.bind, self._settings.port)
        self._listener.setblocking(False)
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self._accepting = threading.Thread(target=self._accept, name="accept", daemon=True)
        self._accepting.start()

    def stop(self, timeout: float) -> None:
        """No new associations; idle ones are aborted at once, messages under way get `timeout` seconds.

        May be called again.
        """
        self.is_stopping = True
        with contextlib.suppress(OSError):  # stopped before
            self._wake_sender.send(b"\0")
        self._accepting.join()
        connections = self.connections()
        for connection in connections:
            connection.drain()
        _join_all(connections, timeout)
        remaining = self.connections()
        for connection in remaining:
            connection.cut()
        _join_all(remaining, CUT_WAIT)

    # --- what a connection asks of its registry ---------------------------------------------------

    def admit(self, connection: Connection) -> bool:
        """Count a connection as an association; false when it would be one too many."""
        with self._lock:
            has_room = len(self._associated) < self._settings.max_associations and not self.is_stopping
            if has_room:
                self._unassociated.pop(connection, None)
                self._associated.add(connection)
        return has_room

    def dismiss(self, connection: Connection) -> None:
        """The association is over, or never came to be; the connection still has to close."""
        with self._lock:
            if connection in self._associated:
                self._associated.remove(connection)
                self._unassociated[connection] = None

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        with self._lock:
            self._associated.discard(connection)
            self._unassociated.pop(connection, None)
            self._leaving.discard(connection)

    # --- the accepting thread ---------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            while not self.is_stopping:
                self._selector.select()
                if not self.is_stopping:
                    self._accept_one(self._listener)
        finally:
            for resource in (self._selector, self._listener, self._wake_receiver, self._wake_sender):
                resource.close()
            if not self.is_stopping:
                self.has_fault = True
                self.log.error("receiver.failed", reason="no more connections can be accepted")
                self._on_fault()

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            peer_socket, address = listener.accept()
        except BlockingIOError:
            return  # the peer is gone again
        except OSError as error:
            self._refuse(error.strerror)
            return
        connection = Connection(peer_socket, sockets.show_address(address), self._shared, self)
        with self._lock:
            oldest = next(iter(self._unassociated)) if len(self._unassociated) >= MAX_UNASSOCIATED else None
            self._unassociated[connection] = None
            if oldest is not None:
                del self._unassociated[oldest]
                self._leaving.add(oldest)
        if oldest is not None:  # silent connections make room for one that may speak
            oldest.cut()
        try:
            connection.start()
        except RuntimeError as error:  # the system gives no more threads; the sender tries again
            self.forget(connection)
            peer_socket.close()
            self._refuse(str(error))
            return
        self._is_refusing = False

    def _refuse(self, reason: str | None) -> None:
        """Say once that connections are not accepted, until one is."""
        if not self._is_refusing:
            self.log.error("connection.not_accepted", reason=reason)
        self._is_refusing = True
        time.sleep(ACCEPT_PAUSE)


def _join_all(connections: list[Connection], timeout: float) -> None:
    """Wait for all of them, `timeout` seconds together."""
    deadline = time.monotonic() + timeout
    for connection in connections:
        connection.join(max(deadline - time.monotonic(), 0))
