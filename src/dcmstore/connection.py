"""one transport connection -> its association, on a thread of its own, with blocking I/O.

The thread reads from top to bottom: receive bytes, hand them to the association, hand its fragments to the service
provider, send what comes back.
"""

import contextlib
import mmap
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dcmstore import access, commitment, sockets, uids
from dcmstore.access import Access, Refusal
from dcmstore.audit.messages import Peer
from dcmstore.commitment.line import QUIET, Line
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField
from dcmstore.errors import AbortReason, AbortSource, DcmStoreError, ProtocolError
from dcmstore.events import AssociationEvents
from dcmstore.logs import Log
from dcmstore.seldom import Teller
from dcmstore.services.operation import Outcome
from dcmstore.services.provider import Service, ServiceProvider
from dcmstore.tls import identity, transport
from dcmstore.tls.renewal import NotReady, Renewal
from dcmstore.tls.transport import TlsError, TlsSocket
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.association import Association, State
from dcmstore.ul.framing import Fragment
from dcmstore.ul.items import ContextResult
from dcmstore.ul.negotiation import Policy
from dcmstore.ul.pdu import AAbort, AAssociateAC, AAssociateRQ, AReleaseRQ
from dcmstore.ul.timers import Limits, Phase, Timers

if TYPE_CHECKING:
    from dcmstore.services.commitment import CommitmentService

# Bytes an association, while data comes: few calls for large objects (docs/decisions/0012). Less on Windows, which
# can't give pages back in a pause.
RECEIVE_BUFFER = (256 if sys.platform == "win32" else 1024) * 1024
# Who has sent much ahead, such as a flood of C-ECHO, gets one answer right after the other, and Python then lets nobody
# else in: who waits for the interpreter is woken at each, and finds it taken again. So after so many answers without a
# receive the thread steps aside, for so many seconds.
COURTEOUS_AFTER, ASIDE = 32, 0.0001
MAX_IGNORED = 64 * 1024 * 1024  # bytes after the end of an association; who sends more does not read that it is over
# Seconds between looks at the timers while nothing comes; on Windows also until a connection hears that it is to end.
TICK = 1.0 if sys.platform == "win32" else 5.0

_TIMER_KEYS = {Phase.ARTIM: "artim-timeout", Phase.IDLE: "idle-timeout", Phase.MESSAGE: "stall-timeout"}


