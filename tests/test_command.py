"""Command sets: whole, byte by byte, malformed in every way, round trip, and against pynetdicom."""

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import dimse_messages, dimse_primitives, dsutils

from dcmstore.dimse import command
from dcmstore.dimse.command import NO_DATA_SET, CommandField, CommandSet
from dcmstore.dimse.status import Status
from dcmstore.errors import AbortSource, ProtocolError
from dcmstore.ul.pdu import AAbort, abort_for
from tests.wire import assert_protocol_error, uids, wire, words

CT = "1.2.840.10008.5.1.4.1.1.2"

STORE_REQUEST = wire("""
    00 00 00 00  04 00 00 00    # Command Group Length (0000,0000)
    60 00 00 00                 # 96 bytes follow
    00 00 02 00  1A 00 00 00    # Affected SOP Class UID (0000,0002)
    '1.2.840.10008.5.1.4.1.1.2' 00
    00 00 00 01  02 00 00 00    # Command Field (0000,0100)
    01 00                       # C-STORE-RQ
    00 00 10 01  02 00 00 00    # Message ID (0000,0110)
    07 00
    00 00 00 07  02 00 00 00    # Priority (0000,0700)
    02 00                       # low
    00 00 00 08  02 00 00 00    # Command Data Set Type (0000,0800)
    00 00                       # there is one
    00 00 00 10  0E 00 00 00    # Affected SOP Instance UID (0000,1000)
    '1.2.3.4.5.6.7' 00
""")
STORE_REQUEST_VALUE = CommandSet(
    CommandField.C_STORE_RQ,
    message_id=7,
    affected_sop_class_uid=CT,
    affected_sop_instance_uid="1.2.3.4.5.6.7",
    command_data_set_type=0x0000,
    priority=2,
)

STORE_RESPONSE = wire("""
    00 00 00 00  04 00 00 00    # Command Group Length (0000,0000)
    3C 00 00 00                 # 60 bytes follow
    00 00 00 01  02 00 00 00    # Command Field (0000,0100)
    01 80                       # C-STORE-RSP
    00 00 20 01  02 00 00 00    # Message ID Being Responded To (0000,0120)
    07 00
    00 00 00 08  02 00 00 00    # Command Data Set Type (0000,0800)
    01 01                       # none
    00 00 00 09  02 00 00 00    # Status (0000,0900)
    00 A7                       # out of resources
    00 00 02 09  0C 00 00 00    # Error Comment (0000,0902)
    'disk is full'
""")
STORE_RESPONSE_VALUE = CommandSet(
    0x8001, message_id_being_responded_to=7, status=Status.OUT_OF_RESOURCES, error_comment="disk is full"
)

ACTION_REQUEST = wire("""
    00 00 00 00  04 00 00 00    # Command Group Length (0000,0000)
    6C 00 00 00                 # 108 bytes follow
    00 00 03 00  14 00 00 00    # Requested SOP Class UID (0000,0003)
    '1.2.840.10008.1.20.1'
    00 00 00 01  02 00 00 00    # Command Field (0000,0100)
    30 01                       # N-ACTION-RQ
    00 00 10 01  02 00 00 00    # Message ID (0000,0110)
    07 00
    00 00 00 08  02 00 00 00    # Command Data Set Type (0000,0800)
    00 00                       # there is one
    00 00 01 10  16 00 00 00    # Requested SOP Instance UID (0000,1001)
    '1.2.840.10008.1.20.1.1'
    00 00 02 10  02 00 00 00    # Event Type ID (0000,1002)
    02 00
    00 00 08 10  02 00 00 00    # Action Type ID (0000,1008)
    01 00
""")
ACTION_REQUEST_VALUE = CommandSet(
    CommandField.N_ACTION_RQ,
    message_id=7,
    command_data_set_type=command.WITH_DATA_SET,
    requested_sop_class_uid="1.2.840.10008.1.20.1",
    requested_sop_instance_uid="1.2.840.10008.1.20.1.1",
    event_type_id=2,
    action_type_id=1,
)

