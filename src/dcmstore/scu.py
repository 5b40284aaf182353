"""An SCU of a few lines: an association -> a C-ECHO and C-STOREs answered, for asking a receiver whether it works.

`dcmstore echo`, which is the health check of a container too, asks any peer, and `dcmstore doctor` its own receiver.
"""

import contextlib
import itertools
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
_MEDIUM = 0  # priority (PS3.7 9.3.1.1)
_WITH_DATA_SET = 0x0000  # Command Data Set Type: any value but 0101H (PS3.7 E.1)
MAX_TIMEOUT = 86_400  # seconds; more than the system's own limits is an error there
TIMEOUT_ALLOWED = f"a number of seconds over 0, up to {MAX_TIMEOUT}"


class ScuFailed(DcmStoreError):
    """The peer did not answer as it should; the text says how far it came."""


class Rejected(ScuFailed):
    """The peer does not want this association; `answer` is what it said."""

    def __init__(self, answer: AAssociateRJ) -> None:
        codes = f"result {answer.result}, source {answer.source}, reason {answer.reason}"
        super().__init__(f"association rejected: {negotiation.REJECT_REASONS.get(answer, codes)}")
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whom to call, as whom, and for how many seconds to wait each time; `tls` secures the connection."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    timeout: float
    tls: ssl.SSLContext | None = None


def timeout(value: str) -> float:
    """A timeout as TIMEOUT_ALLOWED says. Raises ValueError."""
    seconds = float(value)
    if not 0 < seconds <= MAX_TIMEOUT:  # also false for nan
        raise ValueError
    return seconds


def echo(peer: Peer) -> float:
    """Send one C-ECHO and return the seconds until it was answered. Raises ScuFailed."""
    with associated(peer, {uids.VERIFICATION: (uids.IMPLICIT_VR_LITTLE_ENDIAN,)}) as association:
        return association.echo()


@contextlib.contextmanager
def associated(peer: Peer, proposals: Mapping[str, tuple[str, ...]]) -> Iterator["Association"]:
    """An association as long as the context lasts. `proposals` are transfer syntaxes by abstract syntax.

    Raises ScuFailed, Rejected among it; what the network does within the context is told in the same words.
    """
    try:
        with _connected(peer) as connection:
            association = Association(connection, peer, proposals)
            yield association
            association.release()
    except ProtocolError as error:
        raise ScuFailed(f"{peer.host} port {peer.port}: what answers is not DICOM ({error})") from None
    except TimeoutError:
        raise ScuFailed(f"{peer.host} port {peer.port}: no answer within {peer.timeout:g} s") from None
    except OSError as error:
        raise ScuFailed(f"{peer.host} port {peer.port}: {reason_of(error)}") from None
    except UnicodeError:  # what the encoding of host names makes of an empty or a long part
        raise ScuFailed(f"{peer.host} port {peer.port}: not the name of a host") from None


def _connected(peer: Peer) -> socket.socket:
    connection = socket.create_connection((peer.host, peer.port), peer.timeout)
    return peer.tls.wrap_socket(connection, server_hostname=peer.host) if peer.tls else connection


