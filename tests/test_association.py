"""The state table of an acceptor, read from PS3.8 a second time, and what the association says and sends."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.fsm import TRANSITION_TABLE

from dcmstore.errors import AbortReason, ProtocolError
from dcmstore.ul import pdu
from dcmstore.ul.association import Association, Event, State
from dcmstore.ul.framing import Fragment
from dcmstore.ul.pdu import (
    MAX_ASSOCIATE_LENGTH,
    PDU_HEADER,
    AAbort,
    AAssociateAC,
    AAssociateRJ,
    AAssociateRQ,
    AReleaseRP,
    AReleaseRQ,
    PDUType,
)
from tests.wire import bytes_held, cut, joined, outcome_of, p_data_of, p_datas, pdu_of, pdv_of, places, wire

REQUEST = AAssociateRQ("DCMSTORE", "CT1")
ACCEPT = AAssociateAC("DCMSTORE", "CT1")
REJECT = AAssociateRJ(1, 1, 7)
ABORT = AAbort(0, 0)
FRAGMENT = Fragment(1, True, True, memoryview(b"AB"))

STATES = {
    "Sta2": State.AWAITING_ASSOCIATE_RQ,
    "Sta3": State.AWAITING_ASSOCIATE_RESPONSE,
    "Sta6": State.ESTABLISHED,
    "Sta8": State.AWAITING_RELEASE_RESPONSE,
    "Sta13": State.AWAITING_CLOSE,
}

# PS3.8 table 9-10, the events an acceptor can receive (rows) in the states it can be in (columns).
TABLE = """
                   Sta2    Sta3    Sta6    Sta8    Sta13
    A-ASSOCIATE-RQ AE-6    AA-8    AA-8    AA-8    AA-7
    A-ASSOCIATE-AC AA-1    AA-8    AA-8    AA-8    AA-6
    A-ASSOCIATE-RJ AA-1    AA-8    AA-8    AA-8    AA-6
    P-DATA-TF      AA-1    AA-8    DT-2    AA-8    AA-6
    A-RELEASE-RQ   AA-1    AA-8    AR-2    AA-8    AA-6
    A-RELEASE-RP   AA-1    AA-8    AA-8    AA-8    AA-6
    A-ABORT        AA-2    AA-3    AA-3    AA-3    AA-2
    invalid PDU    AA-1    AA-8    AA-8    AA-8    AA-7
