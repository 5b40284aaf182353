"""A Verification SCU of a few lines: `dcmstore echo`, and the health check of a container."""

import contextlib
import socket
import time
from collections.abc import Iterator

from dcmstore import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, uids
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.dimse.message import MessageAssembly
from dcmstore.errors import DcmStoreError, ProtocolError, reason_of
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.framing import Fragment, Framing
from dcmstore.ul.items import ContextResult, ProposedContext, UserInformation
from dcmstore.ul.pdu import PDU, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRQ

_MAX_LENGTH = 16_384  # bytes
_CONTEXT_ID = 1
MAX_TIMEOUT = 86_400  # seconds; more than the system's own limits is an error there
TIMEOUT_ALLOWED = f"a number of seconds over 0, up to {MAX_TIMEOUT}"


class EchoFailed(DcmStoreError):
    """The peer did not answer a C-ECHO with success; the text says how far it came."""


def timeout(value: str) -> float:
    """A timeout as TIMEOUT_ALLOWED says. Raises ValueError."""
    seconds = float(value)
    if not 0 < seconds <= MAX_TIMEOUT:  # also false for nan
        raise ValueError
    return seconds


def echo(host: str, port: int, *, called_ae_title: str, calling_ae_title: str, timeout: float) -> float:
    """Send one C-ECHO and return the seconds until it was answered. Raises EchoFailed."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            return _echo(connection, called_ae_title, calling_ae_title)
    except ProtocolError as error:
        raise EchoFailed(f"{host} port {port}: what answers is not DICOM ({error})") from None
    except TimeoutError:
        raise EchoFailed(f"{host} port {port}: no answer within {timeout:g} s") from None
    except OSError as error:
        raise EchoFailed(f"{host} port {port}: {reason_of(error)}") from None
    except UnicodeError:  # what the encoding of host names makes of an empty or a long part
        raise EchoFailed(f"{host} port {port}: not the name of a host") from None


def _echo(connection: socket.socket, called: str, calling: str) -> float:
    context = ProposedContext(_CONTEXT_ID, uids.VERIFICATION, (uids.IMPLICIT_VR_LITTLE_ENDIAN,))
    info = UserInformation(_MAX_LENGTH, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
    connection.sendall(pdu.encode(AAssociateRQ(called, calling, (context,), info)))
    arrivals = _arrivals(connection)
    answer = next(arrivals)
    if isinstance(answer, AAssociateRJ):
        codes = f"result {answer.result}, source {answer.source}, reason {answer.reason}"
        raise EchoFailed(f"association rejected: {negotiation.REJECT_REASONS.get(answer, codes)}")
    if not isinstance(answer, AAssociateAC):
        raise EchoFailed(f"{type(answer).__name__} came in place of an answer to the association request")
    results = {context.context_id: context.result for context in answer.presentation_contexts}
    if _CONTEXT_ID not in results:
        raise EchoFailed("the peer accepted the association and does not say whether it offers Verification")
    if results[_CONTEXT_ID] is not ContextResult.ACCEPTANCE:
        raise EchoFailed("the peer does not offer Verification")
    request = CommandSet(CommandField.C_ECHO_RQ, message_id=1, affected_sop_class_uid=uids.VERIFICATION)
    started = time.monotonic()
    peer_max_length = answer.user_information.max_length_received
    connection.sendall(
        pdu.encode_p_data(_CONTEXT_ID, command.encode(request), is_command=True, peer_max_length=peer_max_length)
    )
    response = _response(arrivals)
    seconds = time.monotonic() - started
    if response.status is None:
        raise EchoFailed("C-ECHO answered without a Status")
    if response.status != 0:
        raise EchoFailed(f"C-ECHO answered with status {response.status:04X}H")
    with contextlib.suppress(OSError, ProtocolError, EchoFailed):  # answered is answered, however the peer takes leave
        connection.sendall(pdu.encode(AReleaseRQ()))
        next(arrivals)
    return seconds


def _arrivals(connection: socket.socket) -> Iterator[PDU | Fragment]:
    framing = Framing(0)
    while chunk := connection.recv(_MAX_LENGTH):
        yield from framing.receive(memoryview(chunk))
    raise EchoFailed("the peer closed the connection")


def _response(arrivals: Iterator[PDU | Fragment]) -> CommandSet:
    assembly = MessageAssembly()
    for arrived in arrivals:
        if not isinstance(arrived, Fragment):
            raise EchoFailed(f"{type(arrived).__name__} came in place of a response")
        if arrived.context_id != _CONTEXT_ID:
            raise EchoFailed(f"a response came on presentation context {arrived.context_id}, not {_CONTEXT_ID}")
        response = assembly.receive(arrived)
        if response is not None:
            return response
    raise EchoFailed("no response came")