class Association:
    """An open association with a peer. Besides ScuFailed, each method raises what `associated` puts into words."""

    def __init__(self, connection: socket.socket, peer: Peer, proposals: Mapping[str, tuple[str, ...]]) -> None:
        self._connection = connection
        self._arrivals = _arrivals(connection)
        self._message_ids = itertools.count(1)
        self._context_ids = {abstract_syntax: 2 * index + 1 for index, abstract_syntax in enumerate(proposals)}
        contexts = tuple(ProposedContext(self._context_ids[name], name, proposals[name]) for name in proposals)
        info = UserInformation(_MAX_LENGTH, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
        self._send(pdu.encode(AAssociateRQ(peer.called_ae_title, peer.calling_ae_title, contexts, info)))
        answer = next(self._arrivals)
        if isinstance(answer, AAssociateRJ):
            raise Rejected(answer)
        if not isinstance(answer, AAssociateAC):
            raise ScuFailed(f"{type(answer).__name__} came in place of an answer to the association request")
        self._answers = {context.context_id: context for context in answer.presentation_contexts}
        self.peer_information = answer.user_information

    def transfer_syntax_of(self, abstract_syntax: str) -> str:
        """What was agreed on for an abstract syntax that was proposed. Raises ScuFailed where nothing was."""
        name = uids.name_of(abstract_syntax).removesuffix(" SOP Class")
        answer = self._answers.get(self._context_ids[abstract_syntax])
        if answer is None:
            raise ScuFailed(f"the peer accepted the association and does not say whether it offers {name}")
        if answer.result is not ContextResult.ACCEPTANCE:
            raise ScuFailed(f"the peer does not offer {name}")
        return answer.transfer_syntax

    def echo(self) -> float:
        """The seconds until a C-ECHO was answered with success."""
        self.transfer_syntax_of(uids.VERIFICATION)
        started = time.monotonic()
        self._ask(CommandField.C_ECHO_RQ, uids.VERIFICATION)
        return time.monotonic() - started

    def store(self, sop_class_uid: str, sop_instance_uid: str, data_set: bytes) -> float:
        """The seconds until a C-STORE was answered with success. The data set is in what was agreed on."""
        self.transfer_syntax_of(sop_class_uid)
        started = time.monotonic()
        self._ask(CommandField.C_STORE_RQ, sop_class_uid, sop_instance_uid, data_set)
        return time.monotonic() - started

    def release(self) -> None:
        """What was answered is answered, however the peer takes leave."""
        with contextlib.suppress(OSError, ProtocolError, ScuFailed):
            self._send(pdu.encode(AReleaseRQ()))
            next(self._arrivals)

    def _ask(
        self, field: CommandField, sop_class_uid: str, sop_instance_uid: str | None = None, data_set: bytes = b""
    ) -> None:
        """Send a request and wait for its response. Raises ScuFailed unless that is success."""
        context_id = self._context_ids[sop_class_uid]
        request = CommandSet(
            field,
            message_id=next(self._message_ids),
            affected_sop_class_uid=sop_class_uid,
            affected_sop_instance_uid=sop_instance_uid,
            command_data_set_type=_WITH_DATA_SET if data_set else command.NO_DATA_SET,
            priority=_MEDIUM if data_set else None,
        )
        peer_max_length = self.peer_information.max_length_received
        encoded = pdu.encode_p_data(
            context_id, command.encode(request), is_command=True, peer_max_length=peer_max_length
        )
        if data_set:
            encoded += pdu.encode_p_data(context_id, data_set, is_command=False, peer_max_length=peer_max_length)
        self._send(encoded)
        response = self._response(context_id)
        name = command.name_of(field).removesuffix("-RQ")
        if response.status is None:
            raise ScuFailed(f"{name} answered without a Status")
        if response.status != 0:
            comment = f" ({response.error_comment})" if response.error_comment else ""
            raise ScuFailed(f"{name} answered with status {response.status:04X}H{comment}")

    def _send(self, encoded: bytes) -> None:
        self._connection.sendall(encoded)

    def _response(self, context_id: int) -> CommandSet:
        assembly = MessageAssembly()
        for arrived in self._arrivals:
            if not isinstance(arrived, Fragment):
                raise ScuFailed(f"{type(arrived).__name__} came in place of a response")
            if arrived.context_id != context_id:
                raise ScuFailed(f"a response came on presentation context {arrived.context_id}, not {context_id}")
            response = assembly.receive(arrived)
            if response is not None:
                return response
        raise ScuFailed("no response came")


def _arrivals(connection: socket.socket) -> Iterator[PDU | Fragment]:
    framing = Framing(0)
    while chunk := connection.recv(_MAX_LENGTH):
        yield from framing.receive(memoryview(chunk))
    raise ScuFailed("the peer closed the connection")
