"""sockets <-> association: a thread an association, blocking I/O, the limits on all of them, and the drain.

The only module with sockets, threads and clocks. A connection's thread reads from top to bottom: receive bytes,
hand them to the association, hand its fragments to the service provider, send what comes back.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping

from dcmstore import sockets, uids
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField
from dcmstore.errors import AbortReason, AbortSource, DcmStoreError, ProtocolError
from dcmstore.events import AssociationEvents, FolderUpdater
from dcmstore.logs import Log
from dcmstore.services.operation import Outcome
from dcmstore.services.provider import Service, ServiceProvider
from dcmstore.services.storage import StorageService
from dcmstore.services.verification import VerificationService
from dcmstore.settings import Settings
from dcmstore.storage.store import Store
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.association import Association, State
from dcmstore.ul.framing import Fragment
from dcmstore.ul.items import ContextResult
from dcmstore.ul.pdu import AAbort, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRQ
from dcmstore.ul.timers import Limits, Phase, Timers
from dcmstore.wiring import negotiation_policy_of

RECEIVE_BUFFER = 256 * 1024  # bytes an association; pages that no data reached cost no memory
ACCEPT_PAUSE = 0.05  # seconds after a connection could not be accepted, for instance for want of descriptors
TICK = 5.0  # seconds between looks at the timers while nothing comes
CUT_WAIT = 2.0  # seconds that a thread gets to notice that its connection was cut


RELEASED = "released"  # how an association ends when all is well


class TimedOut(DcmStoreError):
    """The peer let a timer run out; the text says which."""


class Server:
    """Listens, serves associations, and drains. `start` returns when the port listens; `stop` when all is quiet.

    `profile` is what alone is accepted, as negotiation.Policy has it; None accepts everything that can be stored.
    `updater` is told of the master folders to which something came.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        log: Log,
        profile: Mapping[str, tuple[str, ...]] | None = None,
        updater: FolderUpdater | None = None,
    ) -> None:
        self.log = log
        self.policy = negotiation_policy_of(settings, profile)
        self.limits = Limits(settings.artim_timeout, settings.idle_timeout, settings.stall_timeout)
        self.services: Mapping[int, Service] = {
            CommandField.C_ECHO_RQ: VerificationService(),
            CommandField.C_STORE_RQ: StorageService(store, log_patient=settings.log_patient),
        }
        self.is_stopping = False
        self._store = store
        self._updater = updater
        self._settings = settings
        self._connections: set[Connection] = set()
        self._associated: set[Connection] = set()  # those of them that `max-associations` counts
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._accepting = threading.Thread(target=self._accept, name="accept", daemon=True)

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

    def start(self) -> None:
        """Listen and accept. Raises OSError when the port is taken, ConfigurationError for a foreign address."""
        self._listener = sockets.listen(self._settings.bind, self._settings.port)
        self._listener.setblocking(False)
        self._accepting.start()

    def stop(self, timeout: float) -> None:
        """No new associations; idle ones are aborted at once, messages under way get `timeout` seconds.

        May be called again.
        """
        self.is_stopping = True
        with contextlib.suppress(OSError):  # stopped before
            self._wake_sender.send(b"\0")
        self._accepting.join()
        deadline = time.monotonic() + timeout
        for connection in self.connections():
            connection.drain()
        for connection in self.connections():
            connection.join(max(deadline - time.monotonic(), 0))
        for connection in self.connections():
            connection.cut()
            connection.join(CUT_WAIT)
        self._wake_sender.close()
        self._wake_receiver.close()

    def events(self) -> AssociationEvents:
        """For one association."""
        return AssociationEvents(self._store, self._updater)

    def admit(self, connection: "Connection") -> bool:
        """Count a connection as an association; false when it would be one too many."""
        with self._lock:
            has_room = len(self._associated) < self._settings.max_associations and not self.is_stopping
            if has_room:
                self._associated.add(connection)
        return has_room

    def dismiss(self, connection: "Connection") -> None:
        """The association is over, or never came to be."""
        with self._lock:
            self._associated.discard(connection)

    def connections(self) -> list["Connection"]:
        """Those that are open now."""
        with self._lock:
            return list(self._connections)

    def _accept(self) -> None:
        assert self._listener is not None
        with self._listener as listener, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._wake_receiver, selectors.EVENT_READ)
            while not self.is_stopping:
                selector.select()
                if not self.is_stopping:
                    self._accept_one(listener)

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            peer_socket, address = listener.accept()
        except BlockingIOError:
            return  # the peer is gone again
        except OSError as error:
            self.log.warning("connection.not_accepted", reason=error.strerror)
            time.sleep(ACCEPT_PAUSE)
            return
        connection = Connection(self, peer_socket, sockets.show_address(address), self._forget)
        with self._lock:
            self._connections.add(connection)
        try:
            connection.start()
        except RuntimeError as error:  # the system gives no more threads; the sender tries again
            self._forget(connection)
            peer_socket.close()
            self.log.error("connection.not_accepted", peer=sockets.show_address(address), reason=error)

    def _forget(self, connection: "Connection") -> None:
        with self._lock:
            self._connections.discard(connection)
            self._associated.discard(connection)


