"""an object -> C-STORE requests and their answers: an association of ours with a peer (PS3.7 9.1.1).

The data set passes in pieces from the file to the socket, as it is. Every wait ends.
"""

import contextlib
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dcmstore import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dcmstore.dimse import command
from dcmstore.dimse.command import RESPONSE_BIT, CommandField, CommandSet
from dcmstore.dimse.message import MessageAssembly
from dcmstore.errors import AbortSource, DcmStoreError, ProtocolError, reason_of
from dcmstore.forwarding import fragments
from dcmstore.forwarding.outgoing import Context, Outgoing
from dcmstore.forwarding.peers import Peer
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.framing import Fragment, Framing
from dcmstore.ul.items import ContextResult, ProposedContext, UserInformation
from dcmstore.ul.pdu import PDU, AAbort, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRQ

_MAX_LENGTH = 16_384  # bytes of a PDU that we receive; responses are under 1 kB
_LOW = 0x0002  # Priority (PS3.7 9.3.1.1): whatever else the peer receives goes first
_WITH_DATA_SET = 0x0000  # Command Data Set Type: any value but 0101H (PS3.7 E.1)
_MAX_MESSAGE_ID = 0xFFFF  # PS3.7 E.1: US


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a peer.

    `step` is for an answer to an association request or a release, and for a piece of a data set to be taken;
    `response` is for what a peer does with a whole object, which may be to compress it.
    """

    connect: float = 10.0
    step: float = 30.0
    response: float = 120.0


class SendingFailed(DcmStoreError):
    """The peer did not take it; the text says how far it came. One that `is_lost` may be there on a new association."""

    def __init__(self, reason: str, *, is_lost: bool = False) -> None:
        super().__init__(reason)
        self.is_lost = is_lost


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer says of an object that was sent to it."""

    status: int
    comment: str = ""


