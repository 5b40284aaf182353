"""One TCP stream into PDUs and fragments: whole, cut anywhere, broken, and endless."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore.errors import AbortReason, ProtocolError
from dcmstore.ul import pdu
from dcmstore.ul.framing import TOLERATED_LENGTH, Fragment, Framing
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
from tests.wire import (
    associate_accepts,
    associate_requests,
    bytes_held,
    cut,
    joined,
    outcome_of,
    p_data_of,
    p_datas,
    pdv_of,
    places,
    wire,
)

COMMAND, DATA, LAST_COMMAND, LAST_DATA = 0x01, 0x00, 0x03, 0x02
HEADER = 6  # bytes of a PDU's header

pdus = st.one_of(
    associate_requests,
    associate_accepts,
    st.builds(AAssociateRJ, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)),
    st.just(AReleaseRQ()),
    st.just(AReleaseRP()),
    st.builds(AAbort, st.integers(0, 255), st.integers(0, 255)),
)
good_streams = st.lists(st.one_of(p_datas, pdus.map(pdu.encode)), max_size=6).map(b"".join)
headers = st.builds(PDU_HEADER.pack, st.integers(0, 8), st.integers(0, 40))
streams = st.lists(st.one_of(p_datas, pdus.map(pdu.encode), headers, st.binary(max_size=20)), max_size=6).map(b"".join)


def received(*chunks: bytes, max_length_received: int = 0) -> list[object]:
    return outcome_of(Framing(max_length_received).receive, chunks)


def fragment(context_id: int, is_command: bool, is_last: bool, data: bytes) -> Fragment:
    return Fragment(context_id, is_command, is_last, memoryview(data))


def refused(*chunks: bytes, max_length_received: int = 0) -> ProtocolError:
    """The error that these chunks end in."""
    framing = Framing(max_length_received)
    with pytest.raises(ProtocolError) as caught:
        for chunk in chunks:
            list(framing.receive(memoryview(chunk)))
    return caught.value


def begun(pdu_type: int, length: int) -> bytes:
    """Nothing but the header of a PDU."""
    return PDU_HEADER.pack(pdu_type, length)


# --- what comes out --------------------------------------------------------------------------------

SEVEN = (
    wire("""
    03 00 00 00 00 04  00 01 01 07      # A-ASSOCIATE-RJ
    04 00 00 00 00 08                   # P-DATA-TF, 8 bytes
       00 00 00 04  03 02  'AB'         #   PDV: context 3, data set, last
    05 00 00 00 00 04  00 00 00 00      # A-RELEASE-RQ
    06 00 00 00 00 04  00 00 00 00      # A-RELEASE-RP
    07 00 00 00 00 04  00 00 00 00      # A-ABORT
