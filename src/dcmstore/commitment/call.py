"""a report -> an association of our own with its requestor -> answered: we are its SCP there (PS3.7 D.3.3.4)."""

from typing import Protocol

from dcmstore import commitment, requestor, uids
from dcmstore.commitment import event
from dcmstore.commitment.event import Report
from dcmstore.dimse.command import CommandSet
from dcmstore.errors import DcmStoreError
from dcmstore.requestor import Association, RequestFailed, Timeouts
from dcmstore.ul.items import ContextResult, NegotiatedContext, RoleSelection

TIMEOUT = 30.0  # seconds for each answer of the peer, however slowly its bytes come
_SYNTAXES = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)
_ROLE = RoleSelection(commitment.SOP_CLASS, scu_role=False, scp_role=True)


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
    request = requestor.association_request(
        peer.ae_title, calling_ae_title, [(commitment.SOP_CLASS, _SYNTAXES)], (_ROLE,)
    )
    try:
        with Association((peer.host, peer.port), request, Timeouts.of(timeout)) as association:
            return _ask(association, found)
    except RequestFailed as error:
        raise CallFailed(f"{peer.ae_title} at {peer.host} port {peer.port}: {error}") from None


def _ask(association: Association, found: Report) -> CommandSet:
    context = _accepted(association)
    request = event.request(found, association.new_message_id())
    association.send_command(context.context_id, request)
    association.send_data_set(context.context_id, event.encode(found, context.transfer_syntax))
    return association.receive_response_to(request)


def _accepted(association: Association) -> NegotiatedContext:
    """A peer that says nothing about roles gets the report too: many answer nothing, and take it."""
    (context,) = association.answers
    if context is None or context.result is not ContextResult.ACCEPTANCE:
        raise RequestFailed("it takes no reports of storage commitment on an association of ours")
    if any(not role.scp_role for role in association.peer_information.role_selections):
        raise RequestFailed("it does not let us be the SCP of storage commitment")
    return context