ECHO_REQUEST = wire("""
    00 00 00 01  02 00 00 00    # Command Field (0000,0100)
    30 00                       # C-ECHO-RQ
""")


def element(number: int, raw: bytes, group: int = 0x0000) -> bytes:
    return group.to_bytes(2, "little") + number.to_bytes(2, "little") + len(raw).to_bytes(4, "little") + raw


def decoded(*elements: bytes) -> CommandSet:
    """The command set of a C-ECHO-RQ and these elements."""
    return command.decode(ECHO_REQUEST + b"".join(elements))


# --- whole -----------------------------------------------------------------------------------------

each_sample = pytest.mark.parametrize(
    ("encoded", "value"),
    [
        (STORE_REQUEST, STORE_REQUEST_VALUE),
        (STORE_RESPONSE, STORE_RESPONSE_VALUE),
        (ACTION_REQUEST, ACTION_REQUEST_VALUE),
    ],
    ids=["C-STORE-RQ", "C-STORE-RSP", "N-ACTION-RQ"],
)


@each_sample
def test_a_command_set_is_decoded(encoded: bytes, value: CommandSet) -> None:
    # the samples say how many bytes follow the group length
    assert int.from_bytes(encoded[8:12], "little") == len(encoded) - 12
    assert command.decode(encoded) == value


@each_sample
def test_a_command_set_is_encoded(encoded: bytes, value: CommandSet) -> None:
    assert command.encode(value) == encoded


@each_sample
def test_a_command_set_cut_inside_an_element_is_an_error(encoded: bytes, value: CommandSet) -> None:
    ends, position = {0}, 0
    while position < len(encoded):
        position += 8 + int.from_bytes(encoded[position + 4 : position + 8], "little")
        ends.add(position)
    for size in set(range(len(encoded))) - ends:
        with pytest.raises(ProtocolError):
            command.decode(encoded[:size])


@pytest.mark.parametrize("surplus", range(1, 8))
def test_bytes_behind_the_last_element_are_an_error(surplus: int) -> None:
    assert_protocol_error(lambda: command.decode(STORE_REQUEST + bytes(surplus)), "command element")


@pytest.mark.parametrize("group_length", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_a_wrong_group_length_is_not_tested(group_length: bytes) -> None:
    assert command.decode(STORE_REQUEST[:8] + group_length + STORE_REQUEST[12:]) == STORE_REQUEST_VALUE


def test_a_missing_group_length_is_no_error() -> None:
    assert command.decode(STORE_REQUEST[12:]) == STORE_REQUEST_VALUE


def test_elements_may_come_in_any_order() -> None:
    assert command.decode(element(0x0110, b"\7\0") + ECHO_REQUEST).message_id == 7


def test_other_elements_are_passed_over() -> None:
    others = element(0x0600, b"MOVEDEST"), element(0x0901, wire("10 00 20 00")), element(0xFFFF, b"")
    move_originator = element(0x1030, b"MOVESCU "), element(0x1031, b"\1\0")
    assert decoded(*others, *move_originator) == CommandSet(CommandField.C_ECHO_RQ)


def test_the_last_of_an_element_sent_twice_counts() -> None:
    assert decoded(element(0x0110, b"\1\0"), element(0x0110, b"\2\0")).message_id == 2


# --- malformed -------------------------------------------------------------------------------------


def test_an_empty_command_set_is_an_error() -> None:
    assert_protocol_error(lambda: command.decode(b""), "Command Field (0000,0100)")


def test_a_command_set_without_command_field_is_an_error() -> None:
    assert_protocol_error(lambda: command.decode(element(0x0110, b"\1\0")), "Command Field (0000,0100)")


@pytest.mark.parametrize("group", [0x0002, 0x0008, 0x0100, 0xFFFF])
def test_an_element_of_another_group_is_an_error(group: int) -> None:
    assert_protocol_error(lambda: decoded(element(0x0000, b"", group)), "command element group")


@pytest.mark.parametrize("length", [3, 0xFFFF, 0xFFFF_FFFF])
def test_an_element_longer_than_what_is_left_is_an_error(length: int) -> None:
    header = wire("00 00 10 01") + length.to_bytes(4, "little")
    assert_protocol_error(lambda: decoded(header + b"\0\0"), "length of (0000,0110)")


def test_an_unknown_element_longer_than_what_is_left_is_an_error() -> None:
    assert_protocol_error(lambda: decoded(wire("00 00 34 12  01 00 00 00")), "length of (0000,1234)")


@pytest.mark.parametrize("number", [0x0100, 0x0110, 0x0120, 0x0700, 0x0800, 0x0900, 0x1002, 0x1008])
@pytest.mark.parametrize("raw", [b"", b"\1", b"\1\0\0", b"\1\0\0\0"])
def test_a_number_of_other_than_two_bytes_is_an_error(number: int, raw: bytes) -> None:
    assert_protocol_error(lambda: decoded(element(number, raw)), f"length of (0000,{number:04X})")


def test_explicit_vr_is_an_error() -> None:
    # what a confused sender writes: (0000,0100) US 0002, then the value
    assert_protocol_error(lambda: command.decode(wire("00 00 00 01 'US' 02 00 30 00")), "length of (0000,0100)")


def test_big_endian_is_an_error() -> None:
    assert_protocol_error(lambda: command.decode(wire("00 00 01 00  00 00 00 02  00 30")), "length of (0000,0001)")


def test_a_malformed_command_set_is_aborted_by_the_user() -> None:
    with pytest.raises(ProtocolError) as caught:
        command.decode(b"")
    assert caught.value.source is AbortSource.SERVICE_USER
    assert abort_for(caught.value) == AAbort(0, 0)


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "uid"), [(b"1.2.3\0", "1.2.3"), (b"1.2.34", "1.2.34"), (b"1.2.3", "1.2.3"), (b"", "")])
def test_the_nul_that_pads_a_uid_is_dropped(raw: bytes, uid: str) -> None:
    assert decoded(element(0x1000, raw)).affected_sop_instance_uid == uid


