"""bytes -> events: the state table of an acceptor (PS3.8 9.2).

Everything that changes the state lives in this file. Bytes go in through `receive`; events come out, and the
bytes to send are returned by the call that decides them. An acceptor which never requests an association or
a release needs six of the standard's thirteen states.
"""

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, TypeAlias

from dcmstore.errors import AbortReason, ProtocolError
from dcmstore.ul import pdu
from dcmstore.ul.framing import Fragment, Framing
from dcmstore.ul.pdu import (
    PDU,
    AAbort,
    AAssociateAC,
    AAssociateRJ,
    AAssociateRQ,
    AReleaseRP,
    AReleaseRQ,
)

Event: TypeAlias = AAssociateRQ | Fragment | AReleaseRQ | AAbort


class State(IntEnum):
    """The standard's numbers (PS3.8 9.2.2)."""

    IDLE = 1  # no transport connection
    AWAITING_ASSOCIATE_RQ = 2
    AWAITING_ASSOCIATE_RESPONSE = 3  # ours
    ESTABLISHED = 6
    AWAITING_RELEASE_RESPONSE = 8  # ours
    AWAITING_CLOSE = 13


class Association:
    """One association as its acceptor sees it.

    `max_length_received` is the bound in bytes that we announce for a P-DATA-TF; 0 means unlimited.
    """

    def __init__(self, max_length_received: int) -> None:
        self.state = State.AWAITING_ASSOCIATE_RQ
        self.peer_max_length = 0
        self._framing = Framing(max_length_received)

    @property
    def is_between_pdus(self) -> bool:
        """True when every PDU that the peer began is complete."""
        return self._framing.is_between_pdus

    def receive(self, chunk: memoryview) -> Iterator[Event]:
        """Yield the events of a chunk, fragments as views of it.

        Raises ProtocolError, after which `abort` is the only answer. While the peer is expected to close,
        everything is ignored (AA-6); so is a second A-ASSOCIATE-RQ, which AA-7 would answer with an abort:
        it would tell the peer nothing that the first answer did not.
        """
        if self._is_over():
            return
        for arrived in self._framing.receive(chunk):
            action = _TABLE[type(arrived)][_COLUMNS[self.state]]
            yield action(self, arrived)
            if self._is_over():
                return

    def accept(self, answer: AAssociateAC, peer_max_length: int) -> bytes:
        """AE-7: send A-ASSOCIATE-AC."""
        self._expect(State.AWAITING_ASSOCIATE_RESPONSE)
        self.peer_max_length = peer_max_length
        self.state = State.ESTABLISHED
        return pdu.encode(answer)

    def reject(self, answer: AAssociateRJ) -> bytes:
        """AE-8: send A-ASSOCIATE-RJ; the peer closes."""
        self._expect(State.AWAITING_ASSOCIATE_RESPONSE)
        self.state = State.AWAITING_CLOSE
        return pdu.encode(answer)

    def send_command(self, context_id: int, command_set: bytes) -> bytes:
        """DT-1: a command set as P-DATA-TF, cut to what the peer receives."""
        self._expect(State.ESTABLISHED)
        return pdu.encode_p_data(context_id, command_set, is_command=True, peer_max_length=self.peer_max_length)

    def send_data_set(self, context_id: int, data_set: bytes) -> bytes:
        """DT-1: the data set behind a command set that announced one."""
        self._expect(State.ESTABLISHED)
        return pdu.encode_p_data(context_id, data_set, is_command=False, peer_max_length=self.peer_max_length)

    def release(self) -> bytes:
        """AR-4: answer the peer's release request; the peer closes."""
        self._expect(State.AWAITING_RELEASE_RESPONSE)
        self.state = State.AWAITING_CLOSE
        return pdu.encode(AReleaseRP())

    def abort(self, answer: AAbort) -> bytes:
        """AA-1 and AA-8: send A-ABORT; the peer closes."""
        self.state = State.AWAITING_CLOSE
        return pdu.encode(answer)

    def close(self) -> None:
        """AA-4, AA-5, AR-5: the transport connection is gone."""
        self.state = State.IDLE

    def _is_over(self) -> bool:
        return self.state in (State.AWAITING_CLOSE, State.IDLE)

    def _expect(self, state: State) -> None:
        if self.state is not state:
            raise RuntimeError(f"association is in {self.state.name}, not in {state.name}")


# --- the actions, with the standard's names (PS3.8 9.2.3) -----------------------------------------


def _associate_indication(association: Association, request: AAssociateRQ) -> Event:
    association.state = State.AWAITING_ASSOCIATE_RESPONSE
    return request


def _data_indication(association: Association, fragment: Fragment) -> Event:
    return fragment


def _release_indication(association: Association, request: AReleaseRQ) -> Event:
    association.state = State.AWAITING_RELEASE_RESPONSE
    return request


def _abort_indication(association: Association, abort: AAbort) -> Event:
    association.state = State.IDLE  # the transport connection is ours to close
    return abort


# AA-1 leaves the source to the service user, who gives no reason. We name the provider's reason in both: it is
# the only word that the peer's log will have on what went wrong.
def _unexpected(association: Association, arrived: PDU | Fragment) -> Event:
    name = "P-DATA-TF" if isinstance(arrived, Fragment) else type(arrived).__name__
    allowed = "A-ASSOCIATE-RQ" if association.state is State.AWAITING_ASSOCIATE_RQ else "A-ABORT"
    if association.state is State.ESTABLISHED:
        allowed = "P-DATA-TF, A-RELEASE-RQ or A-ABORT"
    raise ProtocolError("PDU", name, allowed, reason=AbortReason.UNEXPECTED_PDU)


AE_6 = _associate_indication
DT_2 = _data_indication
AR_2 = _release_indication
AA_2 = AA_3 = _abort_indication
AA_1 = AA_8 = _unexpected

# PS3.8 table 9-10, the rows an acceptor can receive and the columns it can be in. Sta13 has no column:
# there `receive` ignores everything.
_COLUMNS = {
    State.AWAITING_ASSOCIATE_RQ: 0,
    State.AWAITING_ASSOCIATE_RESPONSE: 1,
    State.ESTABLISHED: 2,
    State.AWAITING_RELEASE_RESPONSE: 3,
}
# fmt: off
_TABLE: dict[type, tuple[Callable[[Association, Any], Event], ...]] = {
    #              Sta2  Sta3  Sta6  Sta8
    AAssociateRQ: (AE_6, AA_8, AA_8, AA_8),
    AAssociateAC: (AA_1, AA_8, AA_8, AA_8),
    AAssociateRJ: (AA_1, AA_8, AA_8, AA_8),
    Fragment:     (AA_1, AA_8, DT_2, AA_8),
    AReleaseRQ:   (AA_1, AA_8, AR_2, AA_8),
    AReleaseRP:   (AA_1, AA_8, AA_8, AA_8),
    AAbort:       (AA_2, AA_3, AA_3, AA_3),
}
# fmt: on
