"""The SCU against peers that answer in every way but the right one, each scripted on a free loopback port."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from dcmstore import IMPLEMENTATION_CLASS_UID, scu, uids
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.scu import Peer, Rejected, ScuFailed
from dcmstore.ul import pdu
from dcmstore.ul.framing import Framing
from dcmstore.ul.items import ContextResult, NegotiatedContext, UserInformation
from dcmstore.ul.pdu import AAbort, AAssociateAC, AAssociateRJ, AReleaseRP
from tests.support import CT, Receiver, data_set, stored_data_set

C_ECHO_RSP = CommandField.C_ECHO_RQ | command.RESPONSE_BIT
C_STORE_RSP = CommandField.C_STORE_RQ | command.RESPONSE_BIT
CLOSE = b""  # in place of an answer
RELEASED = pdu.encode(AReleaseRP())


def accepted(*contexts: NegotiatedContext) -> bytes:
    return pdu.encode(AAssociateAC("ANY-SCP", "DCMSTORE", contexts, UserInformation(16384, "1.2.3")))


def context(context_id: int, result: ContextResult = ContextResult.ACCEPTANCE) -> NegotiatedContext:
    return NegotiatedContext(context_id, result, uids.IMPLICIT_VR_LITTLE_ENDIAN)


def response(status: int | None = 0, context_id: int = 1) -> bytes:
    answer = CommandSet(C_ECHO_RSP, message_id_being_responded_to=1, status=status)
    return pdu.encode_p_data(context_id, command.encode(answer), is_command=True, peer_max_length=0)


@contextlib.contextmanager
def peer(*answers: bytes) -> Iterator[int]:
    """A peer that sends one answer for each PDU that comes, and then closes; its port."""

    def serve() -> None:
        connection, _ = listener.accept()
        connection.settimeout(10)
        framing = Framing(0)
        with connection:
            for answer in answers:
                while not list(framing.receive(memoryview(connection.recv(65536)))):
                    pass
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)
        assert not thread.is_alive()


def called(port: int, host: str = "127.0.0.1", timeout: float = 10) -> Peer:
    return Peer(host=host, port=port, called_ae_title="ANY-SCP", calling_ae_title="DCMSTORE", timeout=timeout)


def echo(port: int, host: str = "127.0.0.1", timeout: float = 10) -> float:
    return scu.echo(called(port, host, timeout))


@pytest.mark.parametrize(
    "farewell",
    [RELEASED, CLOSE, pdu.encode(AAbort(0, 0)), b"\x99\0\0\0\0\0"],
    ids=["release", "close", "abort", "rubbish"],
)
def test_an_answered_echo_is_answered_however_the_peer_takes_leave(farewell: bytes) -> None:
    with peer(accepted(context(1)), response(), farewell) as port:
        assert 0 < echo(port) < 10


def test_the_context_is_found_by_its_id() -> None:
    answer = accepted(context(3, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED), context(1))
    with peer(answer, response(), RELEASED) as port:
        assert echo(port) > 0


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((CLOSE,), "the peer closed the connection"),
        ((pdu.encode(AAssociateRJ(1, 1, 7)),), "association rejected: called-AE-title-not-recognized"),
        ((pdu.encode(AAbort(2, 0)),), "AAbort came in place of an answer to the association request"),
        ((accepted(),), "does not say whether it offers Verification"),
        ((accepted(context(3)),), "does not say whether it offers Verification"),
        (
            (accepted(context(3), context(1, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED)),),
            "the peer does not offer Verification",
        ),
        ((accepted(context(1)), CLOSE), "the peer closed the connection"),
        ((accepted(context(1)), RELEASED), "AReleaseRP came in place of a response"),
        ((accepted(context(1)), response(context_id=3)), "a response came on presentation context 3, not 1"),
        ((accepted(context(1)), response(None)), "C-ECHO answered without a Status"),
        ((accepted(context(1)), response(0x0122)), "C-ECHO answered with status 0122H"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), "what answers is not DICOM"),
    ],
)
def test_anything_else_is_a_no_that_says_how_far_it_came(answers: tuple[bytes, ...], expected: str) -> None:
    with peer(*answers) as port, pytest.raises(ScuFailed, match=expected) as caught:
        echo(port)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["no..name", "x" * 70])
def test_a_host_that_can_have_no_such_name_is_a_no(host: str) -> None:
    with pytest.raises(ScuFailed, match="port 104: not the name of a host"):
        echo(104, host)


def test_a_silent_peer_is_a_no_after_the_timeout() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ScuFailed, match=r"no answer within 0\.05 s"),
    ):
        echo(silent.getsockname()[1], timeout=0.05)


def test_a_peer_that_answers_a_byte_at_a_time_is_not_waited_for_longer() -> None:
    is_over = threading.Event()

    def dribble() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            for byte in accepted(context(1)):
                connection.sendall(bytes((byte,)))
                if is_over.wait(0.05):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=dribble)
        thread.start()
        with pytest.raises(ScuFailed, match=r"no answer within 0\.2 s"):
            echo(listener.getsockname()[1], timeout=0.2)
        is_over.set()
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize(("text", "seconds"), [("10", 10.0), ("0.5", 0.5), ("86400", 86_400.0)])
def test_a_timeout_is_read(text: str, seconds: float) -> None:
    assert scu.timeout(text) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e300", "86401", "", "soon"])
def test_a_timeout_that_nobody_can_wait_for_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        scu.timeout(text)


# --- C-STORE -------------------------------------------------------------------------------------


def store(port: int, encoded: bytes = b"\x08\x00\x16\x00UI\x02\x001.") -> float:
    with scu.associated(called(port), {CT: (uids.EXPLICIT_VR_LITTLE_ENDIAN,)}) as association:
        return association.store(CT, "1.2.3.4", encoded)


def test_an_echo_and_two_objects_go_over_one_association(receiver: Receiver) -> None:
    proposals = {uids.VERIFICATION: (uids.IMPLICIT_VR_LITTLE_ENDIAN,), CT: (uids.EXPLICIT_VR_LITTLE_ENDIAN,)}
    with scu.associated(called(receiver.port), proposals) as association:
        assert association.echo() > 0
        for uid in ("1.2.3.4", "1.2.3.5"):
            assert association.store(CT, uid, data_set(uid, pixels=bytes(100_000))) > 0
        assert association.peer_information.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert [path.name for path in receiver.files()] == ["1.2.3.4.dcm", "1.2.3.5.dcm"]
    assert stored_data_set(receiver.files()[0]) == data_set("1.2.3.4", pixels=bytes(100_000))


def test_the_transfer_syntax_is_the_one_that_was_agreed_on(receiver: Receiver) -> None:
    proposals = {CT: (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)}
    with scu.associated(called(receiver.port), proposals) as association:
        assert association.transfer_syntax_of(CT) == uids.EXPLICIT_VR_LITTLE_ENDIAN


def test_a_class_that_is_not_accepted_is_a_no_in_words() -> None:
    with (
        peer(accepted(context(1, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED))) as port,
        pytest.raises(ScuFailed, match="the peer does not offer CT Image Storage"),
    ):
        store(port)


def test_a_refused_object_is_a_no_with_status_and_comment() -> None:
    answer = CommandSet(C_STORE_RSP, message_id_being_responded_to=1, status=0xA700, error_comment="disk is full")
    refused = pdu.encode_p_data(1, command.encode(answer), is_command=True, peer_max_length=0)
    with (
        peer(accepted(context(1)), refused) as port,
        pytest.raises(ScuFailed, match=r"C-STORE answered with status A700H \(disk is full\)"),
    ):
        store(port)


def test_a_rejection_says_which_one_it_was() -> None:
    rejection = AAssociateRJ(2, 3, 2)
    with peer(pdu.encode(rejection)) as port, pytest.raises(Rejected, match="local-limit-exceeded") as caught:
        store(port)
    assert caught.value.answer == rejection