@pytest.mark.parametrize("raw", [b"1.2.3\0", b"1.2.34", b"1.2.3 ", b"1.2.34\0\0", b"1.2.34  ", b" 1.2.3", b"", b"\0\0"])
def test_a_uid_goes_back_as_it_came(raw: bytes) -> None:
    uid = decoded(element(0x1000, raw)).affected_sop_instance_uid
    assert command.encode(CommandSet(0x8030, affected_sop_instance_uid=uid)).endswith(element(0x1000, raw))


@pytest.mark.parametrize("raw", [b"disk is full", b"disk is full    ", b"  disk is full\0\0"])
def test_the_padding_of_an_error_comment_is_dropped(raw: bytes) -> None:
    assert decoded(element(0x0902, raw)).error_comment == "disk is full"


def test_zero_length_text_is_empty() -> None:
    empty = decoded(element(0x0002, b""), element(0x0902, b""))
    assert (empty.affected_sop_class_uid, empty.error_comment) == ("", "")


def test_absent_elements_are_none() -> None:
    assert decoded() == CommandSet(CommandField.C_ECHO_RQ, None, None, None, None, NO_DATA_SET)


@pytest.mark.parametrize(("number", "padding"), [(0x0002, b"\0"), (0x1000, b"\0"), (0x1001, b"\0"), (0x0902, b" ")])
def test_text_of_odd_length_is_padded_as_its_vr_demands(number: int, padding: bytes) -> None:
    name = {
        0x0002: "affected_sop_class_uid",
        0x1000: "affected_sop_instance_uid",
        0x1001: "requested_sop_instance_uid",
        0x0902: "error_comment",
    }[number]
    values: dict[str, Any] = {name: "1.2"}
    assert element(number, b"1.2" + padding) in command.encode(CommandSet(0x8001, **values))


def test_a_comment_is_sent_in_ascii() -> None:
    # a command set has no Specific Character Set, so there is none but ISO 646 (PS3.5 6.1.2.2)
    encoded = command.encode(CommandSet(0x8001, error_comment="folder Žlutá"))
    assert encoded.endswith(element(0x0902, b"folder ?lut?"))


