"""an object -> C-STORE requests and their answers: an association of ours with a peer (PS3.7 9.1.1).

The data set passes in pieces from the file to the socket, as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dcmstore import requestor
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.forwarding import fragments
from dcmstore.forwarding.outgoing import Context, Outgoing
from dcmstore.forwarding.peers import Peer
from dcmstore.ul.items import ContextResult

_LOW = 0x0002  # Priority (PS3.7 9.3.1.1): whatever else the peer receives goes first

SendingFailed = requestor.RequestFailed
Timeouts = requestor.Timeouts


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer says of an object that was sent to it."""

    status: int
    comment: str = ""


class Association(requestor.Association):
    """An open association with a peer, for contexts of one transfer syntax each."""

    def __init__(self, peer: Peer, calling_ae_title: str, contexts: Sequence[Context], timeouts: Timeouts) -> None:
        self.peer = peer
        self.is_used = False  # an object was sent and answered
        proposals = [(context.abstract_syntax, (context.transfer_syntax,)) for context in contexts]
        request = requestor.association_request(peer.ae_title, calling_ae_title, proposals)
        super().__init__((peer.host, peer.port), request, timeouts)
        self._answers = dict(zip(contexts, self.answers, strict=True))

    def accepts(self, context: Context) -> bool:
        return self.result_of(context) is ContextResult.ACCEPTANCE

    def result_of(self, context: Context) -> ContextResult | None:
        """The peer's answer to a context that was proposed; None where it said nothing, or names another syntax."""
        answer = self._answers.get(context)
        if answer is None:
            return None
        is_other = answer.result is ContextResult.ACCEPTANCE and answer.transfer_syntax != context.transfer_syntax
        return None if is_other else answer.result

    def store(self, outgoing: Outgoing) -> Answer:
        """Send an object in a context that was accepted. Raises OSError for its file, too."""
        answer = self._answers.get(outgoing.context)
        if answer is None or not self.accepts(outgoing.context):
            raise ValueError(f"not accepted: {outgoing.context}")
        request = CommandSet(
            CommandField.C_STORE_RQ,
            message_id=self.new_message_id(),
            affected_sop_class_uid=outgoing.context.abstract_syntax,
            affected_sop_instance_uid=outgoing.sop_instance_uid,
            command_data_set_type=command.WITH_DATA_SET,
            priority=_LOW,
        )
        self.send_command(answer.context_id, request)
        for encoded in fragments.pdus(outgoing, answer.context_id, self.peer_max_length):
            self.send(encoded)
        response = self.receive_response_to(request)
        if response.status is None:
            raise SendingFailed("C-STORE answered without a Status")
        self.is_used = True
        return Answer(response.status, response.error_comment or "")

    def close(self) -> None:
        """The peer is told, for it may have much of an object already."""
        self.abort()
