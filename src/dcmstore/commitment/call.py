"""a report -> an association of our own with its requestor -> answered: we are its SCP there (PS3.7 D.3.3.4)."""

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Protocol

from dcmstore import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, commitment, uids
from dcmstore.commitment import event
from dcmstore.commitment.event import Report
from dcmstore.dimse import command
from dcmstore.dimse.command import RESPONSE_BIT, CommandField, CommandSet
from dcmstore.dimse.message import MessageAssembly
from dcmstore.errors import DcmStoreError, ProtocolError, reason_of
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.framing import Fragment, Framing
from dcmstore.ul.items import ContextResult, ProposedContext, RoleSelection, UserInformation
from dcmstore.ul.pdu import PDU, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRQ

TIMEOUT = 30.0  # seconds for each answer of the peer, however slowly its bytes come
_MAX_LENGTH = 16_384  # bytes
_CONTEXT_ID = 1
_MESSAGE_ID = 1
_SYNTAXES = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)


class CallFailed(DcmStoreError):
    """The requestor was not reached, or did not want the report; the text says how far it came."""


class Peer(Protocol):
    """Whom to call."""

    @property
    def ae_title(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


def report(peer: Peer, calling_ae_title: str, found: Report, timeout: float = TIMEOUT) -> CommandSet:
    """Report on an association of our own; return the response. Raises CallFailed."""
    where = f"{peer.ae_title} at {peer.host} port {peer.port}"
    try:
        with socket.create_connection((peer.host, peer.port), timeout) as connection:
            call = _Call(connection, timeout)
            transfer_syntax = call.associate(peer.ae_title, calling_ae_title)
            response = call.ask(found, transfer_syntax)
            call.release()
            return response
    except CallFailed as error:
        raise CallFailed(f"{where}: {error}") from None
    except ProtocolError as error:
        raise CallFailed(f"{where}: what answers is not DICOM ({error})") from None
    except TimeoutError:
        raise CallFailed(f"{where}: no answer within {timeout:g} s") from None
    except OSError as error:
        raise CallFailed(f"{where}: {reason_of(error)}") from None
    except UnicodeError:  # what the encoding of host names makes of an empty or a long part
        raise CallFailed(f"{where}: not the name of a host") from None


class _Call:
    """Besides CallFailed, each method raises what `report` puts into words."""

    def __init__(self, connection: socket.socket, timeout: float) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._timeout = timeout
        self._deadline = 0.0  # for the next answer
        self._arrivals = self._receive()
        self._peer_max_length = 0

    def associate(self, called_ae_title: str, calling_ae_title: str) -> str:
        """Return the transfer syntax that was agreed on.

        A peer that says nothing about roles gets the report too: many answer nothing, and take it.
        """
        context = ProposedContext(_CONTEXT_ID, commitment.SOP_CLASS, _SYNTAXES)
        info = UserInformation(
            _MAX_LENGTH,
            IMPLEMENTATION_CLASS_UID,
            IMPLEMENTATION_VERSION_NAME,
            role_selections=(RoleSelection(commitment.SOP_CLASS, scu_role=False, scp_role=True),),
        )
        self._send(pdu.encode(AAssociateRQ(called_ae_title, calling_ae_title, (context,), info)))
        answer = next(self._arrivals)
        if isinstance(answer, AAssociateRJ):
            codes = f"result {answer.result}, source {answer.source}, reason {answer.reason}"
            raise CallFailed(f"association rejected: {negotiation.REJECT_REASONS.get(answer, codes)}")
        if not isinstance(answer, AAssociateAC):
            raise CallFailed(f"{type(answer).__name__} came in place of an answer to the association request")
        accepted = [one for one in answer.presentation_contexts if one.result is ContextResult.ACCEPTANCE]
        if not accepted:
            raise CallFailed("it takes no reports of storage commitment on an association of ours")
        if any(not role.scp_role for role in answer.user_information.role_selections):
            raise CallFailed("it does not let us be the SCP of storage commitment")
        self._peer_max_length = answer.user_information.max_length_received
        return accepted[0].transfer_syntax

    def ask(self, found: Report, transfer_syntax: str) -> CommandSet:
        self._send_data(command.encode(event.request(found, _MESSAGE_ID)), is_command=True)
        self._send_data(event.encode(found, transfer_syntax), is_command=False)
        assembly = MessageAssembly()
        for arrived in self._arrivals:
            if not isinstance(arrived, Fragment):
                raise CallFailed(f"{type(arrived).__name__} came in place of a response")
            response = assembly.receive(arrived)
            if response is not None:
                break
        else:
            raise CallFailed("no response came")
        came = response.command_field, response.message_id_being_responded_to
        if came != (CommandField.N_EVENT_REPORT_RQ | RESPONSE_BIT, _MESSAGE_ID):
            raise CallFailed(f"{command.name_of(response.command_field)} came in place of N-EVENT-REPORT-RSP")
        return response

    def release(self) -> None:
        """What was answered is answered, however the peer takes leave."""
        with contextlib.suppress(OSError, ProtocolError, CallFailed):
            self._send(pdu.encode(AReleaseRQ()))
            while isinstance(next(self._arrivals), Fragment):  # the data set of the response
                pass

    def _send_data(self, data: bytes, *, is_command: bool) -> None:
        encoded = pdu.encode_p_data(_CONTEXT_ID, data, is_command=is_command, peer_max_length=self._peer_max_length)
        self._send(encoded)

    def _send(self, encoded: bytes) -> None:
        self._connection.settimeout(self._timeout)
        self._connection.sendall(encoded)
        self._deadline = time.monotonic() + self._timeout

    def _receive(self) -> Iterator[PDU | Fragment]:
        framing = Framing(0)
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            chunk = self._connection.recv(_MAX_LENGTH)
            if not chunk:
                raise CallFailed("the peer closed the connection")
            yield from framing.receive(memoryview(chunk))
