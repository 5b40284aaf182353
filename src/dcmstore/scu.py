"""An SCU of a few lines: an association -> a C-ECHO and C-STOREs answered, for asking a receiver whether it works.

`dcmstore echo`, which is the health check of a container too, asks any peer, and `dcmstore doctor` its own receiver.
"""

import contextlib
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dcmstore import requestor, uids
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.requestor import NoPeer, Timeouts
from dcmstore.ul.items import ContextResult, NegotiatedContext

_MEDIUM = 0  # priority (PS3.7 9.3.1.1)
MAX_TIMEOUT = 86_400  # seconds; more than the system's own limits is an error there
TIMEOUT_ALLOWED = f"a number of seconds over 0, up to {MAX_TIMEOUT}"

ScuFailed = requestor.RequestFailed
Rejected = requestor.Rejected


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

    Raises ScuFailed, Rejected among it.
    """
    try:
        with Association(peer, proposals) as association:
            yield association
    except NoPeer as error:
        raise ScuFailed(f"{peer.host} port {peer.port}: {error}") from None


class Association(requestor.Association):
    """An open association with a peer, a context for each abstract syntax."""

    def __init__(self, peer: Peer, proposals: Mapping[str, tuple[str, ...]]) -> None:
        request = requestor.association_request(peer.called_ae_title, peer.calling_ae_title, proposals.items())
        super().__init__((peer.host, peer.port), request, Timeouts.of(peer.timeout), peer.tls)
        self._answers = dict(zip(proposals, self.answers, strict=True))

    def transfer_syntax_of(self, abstract_syntax: str) -> str:
        """What was agreed on for an abstract syntax that was proposed. Raises ScuFailed where nothing was."""
        return self._accepted(abstract_syntax).transfer_syntax

    def echo(self) -> float:
        """The seconds until a C-ECHO was answered with success."""
        return self._ask(CommandField.C_ECHO_RQ, uids.VERIFICATION)

    def store(self, sop_class_uid: str, sop_instance_uid: str, data_set: bytes) -> float:
        """The seconds until a C-STORE was answered with success. The data set is in what was agreed on."""
        return self._ask(CommandField.C_STORE_RQ, sop_class_uid, sop_instance_uid, data_set)

    def _accepted(self, abstract_syntax: str) -> NegotiatedContext:
        name = uids.name_of(abstract_syntax).removesuffix(" SOP Class")
        answer = self._answers[abstract_syntax]
        if answer is None:
            raise ScuFailed(f"the peer accepted the association and does not say whether it offers {name}")
        if answer.result is not ContextResult.ACCEPTANCE:
            raise ScuFailed(f"the peer does not offer {name}")
        return answer

    def _ask(
        self, field: CommandField, sop_class_uid: str, sop_instance_uid: str | None = None, data_set: bytes = b""
    ) -> float:
        """The seconds from a request to its response. Raises ScuFailed unless that is success."""
        context_id = self._accepted(sop_class_uid).context_id
        started = time.monotonic()
        request = CommandSet(
            field,
            message_id=self.new_message_id(),
            affected_sop_class_uid=sop_class_uid,
            affected_sop_instance_uid=sop_instance_uid,
            command_data_set_type=command.WITH_DATA_SET if data_set else command.NO_DATA_SET,
            priority=_MEDIUM if data_set else None,
        )
        self.send_command(context_id, request)
        if data_set:
            self.send_data_set(context_id, data_set)
        came_on, response = self.receive_response()
        if came_on != context_id:
            raise ScuFailed(f"a response came on presentation context {came_on}, not {context_id}")
        name = command.name_of(field).removesuffix("-RQ")
        if response.status is None:
            raise ScuFailed(f"{name} answered without a Status")
        if response.status != 0:
            comment = f" ({response.error_comment})" if response.error_comment else ""
            raise ScuFailed(f"{name} answered with status {response.status:04X}H{comment}")
        return time.monotonic() - started
