"""messages -> a peer that we call -> its responses: an association of our own, whatever it is for. Every wait ends."""

import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dcmstore import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dcmstore.dimse import command
from dcmstore.dimse.command import RESPONSE_BIT, CommandSet
from dcmstore.dimse.message import MessageAssembly
from dcmstore.errors import AbortSource, DcmStoreError, ProtocolError, reason_of
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.framing import Fragment, Framing
from dcmstore.ul.items import ProposedContext, RoleSelection, UserInformation
from dcmstore.ul.pdu import PDU, AAbort, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRQ

_MAX_LENGTH = 16_384  # bytes of a PDU that we receive; responses are under 1 kB
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

    @classmethod
    def of(cls, seconds: float) -> Self:
        """The same for each."""
        return cls(seconds, seconds, seconds)


class RequestFailed(DcmStoreError):
    """The peer did not answer as it should; the text says how far it came.

    One that `is_lost` may be there on a new association.
    """

    def __init__(self, reason: str, *, is_lost: bool = False) -> None:
        super().__init__(reason)
        self.is_lost = is_lost


class Rejected(RequestFailed):
    """The peer does not want this association; `answer` is what it said."""

    def __init__(self, answer: AAssociateRJ) -> None:
        codes = f"result {answer.result}, source {answer.source}, reason {answer.reason}"
        super().__init__(f"association rejected: {negotiation.REJECT_REASONS.get(answer, codes)}")
        self.answer = answer


class NoPeer(RequestFailed):
    """The network does not lead there, or what is there is silent or speaks something else."""


def association_request(
    called_ae_title: str,
    calling_ae_title: str,
    proposals: Iterable[tuple[str, tuple[str, ...]]],
    role_selections: tuple[RoleSelection, ...] = (),
) -> AAssociateRQ:
    """`proposals` are abstract syntaxes, each with the transfer syntaxes of a context of its own."""
    contexts = tuple(
        ProposedContext(2 * index + 1, abstract_syntax, transfer_syntaxes)  # odd numbers (PS3.8 9.3.2.2)
        for index, (abstract_syntax, transfer_syntaxes) in enumerate(proposals)
    )
    information = UserInformation(
        _MAX_LENGTH, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, role_selections=role_selections
    )
    return AAssociateRQ(called_ae_title, calling_ae_title, contexts, information)