class Connection:
    """One transport connection and its association, on a thread of its own."""

    def __init__(
        self, server: Server, peer_socket: socket.socket, peer: str, on_end: "Callable[[Connection], None]"
    ) -> None:
        self._server = server
        self._log = server.log
        self._socket = peer_socket
        self._peer = peer
        self._on_end = on_end
        self._association = Association(server.policy.max_length_received)
        self._timers = Timers(server.limits, time.monotonic())
        self._provider: ServiceProvider | None = None
        self._events = server.events()
        self._has_answered = True  # since the last receive
        self._calling = ""
        self._stored = 0
        self._failed = 0
        self._thread = threading.Thread(target=self._run, name=f"association {peer}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def drain(self) -> None:
        """From another thread: leave once no message is under way."""
        if self.is_idle:
            sockets.wake(self._socket)

    def cut(self) -> None:
        """From another thread: leave now."""
        sockets.wake(self._socket)

    @property
    def is_idle(self) -> bool:
        """True while no message is under way."""
        if self._association.state is State.AWAITING_CLOSE:
            return True
        has_message = self._provider is not None and not self._provider.is_between_messages
        return self._association.is_between_pdus and not has_message

    def _run(self) -> None:
        started = time.monotonic()
        how = ""
        try:
            with self._socket:
                how = self._serve_fenced()
        finally:
            self._on_end(self)
        seconds = f"{time.monotonic() - started:.3f}"
        if not self._calling and self._provider is None:  # a port scan or a load balancer's probe
            self._log.debug("connection.ended", peer=self._peer, how=how, seconds=seconds)
            return
        log = self._log.info if how == RELEASED else self._log.warning
        facts = {"peer": self._peer, "calling": self._calling, "how": how, "stored": self._stored}
        log("association.ended", **facts, failed=self._failed or None, seconds=seconds)

    def _serve_fenced(self) -> str:
        """Serve, and whatever happens leave nothing behind: a fault of ours ends one association, not the service."""
        try:
            sockets.tune(self._socket)
            limits = self._server.limits
            sockets.limit_waiting(self._socket, receive=min(TICK, limits.shortest), send=limits.stall)
            return self._serve()
        except TimedOut as timer:
            return str(timer)
        except OSError as error:
            return f"connection lost: {error.strerror or error}"
        except Exception as error:  # noqa: BLE001  one of the two fences
            self._log.error("association.fault", peer=self._peer, calling=self._calling, error=repr(error))
            self._abort(AAbort(AbortSource.SERVICE_PROVIDER, AbortReason.NOT_SPECIFIED))
            return "fault of the receiver"
        finally:
            self._cancel()
            self._events.ended()
            self._association.close()

    def _cancel(self) -> None:
        """Drop a message that will not be completed; its sender got no success for it and has to send it again."""
        lost = self._provider.cancel() if self._provider is not None else {}
        if lost:
            self._log.warning("instance.incomplete", peer=self._peer, **lost)

    def _serve(self) -> str:
        """Receive until the peer closes; return how the association ended, in words."""
        buffer = bytearray(RECEIVE_BUFFER)
        view = memoryview(buffer)
        how = ""
        while self._association.state is not State.IDLE:
            if self._server.is_stopping and self.is_idle and not how:
                break
            size = self._receive(buffer, is_ending=bool(how))
            if not size:
                break
            try:
                for event in self._association.receive(view[:size]):
                    if type(event) is Fragment:
                        self._perform(event)
                    else:
                        how = self._handle(event) or how
            except ProtocolError as error:
                how = f"aborted: {error}"
                self._log.warning("association.aborted", peer=self._peer, calling=self._calling, reason=error)
                self._abort(pdu.abort_for(error))
            self._timers.progress(self._phase(), size, time.monotonic())
        if not how and self._server.is_stopping:
            how = "receiver stops"
            if self._association.state is not State.AWAITING_ASSOCIATE_RQ:
                self._abort(AAbort(AbortSource.SERVICE_USER, AbortReason.NOT_SPECIFIED))
        return how or "peer closed the connection without a release"

    def _receive(self, buffer: bytearray, *, is_ending: bool) -> int:  # hot: bench
        """The next bytes of the stream; 0 when the peer has closed, or has had its time to."""
        while self._timers.remaining(time.monotonic()) > 0:
            if not self._has_answered:  # else the answer has carried the acknowledgement
                sockets.acknowledge_now(self._socket)
            try:
                size = self._socket.recv_into(buffer)
            except sockets.GAVE_UP:
                continue
            self._has_answered = False
            return size
        if is_ending:
            return 0
        raise TimedOut(self._time_out())

    def _time_out(self) -> str:
        """Tell the peer that its time is up (AA-2 before an association, else an abort), and say which timer it was."""
        key = {Phase.ARTIM: "artim-timeout", Phase.IDLE: "idle-timeout", Phase.MESSAGE: "stall-timeout"}
        if self._association.state is not State.AWAITING_ASSOCIATE_RQ:
            self._abort(AAbort(AbortSource.SERVICE_PROVIDER, AbortReason.NOT_SPECIFIED))
        return f"{key[self._timers.phase]} ran out"

    def _phase(self) -> Phase:
        if self._association.state in (State.AWAITING_ASSOCIATE_RQ, State.AWAITING_CLOSE):
            return Phase.ARTIM
        return Phase.IDLE if self.is_idle else Phase.MESSAGE

    def _handle(self, event: object) -> str:
        """Everything but data. Return how the association ends by it, or nothing."""
        match event:
            case AAssociateRQ():
                return self._negotiate(event)
            case AReleaseRQ():
                self._server.dismiss(self)
                self._send(self._association.release())
                return RELEASED
            case AAbort(source, reason):
                return f"peer aborted (source {source}, reason {reason})"
        raise AssertionError(event)

    def _negotiate(self, request: AAssociateRQ) -> str:
        self._calling = request.calling_ae_title
        if self._log.is_debug:
            self._log.debug("<", peer=self._peer, pdu=request)
        answer = negotiation.negotiate(request, self._server.policy, has_room=self._server.admit(self))
        facts = {"peer": self._peer, "calling": request.calling_ae_title, "called": request.called_ae_title}
        if isinstance(answer, AAssociateRJ):
            reason = negotiation.REJECT_REASONS[answer]
            self._server.dismiss(self)
            self._log.warning("association.rejected", **facts, reason=reason)
            self._send(self._association.reject(answer))
            return f"rejected: {reason}"
        accepted = self._accepted_contexts(request, answer)
        info = request.user_information
        self._log.info(
            "association.accepted",
            **facts,
            contexts=f"{len(accepted)}/{len(request.presentation_contexts)}",
            implementation=info.implementation_version_name or info.implementation_class_uid,
        )
        self._provider = ServiceProvider(accepted, self._server.services, request.calling_ae_title)
        self._send(self._association.accept(answer, info.max_length_received))
        return ""

    def _accepted_contexts(self, request: AAssociateRQ, answer: AAssociateAC) -> dict[int, tuple[str, str]]:
        """What was agreed, by context ID; what was not is logged, for it is why a sender's objects stay away."""
        accepted = {}
        for proposed, negotiated in zip(request.presentation_contexts, answer.presentation_contexts, strict=True):
            if negotiated.result is ContextResult.ACCEPTANCE:
                accepted[proposed.context_id] = (proposed.abstract_syntax, negotiated.transfer_syntax)
                continue
            self._log.warning(
                "context.rejected",
                peer=self._peer,
                calling=request.calling_ae_title,
                context_id=proposed.context_id,
                sop_class=uids.name_of(proposed.abstract_syntax),
                uid=proposed.abstract_syntax,
                transfer_syntaxes=", ".join(map(uids.name_of, proposed.transfer_syntaxes)),
                reason=negotiated.result.name.lower().replace("_", "-"),
            )
        return accepted

    def _perform(self, fragment: Fragment) -> None:  # hot: bench
        assert self._provider is not None
        if self._log.is_debug:
            kind = ("command" if fragment.is_command else "data set") + (" last" if fragment.is_last else "")
            facts = {"context_id": fragment.context_id, "bytes": len(fragment.data)}
            self._log.debug("<", peer=self._peer, pdv=kind, **facts)
        outcome = self._provider.receive(fragment)
        if outcome is not None:
            self._answer(fragment.context_id, outcome)

    def _answer(self, context_id: int, outcome: Outcome) -> None:
        """Send the response first; the log comes after it."""
        if outcome.response is not None:
            self._send(self._association.send_command(context_id, command.encode(outcome.response)))
        if outcome.is_failure:
            self._failed += 1
            self._log.warning(outcome.event, peer=self._peer, **outcome.facts)
        elif outcome.event:
            self._log.info(outcome.event, peer=self._peer, **outcome.facts)
        if outcome.stored is not None:
            self._stored += 1
            self._events.stored(outcome.stored)

    def _send(self, encoded: bytes) -> None:
        if self._log.is_debug:
            self._log.debug(">", peer=self._peer, bytes=len(encoded), type=f"{encoded[0]:02X}H")
        self._has_answered = True
        try:
            self._socket.sendall(encoded)
        except sockets.GAVE_UP:
            raise TimedOut("stall-timeout ran out, for the peer does not read what is sent to it") from None

    def _abort(self, answer: AAbort) -> None:
        """Send A-ABORT; a peer that is gone can't hear it, and that is all the same."""
        with contextlib.suppress(OSError, TimedOut):
            self._send(self._association.abort(answer))
