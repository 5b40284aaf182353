"""jobs -> objects sent: what the queue holds for other AEs goes there, and is done once a peer has answered for it."""

from collections.abc import Callable, Mapping

from dcmstore.errors import reason_of
from dcmstore.forwarding import answers, outgoing, peers
from dcmstore.forwarding.association import Answer, Association, SendingFailed, Timeouts
from dcmstore.forwarding.associations import IDLE, Associations
from dcmstore.forwarding.outgoing import Outgoing
from dcmstore.forwarding.peers import Peer
from dcmstore.forwarding.planning import came_from
from dcmstore.jobs.work import Facts, Job, JobFailed, Tell


class ForwardHandler:
    """Does the jobs of kind `forward`. `close` at the end, before the runner is closed.

    `peers_in_force` gives the peers by AE title, for targets that are an AE title alone. Reports `forward.warned`,
    when a peer took an object and had something to say, and `forward.returned`, when an object was not sent back to
    where it came from.
    """

    def __init__(
        self,
        calling_ae_title: Callable[[], str],
        peers_in_force: Callable[[], Mapping[str, Peer]],
        tell: Tell,
        *,
        timeouts: Timeouts | None = None,
        idle: float = IDLE,
        system_path: Callable[[str], str] = str,
    ) -> None:
        self._peers = peers_in_force
        self._tell = tell
        self._associations = Associations(calling_ae_title, timeouts or Timeouts(), idle)
        self._system_path = system_path

    def do(self, job: Job) -> None:
        """Raises JobFailed."""
        if self._associations.is_closed:
            raise JobFailed("the receiver stops")
        peer = self._peer_of(job.target)
        with outgoing.opened(job.facts, self._system_path) as opened:
            answer = self._send(peer, opened, job.facts)
            if answer is None:
                self._tell("forward.returned", target=job.target, uid=opened.sop_instance_uid)
            elif said := answers.judge(answer):
                self._tell("forward.warned", target=job.target, uid=opened.sop_instance_uid, answer=said)

    def close(self) -> None:
        """End every association, also one in the middle of an object; that object is sent again later."""
        self._associations.close()

    def _peer_of(self, target: str) -> Peer:
        try:
            peer = peers.resolve(target, self._peers())
        except ValueError:
            raise JobFailed(f"target {target!r}: allowed is {peers.PEER_ALLOWED}", is_final=True) from None
        if peer is None:
            raise JobFailed(f"peers= does not say where {target} is; add {target}@host:port to it")
        return peer

    def _send(self, peer: Peer, opened: Outgoing, facts: Facts) -> Answer | None:
        """The answer; None where the object is not to be sent there."""
        try:
            association = self._associations.borrow(peer, opened.context)
            was_used = association.is_used
            try:
                return self._send_over(association, opened, facts)
            except SendingFailed as failure:
                if not (was_used and failure.is_lost):
                    raise
            # The peer may close an association that nobody uses, and it may do so at any moment.
            association = self._associations.borrow(peer, opened.context, is_new=True)
            return self._send_over(association, opened, facts)
        except SendingFailed as failure:
            raise JobFailed(f"{peer.host} port {peer.port}: {failure}") from None

    def _send_over(self, association: Association, opened: Outgoing, facts: Facts) -> Answer | None:
        try:
            if came_from(facts, association.peer.ae_title, association.host):
                answer = None
            else:
                answers.check_accepted(association, opened.context)
                answer = association.store(opened)
        except JobFailed:
            self._associations.end(association, in_order=True)
            raise
        except SendingFailed:
            self._associations.end(association, in_order=False)
            raise
        except OSError as error:
            self._associations.end(association, in_order=False)
            raise JobFailed(f"its file can't be read: {reason_of(error)}", is_about_one=True) from None
        self._associations.give_back(association)
        return answer