def test_a_uid_that_is_none_goes_back_as_it_came() -> None:
    raw = b"1.2.\xe9\0"
    uid = decoded(element(0x1000, raw)).affected_sop_instance_uid
    assert command.encode(CommandSet(0x8001, affected_sop_instance_uid=uid)).endswith(element(0x1000, raw))


@pytest.mark.parametrize("value", [0x0000, 0x0001, 0x0102, 0xFEFE, 0xFFFF])
def test_every_data_set_type_but_0101_announces_a_data_set(value: int) -> None:
    assert decoded(element(0x0800, value.to_bytes(2, "little"))).has_data_set


def test_the_data_set_type_0101_announces_none() -> None:
    assert not decoded(element(0x0800, b"\1\1")).has_data_set


@pytest.mark.parametrize(
    ("command_field", "is_response"), [(0x0001, False), (0x8001, True), (0x0FFF, False), (0x8030, True)]
)
def test_bit_15_of_the_command_field_makes_a_response(command_field: int, is_response: bool) -> None:
    assert CommandSet(command_field).is_response is is_response


@pytest.mark.parametrize(
    ("command_field", "name"),
    [
        (0x0001, "C-STORE-RQ"),
        (0x8001, "C-STORE-RSP"),
        (0x0030, "C-ECHO-RQ"),
        (0x8030, "C-ECHO-RSP"),
        (0x0FFF, "C-CANCEL-RQ"),
        (0x0130, "N-ACTION-RQ"),
        (0x8100, "N-EVENT-REPORT-RSP"),
        (0x0000, "0000H"),
        (0x8000, "8000H"),
        (0xBEEF, "BEEFH"),
    ],
)
def test_a_command_has_the_standards_name(command_field: int, name: str) -> None:
    assert command.name_of(command_field) == name


# --- the invariants --------------------------------------------------------------------------------

comments = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=64)
command_sets = st.builds(
    CommandSet,
    words,
    st.none() | words,
    st.none() | words,
    st.none() | uids,
    st.none() | uids,
    words,
    st.none() | words,
    st.none() | words,
    st.none() | comments,
    st.none() | uids,
    st.none() | uids,
    st.none() | words,
    st.none() | words,
)


@given(command_sets)
def test_a_command_set_survives_the_round_trip(command_set: CommandSet) -> None:
    assert command.decode(command.encode(command_set)) == command_set


@given(command_sets)
def test_every_command_set_has_an_even_length(command_set: CommandSet) -> None:
    assert len(command.encode(command_set)) % 2 == 0


@given(command_sets)
def test_the_group_length_counts_what_follows_it(command_set: CommandSet) -> None:
    encoded = command.encode(command_set)
    assert encoded[:8] == wire("00 00 00 00  04 00 00 00")
    assert int.from_bytes(encoded[8:12], "little") == len(encoded) - 12


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda raw: STORE_REQUEST + raw)))
def test_any_bytes_are_a_command_set_or_a_protocol_error(encoded: bytes) -> None:
    try:
        command_set = command.decode(encoded)
    except ProtocolError as error:
        assert error.field
    else:
        assert isinstance(command_set, CommandSet)


@given(
    st.lists(
        st.builds(
            element, st.sampled_from([0, 2, *range(0x100, 0x131, 16), 0x800, 0x902, 0x1000]), st.binary(max_size=6)
        )
    )
)
def test_any_elements_are_a_command_set_or_a_protocol_error(elements: list[bytes]) -> None:
    try:
        command_set = decoded(*elements)
    except ProtocolError as error:
        assert error.source is AbortSource.SERVICE_USER
    else:
        assert isinstance(command_set, CommandSet)


@given(st.integers(0, len(STORE_REQUEST) - 1), st.integers(0, 255))
def test_a_command_set_with_a_byte_changed_is_a_command_set_or_a_protocol_error(place: int, byte: int) -> None:
    damaged = bytearray(STORE_REQUEST)
    damaged[place] = byte
    try:
        assert isinstance(command.decode(bytes(damaged)), CommandSet)
    except ProtocolError as error:
        assert error.field


# --- pynetdicom says the same ----------------------------------------------------------------------


