"""A report on an association of our own: what is proposed, and every way in which a peer may not take it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dcmstore import commitment
from dcmstore.commitment import action, call, event
from dcmstore.commitment.action import Action
from dcmstore.commitment.call import CallFailed
from dcmstore.commitment.event import FailureReason, Report
from dcmstore.dimse.command import RESPONSE_BIT, CommandField, CommandSet
from dcmstore.dimse.message import MessageAssembly
from dcmstore.ul.framing import Fragment
from dcmstore.ul.items import ContextResult, NegotiatedContext, RoleSelection, UserInformation
from dcmstore.ul.negotiation import CALLED_AE_TITLE_NOT_RECOGNIZED
from dcmstore.ul.pdu import AAbort, AAssociateAC, AAssociateRQ, AReleaseRP, AReleaseRQ, encode
from tests.commitment.support import EXPLICIT, IMPLICIT, TRANSACTION, WAIT, Called, ct, message
from tests.support import Peer, free_port

REPORT = Report(TRANSACTION, ct("1.2.1"))
RESPONSE = CommandSet(CommandField.N_EVENT_REPORT_RQ | RESPONSE_BIT, message_id_being_responded_to=1, status=0)
ROLE = RoleSelection(commitment.SOP_CLASS, False, True)


class Listening:
    """Plays one acceptor: what it was sent, and what it answers."""

    def __init__(
        self,
        answer: Callable[[AAssociateRQ], bytes] | None = None,
        response: bytes | None = None,
        syntax: str = EXPLICIT,
        roles: tuple[RoleSelection, ...] = (ROLE,),
        max_length: int = 16384,
    ) -> None:
        self._answer = answer or self.accept
        self._response = message(RESPONSE, b"") if response is None else response
        self._syntax, self._roles, self._max_length = syntax, roles, max_length
        self.request: AAssociateRQ | None = None
        self.command: CommandSet | None = None
        self.data_set = b""
        self.is_released = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Called("CT1", "127.0.0.1", self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def accept(self, request: AAssociateRQ, result: ContextResult = ContextResult.ACCEPTANCE) -> bytes:
        context = NegotiatedContext(request.presentation_contexts[0].context_id, result, self._syntax)
        info = UserInformation(self._max_length, "1.2.3", role_selections=self._roles)
        return encode(AAssociateAC(request.called_ae_title, request.calling_ae_title, (context,), info))

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(WAIT)
        with Peer(0, connection=connection) as peer, contextlib.suppress(OSError):
            request = peer.receive()
            assert isinstance(request, AAssociateRQ)
            self.request = request
            peer.send(self._answer(request))
            self._receive_message(peer)
            peer.send(self._response)
            self.is_released = peer.receive() == AReleaseRQ()
            peer.send(encode(AReleaseRP()))

    def _receive_message(self, peer: Peer) -> None:
        assembly = MessageAssembly()
        while self.command is None or not assembly.is_between_messages:
            arrived = peer.receive()
            if not isinstance(arrived, Fragment):
                raise OSError
            if not arrived.is_command:
                self.data_set += arrived.data
            self.command = assembly.receive(arrived) or self.command

    def close(self) -> None:
        self._thread.join(WAIT)
        self._listener.close()
        assert not self._thread.is_alive()


@contextlib.contextmanager
def listening(**changed: object) -> Iterator[Listening]:
    made = Listening(**changed)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("roles", [(ROLE,), ()], ids=["role answered", "nothing said"])
@pytest.mark.parametrize("max_length", [0, 128])
def test_a_report_is_sent_in_what_was_agreed_and_the_association_is_released(
    syntax: str, roles: tuple[RoleSelection, ...], max_length: int
) -> None:
    report = replace(REPORT, failed=((ct("1.2.2")[0], FailureReason.NO_SUCH_OBJECT_INSTANCE),))
    with listening(syntax=syntax, roles=roles, max_length=max_length) as peer:
        assert call.report(peer.address, "DCMSTORE", report) == RESPONSE
    assert peer.request is not None
    assert (peer.request.called_ae_title, peer.request.calling_ae_title) == ("CT1", "DCMSTORE")
    (context,) = peer.request.presentation_contexts
    assert (context.abstract_syntax, context.transfer_syntaxes) == (commitment.SOP_CLASS, (EXPLICIT, IMPLICIT))
    assert peer.request.user_information.role_selections == (ROLE,)
    assert peer.command == event.request(report, 1)
    assert peer.data_set == event.encode(report, syntax)
    assert peer.is_released


def test_a_response_with_a_data_set_is_a_response() -> None:
    response = replace(RESPONSE, command_data_set_type=0)
    with listening(response=message(response, b"anything")) as peer:
        assert call.report(peer.address, "DCMSTORE", REPORT) == response
    assert peer.is_released


def rejecting(_: AAssociateRQ) -> bytes:
    return encode(CALLED_AE_TITLE_NOT_RECOGNIZED)


def aborting(_: AAssociateRQ) -> bytes:
    return encode(AAbort(0, 0))


def speaking_http(_: AAssociateRQ) -> bytes:
    return b"HTTP/1.1 400 Bad Request\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (rejecting, "association rejected: called-AE-title-not-recognized"),
        (aborting, "AAbort came in place of an answer to the association request"),
        (speaking_http, "what answers is not DICOM"),
    ],
)
def test_a_peer_that_wants_no_association_is_told(answer: Callable[[AAssociateRQ], bytes], reason: str) -> None:
    with listening(answer=answer) as peer, pytest.raises(CallFailed, match=reason) as failure:
        call.report(peer.address, "DCMSTORE", REPORT)
    assert str(failure.value).startswith(f"CT1 at 127.0.0.1 port {peer.address.port}: ")


def test_a_peer_that_takes_no_reports_is_told() -> None:
    with listening() as peer:
        peer._answer = lambda request: peer.accept(request, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)
        with pytest.raises(CallFailed, match="it takes no reports of storage commitment"):
            call.report(peer.address, "DCMSTORE", REPORT)


def test_a_peer_that_refuses_our_role_is_told() -> None:
    refused = (RoleSelection(commitment.SOP_CLASS, False, False),)
    with listening(roles=refused) as peer, pytest.raises(CallFailed, match="does not let us be the SCP"):
        call.report(peer.address, "DCMSTORE", REPORT)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (encode(AAbort(0, 0)), "AAbort came in place of a response"),
        (
            message(replace(RESPONSE, message_id_being_responded_to=2), b""),
            "N-EVENT-REPORT-RSP to message 2 came in place of N-EVENT-REPORT-RSP to message 1",
        ),
        (message(replace(RESPONSE, command_field=0x8001), b""), "C-STORE-RSP to message 1 came in place"),
    ],
)
def test_a_peer_that_answers_something_else_is_told(response: bytes, reason: str) -> None:
    with listening(response=response) as peer, pytest.raises(CallFailed, match=reason):
        call.report(peer.address, "DCMSTORE", REPORT)


def test_a_peer_that_says_nothing_is_not_waited_for_without_end() -> None:
    with listening(response=b"") as peer, pytest.raises(CallFailed, match=r"no answer within 0\.2 s"):
        call.report(peer.address, "DCMSTORE", REPORT, timeout=0.2)


def test_a_peer_that_is_not_there_is_told() -> None:
    with pytest.raises(CallFailed, match=r"CT1 at 127\.0\.0\.1 port"):
        call.report(Called("CT1", "127.0.0.1", free_port()), "DCMSTORE", REPORT)
    with pytest.raises(CallFailed, match="not the name of a host"):
        call.report(Called("CT1", "a" * 70 + ".example", 104), "DCMSTORE", REPORT)


def test_a_report_is_what_a_request_is_read_as() -> None:
    assert action.decode(event.encode(REPORT, EXPLICIT), EXPLICIT) == Action(TRANSACTION, ct("1.2.1"))