class Association:
    """An open association. `host` is the peer's address. For one thread at a time, but for `cut`.

    Every method raises SendingFailed; after that, `close` is all that may be called.
    """

    def __init__(self, peer: Peer, calling_ae_title: str, contexts: Sequence[Context], timeouts: Timeouts) -> None:
        self.peer = peer
        self.is_used = False  # an object was sent and answered
        self._timeouts = timeouts
        self._framing = Framing(0)
        self._arrived: deque[PDU | Fragment] = deque()
        self._message_id = 0
        self._is_between_pdus = True
        with _in_words(timeouts.connect):
            self._socket = socket.create_connection((peer.host, peer.port), timeouts.connect)
        try:
            with _in_words(timeouts.step):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.host = str(self._socket.getpeername()[0])
                answer = self._request(calling_ae_title, contexts)
        except SendingFailed:
            self._socket.close()
            raise
        self._peer_max_length = answer.user_information.max_length_received
        results = {one.context_id: one for one in answer.presentation_contexts}
        self._results = {
            context: (context_id, results[context_id].result, results[context_id].transfer_syntax)
            for context_id, context in _numbered(contexts)
            if context_id in results
        }

    def accepts(self, context: Context) -> bool:
        return self._context_id(context) is not None

    def result_of(self, context: Context) -> ContextResult | None:
        """The peer's answer to a context that was proposed; None where it said nothing, or names another syntax."""
        _, result, transfer_syntax = self._results.get(context, (0, None, ""))
        is_other = result is ContextResult.ACCEPTANCE and transfer_syntax != context.transfer_syntax
        return None if is_other else result

    def store(self, outgoing: Outgoing) -> Answer:
        """Send an object in a context that was accepted. Raises OSError for its file, too."""
        context_id = self._context_id(outgoing.context)
        if context_id is None:
            raise ValueError(f"not accepted: {outgoing.context}")
        self._message_id = self._message_id % _MAX_MESSAGE_ID + 1
        request = CommandSet(
            CommandField.C_STORE_RQ,
            message_id=self._message_id,
            affected_sop_class_uid=outgoing.context.abstract_syntax,
            affected_sop_instance_uid=outgoing.sop_instance_uid,
            command_data_set_type=_WITH_DATA_SET,
            priority=_LOW,
        )
        encoded, peer_max_length = command.encode(request), self._peer_max_length
        self._send(pdu.encode_p_data(context_id, encoded, is_command=True, peer_max_length=peer_max_length))
        for data in fragments.pdus(outgoing, context_id, peer_max_length):
            self._send(data)
        with _in_words(self._timeouts.response):
            response = self._response()
        if response.status is None:
            raise SendingFailed("C-STORE answered without a Status")
        self.is_used = True
        return Answer(response.status, response.error_comment or "")

    def release(self, seconds: float | None = None) -> None:
        """What was answered is answered, however the peer takes leave, and whether it does in these seconds."""
        seconds = seconds or self._timeouts.step
        with contextlib.suppress(SendingFailed), _in_words(seconds):
            self._send(pdu.encode(AReleaseRQ()))
            self._receive(seconds)
        self._socket.close()

    def close(self) -> None:
        """End it at once. An A-ABORT must not end up in a PDU that is under way: it would complete the data set."""
        if self._is_between_pdus:
            with contextlib.suppress(OSError):
                self._socket.settimeout(0)
                self._socket.send(pdu.encode(AAbort(AbortSource.SERVICE_USER, 0)))
        self._socket.close()

    def cut(self) -> None:
        """End the wait of the thread that has it, which then gets SendingFailed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _request(self, calling_ae_title: str, contexts: Sequence[Context]) -> AAssociateAC:
        proposed = tuple(
            ProposedContext(context_id, context.abstract_syntax, (context.transfer_syntax,))
            for context_id, context in _numbered(contexts)
        )
        info = UserInformation(_MAX_LENGTH, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
        self._send(pdu.encode(AAssociateRQ(self.peer.ae_title, calling_ae_title, proposed, info)))
        answer = self._receive(self._timeouts.step)
        if isinstance(answer, AAssociateRJ):
            codes = f"result {answer.result}, source {answer.source}, reason {answer.reason}"
            raise SendingFailed(f"association rejected: {negotiation.REJECT_REASONS.get(answer, codes)}")
        if not isinstance(answer, AAssociateAC):
            raise SendingFailed(f"{type(answer).__name__} came in place of an answer to the association request")
        return answer

    def _context_id(self, context: Context) -> int | None:
        is_accepted = self.result_of(context) is ContextResult.ACCEPTANCE
        return self._results[context][0] if is_accepted else None

    def _response(self) -> CommandSet:
        deadline = time.monotonic() + self._timeouts.response
        assembly = MessageAssembly()
        while True:
            arrived = self._receive(deadline - time.monotonic())
            if not isinstance(arrived, Fragment):
                raise SendingFailed(f"{type(arrived).__name__} came in place of a response", is_lost=True)
            response = assembly.receive(arrived)
            if response is not None:
                break
        is_ours = response.message_id_being_responded_to == self._message_id
        if response.command_field != CommandField.C_STORE_RQ | RESPONSE_BIT or not is_ours:
            came = f"{command.name_of(response.command_field)} to message {response.message_id_being_responded_to}"
            raise SendingFailed(f"{came} came in place of C-STORE-RSP to message {self._message_id}")
        return response

    def _send(self, encoded: bytes) -> None:
        with _in_words(self._timeouts.step):
            self._socket.settimeout(self._timeouts.step)
            self._is_between_pdus = False
            self._socket.sendall(encoded)
            self._is_between_pdus = True

    def _receive(self, seconds: float) -> PDU | Fragment:
        """The next PDU or fragment, however slowly its bytes come."""
        deadline = time.monotonic() + seconds
        while not self._arrived:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            chunk = self._socket.recv(_MAX_LENGTH)
            if not chunk:
                raise SendingFailed("the peer closed the connection", is_lost=True)
            self._arrived.extend(self._framing.receive(memoryview(chunk)))
        return self._arrived.popleft()


def _numbered(contexts: Sequence[Context]) -> Iterator[tuple[int, Context]]:
    return ((2 * index + 1, context) for index, context in enumerate(contexts))  # odd numbers (PS3.8 9.3.2.2)


@contextlib.contextmanager
def _in_words(seconds: float) -> Iterator[None]:
    """What the network does within the context raises SendingFailed."""
    try:
        yield
    except ProtocolError as error:
        raise SendingFailed(f"what answers is not DICOM ({error})") from None
    except TimeoutError:
        raise SendingFailed(f"no answer within {seconds:g} s") from None
    except OSError as error:
        raise SendingFailed(reason_of(error), is_lost=True) from None
    except UnicodeError:  # what the encoding of host names makes of a part that is too long
        raise SendingFailed("not the name of a host") from None