class TimedOut(DcmStoreError):
    """The peer let a timer run out; the text says which."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an association ends, in the words of the log."""

    words: str
    is_orderly: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What all connections that came under the same settings have in common."""

    policy: Policy
    access: Access
    tls: Renewal | None
    limits: Limits
    services: Mapping[int, Service]
    log: Log
    new_events: Callable[[], AssociationEvents]
    commitment: "CommitmentService | None" = None


class Served(Protocol):
    """A connection as its registry sees it: Connection, or one that a process of its own serves."""

    host: str
    calling_ae_title: str
    shared: Shared
    stored: int

    def start(self) -> None: ...

    def drain(self) -> None: ...

    def cut(self) -> None: ...

    def join(self, timeout: float) -> None: ...


class Registry(Protocol):
    """Who keeps the connections and counts the associations."""

    @property
    def is_stopping(self) -> bool: ...

    @property
    def seldom(self) -> Teller: ...

    def admit(self, connection: Served) -> str:
        """Count a connection as an association, or say why not."""

    def dismiss(self, connection: Served) -> None: ...

    def forget(self, connection: Served) -> None: ...


class Connection:
    """`start` it once; `drain`, `cut` and `join` are for another thread. It forgets itself at its end."""

    def __init__(
        self,
        peer_socket: socket.socket,
        address: tuple[object, ...],
        shared: Shared,
        registry: Registry,
        *,
        is_secure: bool = False,
    ) -> None:
        self._socket = peer_socket
        self._is_secure = is_secure
        self.host = sockets.host_of(address)
        self._peer = peer = sockets.show_address(address)
        self.shared = shared
        self._log = shared.log
        self._registry = registry
        self._association = Association(shared.policy.max_length_received)
        self._timers = Timers(shared.limits, time.monotonic())
        self._provider: ServiceProvider | None = None
        self._line: Line | None = None  # where the requestor may be asked something
        self._events = shared.new_events()
        self._ending: Ending | None = None
        self._sent = 1  # messages since the last receive
        self._ignored = 0  # bytes since the end of the association
        self.calling_ae_title = ""
        self.stored = 0
        self._failed = 0
        self._is_cut = False
        self._thread = threading.Thread(target=self._run, name=f"association {peer}", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError when the system gives no more threads."""
        self._thread.start()

    def close(self) -> None:
        self._socket.close()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def drain(self) -> None:
        """Leave once no message is under way."""
        if self.is_idle:
            self.cut()

    def cut(self) -> None:
        """Leave now."""
        self._is_cut = True
        sockets.wake(self._socket)

    @property
    def is_idle(self) -> bool:
        """True while no message is under way, its storing included. `cut` lets an answer out that is being sent."""
        if self._association.state is State.AWAITING_CLOSE:
            return True
        has_message = self._provider is not None and not self._provider.is_between_messages
        return self._association.is_between_pdus and not has_message

    # --- the thread, from its first step to its last ---------------------------------------------

    def _run(self) -> None:
        started = time.monotonic()
        try:
            with contextlib.closing(self):
                ending = self._serve_fenced()
            self._log_end(ending, time.monotonic() - started)
        finally:
            self._registry.forget(self)

    def _log_end(self, ending: Ending, seconds: float) -> None:
        if self._provider is None:  # a port scan, a load balancer's probe, or a sender whose rejection has been told
            self._log.debug("connection.ended", peer=self._peer, how=ending.words, seconds=f"{seconds:.3f}")
            return
        (self._log.info if ending.is_orderly else self._log.warning)(
            "association.ended",
            peer=self._peer,
            calling=self.calling_ae_title,
            how=ending.words,
            stored=self.stored,
            failed=self._failed or None,
            seconds=f"{seconds:.3f}",
        )

    def _serve_fenced(self) -> Ending:
        """Serve, and whatever happens leave nothing behind: a fault of ours ends one association, not the service."""
        try:
            self._prepare()
            return self._serve()
        except TimedOut as timer:
            return Ending(str(timer))
        except TlsError as error:
            if not error.said_nothing:
                event = "tls.not_ready" if isinstance(error, NotReady) else "tls.failed"
                kind = (self.host, str(error))
                self._registry.seldom.tell(kind, event, host=self.host, peer=self._peer, reason=error)
            return Ending("no TLS connection")
        except OSError as error:
            return Ending(f"connection lost: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001  the fence of an association
            self._log.error("association.fault", peer=self._peer, calling=self.calling_ae_title, error=repr(error))
            self._abort(AAbort(AbortSource.SERVICE_PROVIDER, AbortReason.NOT_SPECIFIED))
            return Ending("fault of the receiver")
        finally:
            self._cancel()
            if self._line is not None:
                self._line.close()
            self._events.ended()
            self._association.close()

    def _prepare(self) -> None:
        """Tune the socket, and put TLS around it where that is wanted: here, for a handshake may take its time."""
        sockets.tune(self._socket)
        limits = self.shared.limits
        if not self._is_secure:
            self._limit_waiting()
            return
        if self.shared.tls is None:  # it waited at a port that a reload has closed
            raise TlsError("tls-port was switched off", said_nothing=True)
        self._socket = secured = transport.wrap(self.shared.tls.context(), self._socket)
        transport.shake_hands(secured, limits.artim)
        self._limit_waiting()

    def _limit_waiting(self, longest: float = TICK) -> None:
        """Let a receive wait no longer, so that the thread can look at what else there is to do."""
        limits = self.shared.limits
        receive, send = min(longest, TICK, limits.shortest), limits.stall
        if isinstance(self._socket, TlsSocket):
            self._socket.limit_waiting(receive=receive, send=send)
        else:
            sockets.limit_waiting(self._socket, receive=receive, send=send)

    def _cancel(self) -> None:
        """Drop a message that will not be completed; its sender got no success for it and has to send it again."""
        lost = self._provider.cancel() if self._provider is not None else {}
        if lost:
            self._log.warning("instance.incomplete", peer=self._peer, **lost)

    def _serve(self) -> Ending:
        """Receive until the association is over and the peer has closed."""
        buffer = sockets.receive_buffer(RECEIVE_BUFFER)
        view = memoryview(buffer)
        while not self._is_over():
            size = self._receive(buffer)
            if not size:
                break
            try:
                for event in self._association.receive(view[:size]):
                    if type(event) is Fragment:
                        self._perform(event)
                    else:
                        self._handle(event)
            except ProtocolError as error:
                self._log.warning("association.aborted", peer=self._peer, calling=self.calling_ae_title, reason=error)
                self._registry.dismiss(self)
                self._ending = Ending(f"aborted: {error}")
                self._abort(pdu.abort_for(error))
            self._timers.progress(self._phase(), size, time.monotonic())
            if self._association.state is State.AWAITING_CLOSE:
                self._ignored += size
        return self._ending or self._end_unasked()

    def _is_over(self) -> bool:
        """True when the connection is ours to close, and when the receiver stops between two messages."""
        is_leaving = self._registry.is_stopping and self._ending is None and self.is_idle
        return is_leaving or self._association.state is State.IDLE or self._ignored > MAX_IGNORED

    def _end_unasked(self) -> Ending:
        """Nobody released or aborted: the peer has closed, or we leave it."""
        if not self._registry.is_stopping:
            return Ending("peer closed the connection without a release")
        if self._association.state is not State.AWAITING_ASSOCIATE_RQ:
            self._abort(AAbort(AbortSource.SERVICE_USER, AbortReason.NOT_SPECIFIED))
        return Ending("receiver stops")

    def _receive(self, buffer: mmap.mmap) -> int:  # hot: bench
        """The next bytes of the stream; 0 when the peer has closed, or has had its time to."""
        while self._timers.remaining(time.monotonic()) > 0:
            if not self._sent:  # else an answer has carried the acknowledgement
                sockets.acknowledge_now(self._socket)
            try:
                size = self._socket.recv_into(buffer)
            except sockets.GAVE_UP:
                if self._is_cut:  # Windows does not end a receive for that
                    return 0
                if self.is_idle:
                    sockets.let_go(buffer)
                    self._ask()
                continue
            self._sent = 0
            return size
        if self._ending is not None:
            return 0
        if self._association.state is not State.AWAITING_ASSOCIATE_RQ:
            self._abort(AAbort(AbortSource.SERVICE_PROVIDER, AbortReason.NOT_SPECIFIED))
        raise TimedOut(f"{_TIMER_KEYS[self._timers.phase]} ran out")

    def _phase(self) -> Phase:
        if self._association.state in (State.AWAITING_ASSOCIATE_RQ, State.AWAITING_CLOSE):
            return Phase.ARTIM
        return Phase.IDLE if self.is_idle else Phase.MESSAGE

    # --- what arrives ----------------------------------------------------------------------------

    def _handle(self, event: object) -> None:
        """Everything but data."""
        match event:
            case AAssociateRQ():
                self._negotiate(event)
            case AReleaseRQ():
                self._registry.dismiss(self)
                self._ending = Ending("released", is_orderly=True)
                self._send(self._association.release())
            case AAbort(source, reason):
                self._ending = Ending(f"peer aborted (source {source}, reason {reason})")

    def _negotiate(self, request: AAssociateRQ) -> None:
        self.calling_ae_title = request.calling_ae_title
        if self._log.is_debug:
            self._log.debug("<", peer=self._peer, pdu=request)
        facts = {"peer": self._peer, "calling": request.calling_ae_title, "called": request.called_ae_title}
        if refusal := self._refusal(request):
            reason = negotiation.REJECT_REASONS[refusal.answer]
            kind = (self.host, self.calling_ae_title, reason, refusal.because)
            why = {"reason": reason, "because": refusal.because}
            self._registry.seldom.tell(kind, "association.rejected", host=self.host, **facts, **why)
            self._ending = Ending(f"rejected: {reason}")
            self._send(self._association.reject(refusal.answer))
            return
        answer = negotiation.acceptance(request, self.shared.policy)
        accepted = self._accepted_contexts(request, answer)
        info = request.user_information
        self._log.info(
            "association.accepted",
            **facts,
            contexts=f"{len(accepted)}/{len(request.presentation_contexts)}",
            implementation=info.implementation_version_name or info.implementation_class_uid,
            tls=identity.description_of(self._socket) if isinstance(self._socket, TlsSocket) else None,
        )
        self._events.began(Peer(self.host, self.calling_ae_title, access.user_name_in(info.user_identity)))
        services = self._services(accepted)
        self._provider = ServiceProvider(accepted, services, request.calling_ae_title, self._line)
        self._send(self._association.accept(answer, info.max_length_received))

    def _services(self, accepted: Mapping[int, tuple[str, str]]) -> Mapping[int, Service]:
        """What performs the requests; where commitment may be asked for, with a line that is opened for the report."""
        service = self.shared.commitment
        context_ids = [one for one, (abstract_syntax, _) in accepted.items() if abstract_syntax == commitment.SOP_CLASS]
        if service is None or not context_ids:
            return self.shared.services
        self._line = service.lines.open(context_ids[0], accepted[context_ids[0]][1])
        self._limit_waiting(QUIET)
        return {**self.shared.services, CommandField.N_ACTION_RQ: service.on(self._line, self.host)}

    def _refusal(self, request: AAssociateRQ) -> Refusal | None:
        """What stands against the association; what may be otherwise in a minute comes last."""
        if rejection := negotiation.rejection(request, self.shared.policy):
            return Refusal(rejection)
        certified = list(identity.names_of(self._socket)) if isinstance(self._socket, TlsSocket) else []
        if refusal := self.shared.access.refusal(request, self.host, certified):
            return refusal
        if obstacle := self._registry.admit(self):
            return Refusal(negotiation.LOCAL_LIMIT_EXCEEDED, obstacle)
        return None

    def _accepted_contexts(self, request: AAssociateRQ, answer: AAssociateAC) -> dict[int, tuple[str, str]]:
        """What was agreed, by context ID; what was not is logged, for it is why a sender's objects stay away."""
        accepted = {}
        for proposed, negotiated in zip(request.presentation_contexts, answer.presentation_contexts, strict=True):
            if negotiated.result is ContextResult.ACCEPTANCE:
                accepted[proposed.context_id] = (proposed.abstract_syntax, negotiated.transfer_syntax)
                continue
            syntaxes = ", ".join(map(uids.name_of, proposed.transfer_syntaxes))
            self._registry.seldom.tell(
                (self.host, self.calling_ae_title, proposed.abstract_syntax, syntaxes, negotiated.result),
                "context.rejected",
                peer=self._peer,
                calling=request.calling_ae_title,
                context_id=proposed.context_id,
                sop_class=uids.name_of(proposed.abstract_syntax),
                uid=proposed.abstract_syntax,
                transfer_syntaxes=syntaxes,
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

    # --- what is sent ----------------------------------------------------------------------------

    def _answer(self, context_id: int, outcome: Outcome) -> None:
        """Send the response first; what was done is told after it, also when the peer can't hear it any more."""
        is_heard = False
        try:
            if outcome.response is not None:
                self._send(self._association.send_command(context_id, command.encode(outcome.response)))
            is_heard = True
        finally:
            self._tell(outcome, is_heard=is_heard)

    def _ask(self) -> None:
        """Nothing has come for a moment: send what another thread wants to ask of the requestor."""
        if self._line is None or self._association.state is not State.ESTABLISHED:
            return
        question = self._line.take()
        if question is not None:
            context_id = self._line.context_id
            self._send(self._association.send_command(context_id, command.encode(question.request)))
            self._send(self._association.send_data_set(context_id, question.data_set))

    def _tell(self, outcome: Outcome, *, is_heard: bool) -> None:
        self._failed += outcome.is_failure
        self.stored += outcome.stored is not None
        if outcome.event:
            log = self._log.warning if outcome.is_failure or not is_heard else self._log.info
            log(outcome.event, peer=self._peer, **outcome.facts, answered=None if is_heard else "no")
        self._events.performed(outcome)

    def _send(self, encoded: bytes) -> None:
        if self._log.is_debug:
            self._log.debug(">", peer=self._peer, bytes=len(encoded), type=f"{encoded[0]:02X}H")
        self._sent += 1
        try:
            sockets.send_all(self._socket, encoded, self.shared.limits.stall)
        except sockets.GAVE_UP:
            raise TimedOut("stall-timeout ran out, for the peer does not read what is sent to it") from None
        if self._sent % COURTEOUS_AFTER == 0:
            time.sleep(ASIDE)

    def _abort(self, answer: AAbort) -> None:
        """Send A-ABORT; a peer that is gone can't hear it, and that is all the same."""
        with contextlib.suppress(OSError, TimedOut):
            self._send(self._association.abort(answer))