"""
ROWS = [line.rsplit(maxsplit=5) for line in TABLE.strip().splitlines()[1:]]
CELLS = [
    (state, name.strip(), action) for name, *actions in ROWS for state, action in zip(STATES, actions, strict=True)
]

# what travels, and the event that tells of it
ARRIVALS: dict[str, tuple[bytes, object]] = {
    "A-ASSOCIATE-RQ": (pdu.encode(REQUEST), REQUEST),
    "A-ASSOCIATE-AC": (pdu.encode(ACCEPT), None),
    "A-ASSOCIATE-RJ": (pdu.encode(REJECT), None),
    "P-DATA-TF": (p_data_of(pdv_of(1, 3, b"AB")), FRAGMENT),
    "A-RELEASE-RQ": (pdu.encode(AReleaseRQ()), AReleaseRQ()),
    "A-RELEASE-RP": (pdu.encode(AReleaseRP()), None),
    "A-ABORT": (pdu.encode(ABORT), ABORT),
    "invalid PDU": (pdu_of(0x09, bytes(4)), None),
}

# PS3.8 tables 9-6 to 9-9: the state behind an action that tells the user something
INDICATIONS = {
    "AE-6": State.AWAITING_ASSOCIATE_RESPONSE,
    "DT-2": State.ESTABLISHED,
    "AR-2": State.AWAITING_RELEASE_RESPONSE,
    "AA-2": State.IDLE,
    "AA-3": State.IDLE,
}
ABORTS = {"AA-1", "AA-8"}
# Nothing is said while the peer is to close. Here AA-7 (abort once more) and AA-2 (close) are read as AA-6 (ignore).
IGNORED_AT_THE_END = {"AA-2", "AA-6", "AA-7"}

ORACLE_EVENTS = {
    "A-ASSOCIATE-AC": "Evt3",
    "A-ASSOCIATE-RJ": "Evt4",
    "A-ASSOCIATE-RQ": "Evt6",
    "P-DATA-TF": "Evt10",
    "A-RELEASE-RQ": "Evt12",
    "A-RELEASE-RP": "Evt13",
    "A-ABORT": "Evt16",
    "invalid PDU": "Evt19",
}


def receive(association: Association, *chunks: bytes) -> list[object]:
    return outcome_of(association.receive, chunks)


def association_in(state: State, max_length_received: int = 0) -> Association:
    """An association that was led to a state as peers lead it."""
    association = Association(max_length_received)
    if state is State.AWAITING_ASSOCIATE_RQ:
        return association
    receive(association, pdu.encode(REQUEST))
    if state is State.AWAITING_ASSOCIATE_RESPONSE:
        return association
    association.accept(ACCEPT, 0)
    if state is State.AWAITING_RELEASE_RESPONSE:
        receive(association, pdu.encode(AReleaseRQ()))
    elif state is State.AWAITING_CLOSE:
        association.abort(ABORT)
    assert association.state is state
    return association


# --- the table -------------------------------------------------------------------------------------


def test_pynetdicom_reads_the_table_as_we_do() -> None:
    theirs = [(state, name, TRANSITION_TABLE[ORACLE_EVENTS[name], state]) for state, name, _ in CELLS]
    assert theirs == CELLS


@pytest.mark.parametrize(
    ("state", "arrival", "action"), [cell for cell in CELLS if cell[2] in INDICATIONS and cell[0] != "Sta13"]
)
def test_an_expected_pdu_is_told_and_leads_to_the_next_state(state: str, arrival: str, action: str) -> None:
    encoded, event = ARRIVALS[arrival]
    association = association_in(STATES[state])
    assert receive(association, encoded) == [event]
    assert association.state is INDICATIONS[action]


@pytest.mark.parametrize(("state", "arrival", "action"), [cell for cell in CELLS if cell[2] in ABORTS])
def test_an_unexpected_pdu_is_a_protocol_error(state: str, arrival: str, action: str) -> None:
    association = association_in(STATES[state])
    with pytest.raises(ProtocolError) as caught:
        list(association.receive(memoryview(ARRIVALS[arrival][0])))
    expected = AbortReason.UNRECOGNIZED_PDU if arrival == "invalid PDU" else AbortReason.UNEXPECTED_PDU
    assert caught.value.reason is expected


def test_an_unexpected_pdu_in_sta2_is_answered_by_the_provider_with_a_reason() -> None:
    """AA-1 as table 9-8 has it is a service user's, which carries no reason; the conformance statement says so."""
    with pytest.raises(ProtocolError) as caught:
        list(association_in(State.AWAITING_ASSOCIATE_RQ).receive(memoryview(pdu.encode(AReleaseRQ()))))
    assert pdu.abort_for(caught.value) == AAbort(2, AbortReason.UNEXPECTED_PDU)
    stated = (Path(__file__).parent.parent / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert "AA-1" in stated
    assert "AA-7" in stated


@pytest.mark.parametrize(("state", "arrival", "action"), [cell for cell in CELLS if cell[0] == "Sta13"])
def test_everything_is_ignored_while_the_peer_is_to_close(state: str, arrival: str, action: str) -> None:
    assert action in IGNORED_AT_THE_END
    association = association_in(STATES[state])
    assert receive(association, ARRIVALS[arrival][0]) == []
    assert association.state is State.AWAITING_CLOSE


def test_the_states_bear_the_standards_numbers() -> None:
    assert {f"Sta{state.value}" for state in State} == {*STATES, "Sta1"}


def test_an_error_names_the_pdu_that_came_and_those_that_are_allowed() -> None:
    association = association_in(State.ESTABLISHED)
    (error,) = receive(association, pdu.encode(REQUEST))
    assert error == "ProtocolError: PDU: got AAssociateRQ, allowed is P-DATA-TF, A-RELEASE-RQ or A-ABORT"


# --- what is sent ----------------------------------------------------------------------------------


def test_an_association_begins_by_awaiting_a_request() -> None:
    assert Association(0).state is State.AWAITING_ASSOCIATE_RQ


def test_an_acceptance_is_sent_and_establishes_the_association() -> None:
    association = association_in(State.AWAITING_ASSOCIATE_RESPONSE)
    assert association.accept(ACCEPT, 16384) == pdu.encode(ACCEPT)
    assert association.state is State.ESTABLISHED


def test_a_rejection_is_sent_before_the_peer_closes() -> None:
    association = association_in(State.AWAITING_ASSOCIATE_RESPONSE)
    assert association.reject(REJECT) == pdu.encode(REJECT)
    assert association.state is State.AWAITING_CLOSE


def test_release_is_answered_before_close() -> None:
    association = association_in(State.AWAITING_RELEASE_RESPONSE)
    assert association.release() == pdu.encode(AReleaseRP())
    assert association.state is State.AWAITING_CLOSE


@pytest.mark.parametrize("state", STATES.values())
def test_an_abort_can_be_sent_in_every_state(state: State) -> None:
    association = association_in(state)
    assert association.abort(AAbort(2, 1)) == pdu.encode(AAbort(2, 1))
    assert association.state is State.AWAITING_CLOSE


@pytest.mark.parametrize("state", STATES.values())
def test_a_closed_connection_ends_every_state(state: State) -> None:
    association = association_in(state)
    association.close()
    assert association.state is State.IDLE


def test_a_command_set_is_cut_to_what_the_peer_receives() -> None:
    association = association_in(State.AWAITING_ASSOCIATE_RESPONSE)
    association.accept(ACCEPT, 10)
    assert association.send_command(5, b"ABCDEF") == wire("""
        04 00 00 00 00 0A   # P-DATA-TF, 10 bytes
        00 00 00 06  05 01  # PDV: context 5, command, not last
        'ABCD'
        04 00 00 00 00 08   # P-DATA-TF, 8 bytes
        00 00 00 04  05 03  # PDV: context 5, command, last
        'EF'
    """)


CALLS: dict[str, tuple[State, Callable[[Association], object]]] = {
    "accept": (State.AWAITING_ASSOCIATE_RESPONSE, lambda association: association.accept(ACCEPT, 0)),
    "reject": (State.AWAITING_ASSOCIATE_RESPONSE, lambda association: association.reject(REJECT)),
    "send_command": (State.ESTABLISHED, lambda association: association.send_command(1, b"AB")),
    "release": (State.AWAITING_RELEASE_RESPONSE, lambda association: association.release()),
}


@pytest.mark.parametrize(
    ("name", "state"),
    [(name, state) for name, (allowed, _) in CALLS.items() for state in STATES.values() if state is not allowed],
)
def test_an_answer_in_the_wrong_state_is_our_own_fault(name: str, state: State) -> None:
    association = association_in(state)
    with pytest.raises(RuntimeError, match=f"association is in {state.name}"):
        CALLS[name][1](association)
    assert association.state is state


# --- one chunk, several events ---------------------------------------------------------------------


def answers(association: Association, chunk: memoryview) -> Iterator[Event]:
    """What the server does: each event is answered before the next one is looked at."""
    for event in association.receive(chunk):
        yield event
        if isinstance(event, AAssociateRQ):
            association.accept(ACCEPT, 0)
        elif isinstance(event, AReleaseRQ):
            association.release()


def test_data_right_behind_the_request_wait_for_the_acceptance() -> None:
    association = Association(0)
    stream = pdu.encode(REQUEST) + p_data_of(pdv_of(1, 3, b"AB")) + pdu.encode(AReleaseRQ())
    assert list(answers(association, memoryview(stream))) == [REQUEST, FRAGMENT, AReleaseRQ()]
    assert association.state is State.AWAITING_CLOSE


def test_data_behind_a_request_nobody_answered_are_an_error() -> None:
    (_, error) = receive(Association(0), pdu.encode(REQUEST) + p_data_of(pdv_of(1, 3, b"AB")))
    assert error == "ProtocolError: PDU: got P-DATA-TF, allowed is A-ABORT"


def test_data_behind_an_abort_are_ignored() -> None:
    association = association_in(State.ESTABLISHED)
    assert receive(association, pdu.encode(ABORT) + p_data_of(pdv_of(1, 3, b"AB")) + b"\xff" * 10) == [ABORT]


def test_data_behind_a_rejected_request_are_ignored() -> None:
    association = Association(0)
    events = association.receive(memoryview(pdu.encode(REQUEST) + p_data_of(pdv_of(1, 3, b"AB"))))
    assert next(events) == REQUEST
    association.reject(REJECT)
    assert list(events) == []


def test_nothing_is_received_after_our_abort() -> None:
    association = association_in(State.ESTABLISHED)
    events = association.receive(memoryview(p_data_of(pdv_of(1, 1, b"AB"), pdv_of(1, 3, b"CD"))))
    next(events)
    association.abort(ABORT)
    assert list(events) == []


def test_an_association_is_between_pdus_when_its_stream_is() -> None:
    association = Association(0)
    encoded = pdu.encode(REQUEST)
    receive(association, encoded[:-1])
    assert not association.is_between_pdus
    receive(association, encoded[-1:])
    assert association.is_between_pdus


# --- the invariants --------------------------------------------------------------------------------

arrivals = st.sampled_from([encoded for encoded, _ in ARRIVALS.values()])
streams = st.lists(st.one_of(arrivals, p_datas, st.binary(max_size=12)), max_size=6).map(b"".join)
begun_streams = st.one_of(streams, streams.map(lambda stream: pdu.encode(REQUEST) + stream))


def outcome(stream: bytes, places: list[int]) -> list[object]:
    association = Association(16384)
    return joined(outcome_of(lambda chunk: answers(association, chunk), cut(stream, places)))


@given(begun_streams)
def test_any_bytes_give_events_or_a_protocol_error(stream: bytes) -> None:
    *events, last = [REQUEST, *outcome(stream, [])]
    assert all(isinstance(event, Event) for event in events)
    assert isinstance(last, Event | str)


@given(begun_streams, places)
def test_any_chunking_gives_the_same_events(stream: bytes, places: list[int]) -> None:
    assert outcome(stream, places) == outcome(stream, [])


@given(begun_streams, places)
def test_every_stream_that_breaks_a_rule_can_be_aborted(stream: bytes, places: list[int]) -> None:
    association = Association(16384)
    try:
        for chunk in cut(stream, places):
            list(answers(association, memoryview(chunk)))
    except ProtocolError as error:
        association.abort(pdu.abort_for(error))
        assert receive(association, stream) == []


@given(begun_streams, places)
def test_an_association_holds_no_more_than_one_bounded_pdu(stream: bytes, places: list[int]) -> None:
    association = Association(16384)
    try:
        for chunk in cut(stream, places):
            list(answers(association, memoryview(chunk)))
            assert bytes_held(association) <= MAX_ASSOCIATE_LENGTH
    except ProtocolError:
        assert bytes_held(association) <= MAX_ASSOCIATE_LENGTH


def test_an_endless_stream_to_an_ended_association_is_not_gathered() -> None:
    association = association_in(State.AWAITING_CLOSE)
    receive(association, PDU_HEADER.pack(PDUType.A_ASSOCIATE_RQ, 1024), *[bytes(1000)] * 100)
    assert bytes_held(association) == 0