def oracle_encoded(primitive: Any, message: dimse_messages.DIMSEMessage) -> bytes:
    """The command set of a message as pynetdicom encodes it."""
    message.primitive_to_message(primitive)
    encoded = dsutils.encode(message.command_set, True, True)
    assert encoded is not None
    return encoded


def oracle_decoded(command_set: CommandSet) -> Dataset:
    return dsutils.decode(BytesIO(command.encode(command_set)), True, True)


def test_what_pynetdicom_stores_is_decoded_to_the_same_values() -> None:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageID = 7
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = "1.2.3.4.5.6.7"
    primitive.Priority = 2
    primitive.MoveOriginatorApplicationEntityTitle = "WORKSTATION1"
    primitive.MoveOriginatorMessageID = 4711
    primitive.DataSet = BytesIO(b"\x08\x00")
    assert command.decode(oracle_encoded(primitive, dimse_messages.C_STORE_RQ())) == CommandSet(
        0x0001,
        message_id=7,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3.4.5.6.7",
        command_data_set_type=0x0001,
        priority=2,
    )


def test_what_pynetdicom_echoes_is_decoded_to_the_same_values() -> None:
    primitive = dimse_primitives.C_ECHO()
    primitive.MessageID = 65535
    primitive.AffectedSOPClassUID = "1.2.840.10008.1.1"
    assert command.decode(oracle_encoded(primitive, dimse_messages.C_ECHO_RQ())) == CommandSet(
        0x0030, message_id=65535, affected_sop_class_uid="1.2.840.10008.1.1"
    )


def test_what_pynetdicom_answers_is_decoded_to_the_same_values() -> None:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageIDBeingRespondedTo = 7
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = "1.2.3"
    primitive.Status = 0xA700
    primitive.ErrorComment = "disk is full"
    assert command.decode(oracle_encoded(primitive, dimse_messages.C_STORE_RSP())) == CommandSet(
        0x8001,
        message_id_being_responded_to=7,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3",
        status=0xA700,
        error_comment="disk is full",
    )


@given(command_sets)
def test_pynetdicom_decodes_what_we_encode_to_the_same_values(command_set: CommandSet) -> None:
    theirs = oracle_decoded(command_set)
    assert {
        "CommandField": theirs.CommandField,
        "CommandDataSetType": theirs.CommandDataSetType,
        "MessageID": theirs.get("MessageID"),
        "MessageIDBeingRespondedTo": theirs.get("MessageIDBeingRespondedTo"),
        "AffectedSOPClassUID": theirs.get("AffectedSOPClassUID"),
        "AffectedSOPInstanceUID": theirs.get("AffectedSOPInstanceUID"),
        "Priority": theirs.get("Priority"),
        "RequestedSOPClassUID": theirs.get("RequestedSOPClassUID"),
        "RequestedSOPInstanceUID": theirs.get("RequestedSOPInstanceUID"),
        "EventTypeID": theirs.get("EventTypeID"),
        "ActionTypeID": theirs.get("ActionTypeID"),
        "Status": theirs.get("Status"),
    } == {
        "CommandField": command_set.command_field,
        "CommandDataSetType": command_set.command_data_set_type,
        "MessageID": command_set.message_id,
        "MessageIDBeingRespondedTo": command_set.message_id_being_responded_to,
        "AffectedSOPClassUID": command_set.affected_sop_class_uid,
        "AffectedSOPInstanceUID": command_set.affected_sop_instance_uid,
        "Priority": command_set.priority,
        "RequestedSOPClassUID": command_set.requested_sop_class_uid,
        "RequestedSOPInstanceUID": command_set.requested_sop_instance_uid,
        "EventTypeID": command_set.event_type_id,
        "ActionTypeID": command_set.action_type_id,
        "Status": command_set.status,
    }


def test_a_store_response_has_the_values_that_pynetdicom_reads() -> None:
    theirs = oracle_decoded(STORE_RESPONSE_VALUE)
    assert (theirs.CommandField, theirs.Status, theirs.ErrorComment) == (0x8001, 0xA700, "disk is full")
    assert theirs.CommandGroupLength == len(STORE_RESPONSE) - 12