class Association:
    """An open association. `host` is the peer's address. For one thread at a time, but for `cut`.

    `answers` are what the peer said to each context that was proposed, in their order; None where it said nothing.
    Every method raises RequestFailed; after that, `close` and `abort` are all that may be called. As a context
    manager it is released, or closed where something went wrong. `tls` secures the connection.
    """

    def __init__(
        self, address: tuple[str, int], request: AAssociateRQ, timeouts: Timeouts, tls: ssl.SSLContext | None = None
    ) -> None:
        self._timeouts = timeouts
        self._framing = Framing(0)
        self._arrived: deque[PDU | Fragment] = deque()
        self._message_id = 0
        self._is_between_pdus = True
        with _in_words(timeouts.connect):
            self._socket = socket.create_connection(address, timeouts.connect)
        try:
            if tls:
                with _in_words(timeouts.connect):
                    self._socket = tls.wrap_socket(self._socket, server_hostname=address[0])
            with _in_words(timeouts.step):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.host = str(self._socket.getpeername()[0])
                answer = self._associate(request)
        except BaseException:
            self._socket.close()
            raise
        self.peer_information = answer.user_information
        self.peer_max_length = answer.user_information.max_length_received
        answers = {one.context_id: one for one in answer.presentation_contexts}
        self.answers = [answers.get(one.context_id) for one in request.presentation_contexts]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.release()
        else:
            self.close()

    def new_message_id(self) -> int:
        self._message_id = self._message_id % _MAX_MESSAGE_ID + 1
        return self._message_id

    def send_command(self, context_id: int, command_set: CommandSet) -> None:
        encoded = command.encode(command_set)
        self.send(pdu.encode_p_data(context_id, encoded, is_command=True, peer_max_length=self.peer_max_length))

    def send_data_set(self, context_id: int, data_set: bytes) -> None:
        self.send(pdu.encode_p_data(context_id, data_set, is_command=False, peer_max_length=self.peer_max_length))

    def send(self, encoded: bytes) -> None:
        """Send whole PDUs."""
        with _in_words(self._timeouts.step):
            self._socket.settimeout(self._timeouts.step)
            self._is_between_pdus = False
            self._socket.sendall(encoded)
            self._is_between_pdus = True

    def receive_response(self) -> tuple[int, CommandSet]:
        """The next response, and the ID of the context on which it came."""
        deadline = time.monotonic() + self._timeouts.response
        assembly = MessageAssembly()
        with _in_words(self._timeouts.response):
            while True:
                arrived = self._receive(deadline)
                if not isinstance(arrived, Fragment):
                    raise RequestFailed(f"{type(arrived).__name__} came in place of a response", is_lost=True)
                response = assembly.receive(arrived)
                if response is not None:
                    return arrived.context_id, response

    def receive_response_to(self, request: CommandSet) -> CommandSet:
        """The next response, which has to be the one to this request."""
        _, response = self.receive_response()
        expected = request.command_field | RESPONSE_BIT, request.message_id
        came = response.command_field, response.message_id_being_responded_to
        if came != expected:
            raise RequestFailed(f"{_named(*came)} came in place of {_named(*expected)}")
        return response

    def release(self, seconds: float | None = None) -> None:
        """What was answered is answered, however the peer takes leave, and whether it does in these seconds."""
        seconds = seconds or self._timeouts.step
        with contextlib.suppress(RequestFailed), _in_words(seconds):
            self.send(pdu.encode(AReleaseRQ()))
            deadline = time.monotonic() + seconds
            while isinstance(self._receive(deadline), Fragment):  # the data set of a response
                pass
        self._socket.close()

    def close(self) -> None:
        """End it without a word."""
        self._socket.close()

    def abort(self) -> None:
        """End it at once. An A-ABORT must not end up in a PDU that is under way: it would complete the data set."""
        if self._is_between_pdus:
            with contextlib.suppress(OSError):
                self._socket.settimeout(0)
                self._socket.send(pdu.encode(AAbort(AbortSource.SERVICE_USER, 0)))
        self._socket.close()

    def cut(self) -> None:
        """End the wait of the thread that has it, which then gets RequestFailed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _associate(self, request: AAssociateRQ) -> AAssociateAC:
        self.send(pdu.encode(request))
        answer = self._receive(time.monotonic() + self._timeouts.step)
        if isinstance(answer, AAssociateRJ):
            raise Rejected(answer)
        if not isinstance(answer, AAssociateAC):
            raise RequestFailed(f"{type(answer).__name__} came in place of an answer to the association request")
        return answer

    def _receive(self, deadline: float) -> PDU | Fragment:
        """The next PDU or fragment, however slowly its bytes come."""
        while not self._arrived:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            chunk = self._socket.recv(_MAX_LENGTH)
            if not chunk:
                raise RequestFailed("the peer closed the connection", is_lost=True)
            self._arrived.extend(self._framing.receive(memoryview(chunk)))
        return self._arrived.popleft()


def _named(command_field: int, message_id: int | None) -> str:
    return f"{command.name_of(command_field)} to message {message_id}"


@contextlib.contextmanager
def _in_words(seconds: float) -> Iterator[None]:
    """What the network does within the context raises NoPeer."""
    try:
        yield
    except ProtocolError as error:
        raise NoPeer(f"what answers is not DICOM ({error})") from None
    except TimeoutError:
        raise NoPeer(f"no answer within {seconds:g} s") from None
    except OSError as error:
        raise NoPeer(reason_of(error), is_lost=True) from None
    except UnicodeError:  # what the encoding of host names makes of an empty or a long part
        raise NoPeer("not the name of a host") from None