""")
    + pdu.encode(AAssociateRQ("A", "B"))
    + pdu.encode(AAssociateAC("A", "B"))
)
SEVEN_EVENTS = [
    AAssociateRJ(1, 1, 7),
    fragment(3, False, True, b"AB"),
    AReleaseRQ(),
    AReleaseRP(),
    AAbort(0, 0),
    AAssociateRQ("A", "B"),
    AAssociateAC("A", "B"),
]


def test_all_seven_pdus_come_out_of_one_chunk() -> None:
    assert received(SEVEN) == SEVEN_EVENTS


def test_all_seven_pdus_come_out_byte_by_byte() -> None:
    assert joined(received(*(bytes((byte,)) for byte in SEVEN))) == SEVEN_EVENTS


@pytest.mark.parametrize("place", range(1, len(SEVEN)))
def test_all_seven_pdus_come_out_of_two_chunks(place: int) -> None:
    assert joined(received(SEVEN[:place], SEVEN[place:])) == SEVEN_EVENTS


@pytest.mark.parametrize(
    ("control", "is_command", "is_last"),
    [(0x00, False, False), (0x01, True, False), (0x02, False, True), (0x03, True, True)],
)
def test_the_message_control_header_says_kind_and_end(control: int, is_command: bool, is_last: bool) -> None:
    assert received(p_data_of(pdv_of(1, control, b"AB"))) == [fragment(1, is_command, is_last, b"AB")]


@pytest.mark.parametrize("control", [DATA, COMMAND, LAST_DATA, LAST_COMMAND])
def test_other_bits_of_the_message_control_header_are_not_tested(control: int) -> None:
    # PS3.8 E.2: bits 2 to 7 are sent as 0 and not checked
    assert received(p_data_of(pdv_of(1, 0xFC | control, b"AB"))) == received(p_data_of(pdv_of(1, control, b"AB")))


def test_several_pdvs_of_several_messages_in_one_pdu_come_out_one_by_one() -> None:
    several = p_data_of(
        pdv_of(1, COMMAND, b"first "),
        pdv_of(1, LAST_COMMAND, b"command"),
        pdv_of(1, LAST_DATA, b"its data set"),
        pdv_of(3, LAST_COMMAND, b"second command"),
    )
    assert received(several) == [
        fragment(1, True, False, b"first "),
        fragment(1, True, True, b"command"),
        fragment(1, False, True, b"its data set"),
        fragment(3, True, True, b"second command"),
    ]


def test_a_pdv_without_data_is_an_empty_fragment() -> None:
    # PDV length 2: context ID and message control header, and nothing else
    assert received(p_data_of(pdv_of(1, LAST_DATA, b""))) == [fragment(1, False, True, b"")]


def test_an_empty_fragment_comes_out_at_once() -> None:
    framing = Framing(0)
    stream = p_data_of(pdv_of(1, LAST_DATA, b""))
    assert len(list(framing.receive(memoryview(stream)))) == 1
    assert framing.is_between_pdus


def test_one_message_over_thousands_of_pdus_comes_out_whole() -> None:
    data = bytes(range(250)) * 40
    stream = pdu.encode_p_data(1, data, is_command=False, peer_max_length=8)
    assert len(stream) // (HEADER + 8) == 5000
    assert joined(received(stream)) == [fragment(1, False, True, data)]


def test_a_part_of_a_fragment_is_not_the_last() -> None:
    stream = p_data_of(pdv_of(1, LAST_DATA, b"ABCD"))
    assert received(stream[:-1], stream[-1:]) == [fragment(1, False, False, b"ABC"), fragment(1, False, True, b"D")]


def test_data_are_handed_on_as_views_of_the_chunk() -> None:
    chunk = bytearray(p_data_of(pdv_of(1, LAST_DATA, b"ABCD")))
    (only,) = Framing(0).receive(memoryview(chunk))
    chunk[-1:] = b"Z"
    assert isinstance(only, Fragment)
    assert bytes(only.data) == b"ABCZ"


def test_data_are_handed_on_before_their_pdu_is_complete() -> None:
    stream = p_data_of(pdv_of(1, LAST_DATA, bytes(1000)))
    assert received(stream[:112]) == [fragment(1, False, False, bytes(100))]


def test_an_empty_chunk_changes_nothing() -> None:
    assert received(b"", SEVEN[:7], b"", SEVEN[7:], b"") == SEVEN_EVENTS


# --- between PDUs ----------------------------------------------------------------------------------


def test_a_new_stream_is_between_pdus() -> None:
    assert Framing(0).is_between_pdus


@pytest.mark.parametrize("encoded", [pdu.encode(AReleaseRQ()), p_data_of(pdv_of(1, 3, b"AB"), pdv_of(1, 2, b""))])
def test_a_stream_is_between_pdus_only_when_each_is_complete(encoded: bytes) -> None:
    framing = Framing(0)
    between = []
    for byte in encoded:
        list(framing.receive(memoryview(bytes((byte,)))))
        between.append(framing.is_between_pdus)
    assert between == [False] * (len(encoded) - 1) + [True]


# --- lengths ---------------------------------------------------------------------------------------

each_fixed_type = pytest.mark.parametrize(
    "pdu_type", [PDUType.A_ASSOCIATE_RJ, PDUType.A_RELEASE_RQ, PDUType.A_RELEASE_RP, PDUType.A_ABORT]
)


def length_of(pdu_type: int) -> str:
    """What an error about the length of this PDU names."""
    return f"{PDUType(pdu_type).name.replace('_', '-')} length"


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5])
def test_a_p_data_tf_too_short_for_a_pdv_is_an_error(length: int) -> None:
    assert refused(begun(PDUType.P_DATA_TF, length)).field == "P-DATA-TF length"


def test_the_shortest_p_data_tf_has_6_bytes() -> None:
    assert received(begun(PDUType.P_DATA_TF, 6)) == []


@each_fixed_type
@pytest.mark.parametrize("length", [0, 3, 5, 0xFFFF_FFFF])
def test_a_pdu_of_four_bytes_with_another_length_is_an_error(pdu_type: PDUType, length: int) -> None:
    assert refused(begun(pdu_type, length)).field == length_of(pdu_type)


@pytest.mark.parametrize("pdu_type", [PDUType.A_ASSOCIATE_RQ, PDUType.A_ASSOCIATE_AC])
@pytest.mark.parametrize("length", [0, 5, 67, MAX_ASSOCIATE_LENGTH + 1, 0xFFFF_FFFF])
def test_an_association_pdu_of_an_impossible_length_is_refused_by_its_header(pdu_type: PDUType, length: int) -> None:
    assert refused(begun(pdu_type, length)).field == length_of(pdu_type)


@given(st.integers(0, 255).filter(lambda n: n != PDUType.P_DATA_TF), st.integers(0, MAX_ASSOCIATE_LENGTH + 10))
def test_a_header_is_judged_as_decode_judges_the_whole(pdu_type: int, length: int) -> None:
    """A length that decode refuses is not gathered first; what is wrong inside is seen by decode alone."""

    def error(judge: Callable[[], object]) -> str:
        try:
            judge()
        except ProtocolError as error:
            return str(error) if error.field == "PDU type" or error.field == length_of(pdu_type) else ""
        return ""

    by_header = error(lambda: list(Framing(0).receive(memoryview(begun(pdu_type, length)))))
    assert by_header == error(lambda: pdu.decode(pdu_type, bytes(length)))


@pytest.mark.parametrize("length", [68, MAX_ASSOCIATE_LENGTH])
def test_an_association_pdu_at_the_bounds_is_waited_for(length: int) -> None:
    assert received(begun(PDUType.A_ASSOCIATE_RQ, length)) == []


def test_a_p_data_tf_somewhat_over_the_announced_length_is_let_pass() -> None:
    assert received(begun(PDUType.P_DATA_TF, TOLERATED_LENGTH), max_length_received=16384) == []


def test_a_p_data_tf_over_the_tolerated_length_is_an_error() -> None:
    error = refused(begun(PDUType.P_DATA_TF, TOLERATED_LENGTH + 1), max_length_received=16384)
    assert error.field == "P-DATA-TF length"


def test_an_announced_length_over_the_tolerated_one_counts() -> None:
    announced = 2 * TOLERATED_LENGTH
    assert received(begun(PDUType.P_DATA_TF, announced), max_length_received=announced) == []
    assert refused(begun(PDUType.P_DATA_TF, announced + 1), max_length_received=announced)


def test_an_unlimited_length_takes_what_the_field_can_say() -> None:
    assert received(begun(PDUType.P_DATA_TF, 0xFFFF_FFFF), max_length_received=0) == []


@pytest.mark.parametrize("length", [0, 1])
def test_a_pdv_too_short_for_its_own_header_is_an_error(length: int) -> None:
    stream = begun(PDUType.P_DATA_TF, 8) + length.to_bytes(4, "big") + wire("01 03 00 00")
    assert refused(stream).field == "PDV length"


@pytest.mark.parametrize("length", [5, 6, 0xFFFF, 0xFFFF_FFFF])
def test_a_pdv_longer_than_its_pdu_is_an_error(length: int) -> None:
    stream = begun(PDUType.P_DATA_TF, 8) + length.to_bytes(4, "big") + wire("01 03 00 00")
    assert refused(stream).field == "PDV length"


def test_a_second_pdv_longer_than_what_is_left_of_its_pdu_is_an_error() -> None:
    first, second = pdv_of(1, LAST_COMMAND, b"AB"), pdv_of(1, LAST_DATA, b"CD")
    stream = begun(PDUType.P_DATA_TF, len(first + second) - 1) + first + second
    assert received(stream)[0] == fragment(1, True, True, b"AB")
    assert refused(stream).field == "PDV length"


@pytest.mark.parametrize("surplus", [1, 2, 3, 4, 5])
def test_bytes_behind_the_last_pdv_of_a_pdu_are_an_error(surplus: int) -> None:
    assert refused(p_data_of(pdv_of(1, LAST_COMMAND, b"AB"), bytes(surplus))).field == "PDV header"


def test_a_pdv_in_front_of_surplus_bytes_is_not_handed_on() -> None:
    stream = p_data_of(pdv_of(1, LAST_COMMAND, b"AB"), bytes(5))
    assert [type(event) for event in received(*(bytes((byte,)) for byte in stream))] == [str]


@pytest.mark.parametrize("pdu_type", [0x00, 0x08, 0x10, 0x47, 0xFF])
def test_an_unknown_type_is_an_unrecognized_pdu(pdu_type: int) -> None:
    error = refused(begun(pdu_type, 4))
    assert (error.field, error.reason) == ("PDU type", AbortReason.UNRECOGNIZED_PDU)


def test_another_protocol_on_our_port_is_an_unrecognized_pdu() -> None:
    assert refused(b"GET / HTTP/1.1\r\n").reason is AbortReason.UNRECOGNIZED_PDU


def test_what_came_before_an_error_is_handed_on() -> None:
    assert received(pdu.encode(AReleaseRQ()) + begun(0x09, 4))[0] == AReleaseRQ()


# --- the invariants --------------------------------------------------------------------------------


@given(streams, st.sampled_from([0, 16384]))
def test_any_bytes_give_events_or_a_protocol_error(stream: bytes, max_length_received: int) -> None:
    # an error is text, the last event, and of no other class: anything else would have been raised here
    *events, last = [AReleaseRQ(), *received(stream, max_length_received=max_length_received)]
    assert all(isinstance(event, pdu.PDU | Fragment) for event in events)
    assert isinstance(last, pdu.PDU | Fragment | str)


@given(streams, places)
def test_any_chunking_gives_the_same_events(stream: bytes, places: list[int]) -> None:
    assert joined(received(*cut(stream, places))) == joined(received(stream))


@given(good_streams, places)
def test_a_good_stream_is_never_an_error(stream: bytes, places: list[int]) -> None:
    assert not [event for event in received(*cut(stream, places)) if isinstance(event, str)]


@given(good_streams)
def test_a_good_stream_ends_between_pdus(stream: bytes) -> None:
    framing = Framing(0)
    list(framing.receive(memoryview(stream)))
    assert framing.is_between_pdus


@given(st.lists(pdus, max_size=5))
def test_what_is_encoded_comes_out(values: list[pdu.PDU]) -> None:
    assert received(b"".join(map(pdu.encode, values))) == values


def largest_held(chunks: Iterator[bytes]) -> int:
    """The most bytes that the framing kept between two chunks."""
    framing = Framing(0)
    held = 0
    for chunk in chunks:
        for _ in framing.receive(memoryview(chunk)):
            pass
        held = max(held, bytes_held(framing))
    return held


def test_of_an_endless_pdv_nothing_is_gathered() -> None:
    def endless() -> Iterator[bytes]:
        yield begun(PDUType.P_DATA_TF, 0xFFFF_FFFF) + wire("FF FF FF FB  01 00")
        for _ in range(1000):
            yield bytes(65536)

    assert largest_held(endless()) == 0


def test_of_endless_small_pdus_no_more_than_a_header_is_gathered() -> None:
    stream = p_data_of(pdv_of(1, DATA, b"A")) * 2000
    assert largest_held(stream[start : start + 7] for start in range(0, len(stream), 7)) < HEADER


def test_of_an_endless_request_no_more_than_its_bound_is_gathered() -> None:
    def endless() -> Iterator[bytes]:
        yield begun(PDUType.A_ASSOCIATE_RQ, MAX_ASSOCIATE_LENGTH)
        for _ in range(MAX_ASSOCIATE_LENGTH // 4096 - 1):
            yield bytes(4096)
        yield bytes(4095)

    assert largest_held(endless()) == MAX_ASSOCIATE_LENGTH - 1
