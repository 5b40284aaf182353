"""The items of A-ASSOCIATE: each one whole, byte by byte, with trailing bytes, and round trip."""

import inspect
import re
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu_items as oracle

from dcmstore.errors import ProtocolError
from dcmstore.ul import decoding, items, negotiation, pdu
from dcmstore.ul.items import (
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    ItemType,
    NegotiatedContext,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from tests.wire import (
    assert_protocol_error,
    negotiated_contexts,
    proposed_contexts,
    user_informations,
    wire,
)

CT = "1.2.840.10008.5.1.4.1.1.2"


def body_of(item: bytes) -> bytes:
    """The body of one encoded item, whose header is checked."""
    ((_, body),) = decoding.decode_items(item, "item")
    return body


# --- types -----------------------------------------------------------------------------------------


def test_the_types_of_items_are_those_of_pynetdicom() -> None:
    theirs = {item_type for item_type in oracle.PDU_ITEM_TYPES if isinstance(item_type, int)}
    assert set(ItemType) == theirs


@pytest.mark.parametrize("item_type", ItemType)
def test_a_type_of_item_is_written_by_its_name_only(item_type: ItemType) -> None:
    for module in (decoding, items, pdu, negotiation):
        bare = re.findall(rf"\b0x0*{item_type:02X}\b", inspect.getsource(module), re.IGNORECASE)
        assert len(bare) == (module is items), module


# --- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"1.2.3", b"1.2.3\0", b"1.2.3\0\0\0", b"1.2.3 ", b" 1.2.3", b"\x001.2.3 \0 "])
def test_the_padding_of_a_uid_is_dropped_at_either_end(raw: bytes) -> None:
    assert decoding.decode_text(raw) == "1.2.3"


@pytest.mark.parametrize("raw", [b"", b"\0", b"    ", b"\0 \0"])
def test_text_of_nothing_but_padding_is_empty(raw: bytes) -> None:
    assert decoding.decode_text(raw) == ""


@pytest.mark.parametrize(
    "raw",
    [b"STORESCP", b"STORESCP        ", b"STORESCP\0\0\0\0\0\0\0\0", b"  STORESCP      ", b"STORESCP \0\0\0\0\0\0\0"],
)
def test_the_padding_of_an_ae_title_is_dropped(raw: bytes) -> None:
    assert decoding.decode_ae_title(raw) == "STORESCP"


def test_rubbish_behind_the_nul_of_an_ae_title_is_dropped() -> None:
    assert decoding.decode_ae_title(b"STORESCP\0/usr/bi") == "STORESCP"


def test_a_space_inside_an_ae_title_stays() -> None:
    assert decoding.decode_ae_title(b"CT ROOM 1       ") == "CT ROOM 1"


@given(st.binary(max_size=40))
def test_any_bytes_are_text(raw: bytes) -> None:
    assert decoding.decode_text(raw).encode("latin-1") == raw.strip(b" \0")


# --- the list of items -----------------------------------------------------------------------------

TWO_ITEMS = wire("""
    10              # item type
    FF              # reserved, not tested
    00 02           # length
    'AB'
    99              # another type
    00
    00 00           # length: nothing
""")


def test_items_are_read_one_after_the_other() -> None:
    assert list(decoding.decode_items(TWO_ITEMS, "item")) == [(0x10, b"AB"), (0x99, b"")]


def test_no_bytes_are_no_items() -> None:
    assert list(decoding.decode_items(b"", "item")) == []


@pytest.mark.parametrize("size", [size for size in range(len(TWO_ITEMS)) if size not in (0, 6)])
def test_items_cut_anywhere_but_between_two_are_an_error(size: int) -> None:
    assert_protocol_error(lambda: list(decoding.decode_items(TWO_ITEMS[:size], "item")), "item length")


def test_a_byte_behind_the_last_item_is_an_error() -> None:
    assert_protocol_error(lambda: list(decoding.decode_items(TWO_ITEMS + b"\0", "item")), "item length")


def test_an_item_of_65535_bytes_is_encoded() -> None:
    assert body_of(items.encode_item(0x50, bytes(0xFFFF))) == bytes(0xFFFF)


def test_a_longer_item_cannot_be_encoded() -> None:
    assert_protocol_error(lambda: items.encode_item(0x50, bytes(0x10000)), "item 50H length")


# --- presentation contexts -------------------------------------------------------------------------

PROPOSED = wire("""
    20 00 00 49     # presentation context item of a request, 73 bytes
    03              # presentation context ID
    00 00 00        # reserved
    30 00 00 19     # abstract syntax sub-item, 25 bytes
    '1.2.840.10008.5.1.4.1.1.2'
    40 00 00 13     # transfer syntax sub-item, 19 bytes
    '1.2.840.10008.1.2.1'
    40 00 00 0D     # another one, 13 bytes
    '1.2.840.10008'
""")
PROPOSED_VALUE = ProposedContext(3, CT, ("1.2.840.10008.1.2.1", "1.2.840.10008"))

NEGOTIATED = wire("""
    21 00 00 19     # presentation context item of an answer, 25 bytes
    03              # presentation context ID
    00              # reserved
    04              # result: transfer syntaxes not supported
    00              # reserved
    40 00 00 11     # transfer syntax sub-item, 17 bytes
    '1.2.840.10008.1.2'
""")
NEGOTIATED_VALUE = NegotiatedContext(3, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, "1.2.840.10008.1.2")


def test_a_proposed_context_is_decoded() -> None:
    assert decoding.decode_proposed_context(body_of(PROPOSED)) == PROPOSED_VALUE


def test_a_proposed_context_is_encoded() -> None:
    assert items.encode_proposed_context(PROPOSED_VALUE) == PROPOSED


def test_a_negotiated_context_is_decoded() -> None:
    assert decoding.decode_negotiated_context(body_of(NEGOTIATED)) == NEGOTIATED_VALUE


def test_a_negotiated_context_is_encoded() -> None:
    assert items.encode_negotiated_context(NEGOTIATED_VALUE) == NEGOTIATED


def whole_sub_items(body: bytes, start: int) -> set[int]:
    """Where a context may end without breaking a rule: in front of each of its sub-items."""
    ends = {start}
    for _, value in decoding.decode_items(body[start:], "sub-item"):
        ends.add(max(ends) + 4 + len(value))
    return ends


@pytest.mark.parametrize("size", sorted(set(range(73)) - whole_sub_items(body_of(PROPOSED), 4)))
def test_a_proposed_context_cut_inside_a_field_is_an_error(size: int) -> None:
    with pytest.raises(ProtocolError):
        decoding.decode_proposed_context(body_of(PROPOSED)[:size])


@pytest.mark.parametrize("size", sorted(set(range(25)) - whole_sub_items(body_of(NEGOTIATED), 4)))
def test_a_negotiated_context_cut_inside_a_field_is_an_error(size: int) -> None:
    with pytest.raises(ProtocolError):
        decoding.decode_negotiated_context(body_of(NEGOTIATED)[:size])


@pytest.mark.parametrize("decode", [decoding.decode_proposed_context, decoding.decode_negotiated_context])
@pytest.mark.parametrize("context_id", range(0, 256, 2))
def test_an_even_context_id_is_an_error(decode: object, context_id: int) -> None:
    assert callable(decode)
    assert_protocol_error(partial(decode, bytes((context_id, 0, 0, 0))), "presentation context ID")


@pytest.mark.parametrize("context_id", range(1, 256, 2))
def test_an_odd_context_id_is_good(context_id: int) -> None:
    assert decoding.decode_proposed_context(bytes((context_id, 0, 0, 0))).context_id == context_id


@pytest.mark.parametrize("result", [5, 6, 127, 255])
def test_a_context_result_over_4_is_an_error(result: int) -> None:
    assert_protocol_error(
        lambda: decoding.decode_negotiated_context(bytes((1, 0, result, 0))), "presentation context result"
    )


def test_a_proposed_context_without_sub_items_proposes_nothing() -> None:
    assert decoding.decode_proposed_context(wire("01 00 00 00")) == ProposedContext(1, "", ())


def test_zero_length_syntaxes_are_empty() -> None:
    body = wire("""
        01 00 00 00     # presentation context ID, reserved
        30 00 00 00     # abstract syntax, no bytes
        40 00 00 00     # transfer syntax, no bytes
    """)
    assert decoding.decode_proposed_context(body) == ProposedContext(1, "", ("",))


def test_a_refused_context_may_leave_its_transfer_syntax_out() -> None:
    assert decoding.decode_negotiated_context(wire("01 00 03 00")).transfer_syntax == ""


def test_reserved_bytes_of_a_context_are_not_tested() -> None:
    assert decoding.decode_proposed_context(wire("01 FF FF FF")) == ProposedContext(1, "", ())


def test_unknown_sub_items_of_a_context_are_passed_over() -> None:
    body = wire("""
        01 00 00 00     # presentation context ID, reserved
        99 00 00 03     # nobody knows
        01 02 03
        30 00 00 03
        '1.2'
        31 00 00 00     # nor this
        40 00 00 04
        '1.3' 00        # padded, as it should not be
    """)
    assert decoding.decode_proposed_context(body) == ProposedContext(1, "1.2", ("1.3",))


def test_a_proposed_context_with_very_many_transfer_syntaxes_keeps_them_all() -> None:
    syntaxes = tuple(f"1.2.{n}" for n in range(5000))
    encoded = items.encode_proposed_context(ProposedContext(1, CT, syntaxes))
    assert decoding.decode_proposed_context(body_of(encoded)).transfer_syntaxes == syntaxes


@given(proposed_contexts)
def test_a_proposed_context_survives_the_round_trip(context: ProposedContext) -> None:
    assert decoding.decode_proposed_context(body_of(items.encode_proposed_context(context))) == context


@given(negotiated_contexts)
def test_a_negotiated_context_survives_the_round_trip(context: NegotiatedContext) -> None:
    assert decoding.decode_negotiated_context(body_of(items.encode_negotiated_context(context))) == context


# --- user information ------------------------------------------------------------------------------

# (what stands in the sub-item, as it travels, as we name it)
SUB_ITEMS = {
    "maximum length received": (
        """
        51 00 00 04     # type, reserved, length
        00 00 40 00     # maximum length received
        """,
        UserInformation(16384),
    ),
    "implementation class uid": (
        """
        51 00 00 04  00 00 00 00
        52 00 00 05     # type, reserved, length
        '1.2.3'
        """,
        UserInformation(0, "1.2.3"),
    ),
    "asynchronous operations window": (
        """
        51 00 00 04  00 00 00 00
        53 00 00 04     # type, reserved, length
        00 05           # maximum number of operations invoked
        01 00           # maximum number of operations performed
        """,
        UserInformation(async_operations_window=(5, 256)),
    ),
    "role selection": (
        """
        51 00 00 04  00 00 00 00
        54 00 00 07     # type, reserved, length
        00 03 '1.2'     # SOP class UID, with its length
        00              # SCU role
        01              # SCP role
        """,
        UserInformation(role_selections=(RoleSelection("1.2", False, True),)),
    ),
    "implementation version name": (
        """
        51 00 00 04  00 00 00 00
        55 00 00 04     # type, reserved, length
        'V1.0'
        """,
        UserInformation(implementation_version_name="V1.0"),
    ),
    "extended negotiation": (
        """
        51 00 00 04  00 00 00 00
        56 00 00 08     # type, reserved, length
        00 03 '1.2'     # SOP class UID, with its length
        02 01 00        # service class application information
        """,
        UserInformation(extended_negotiations=(ExtendedNegotiation("1.2", b"\2\1\0"),)),
    ),
    "common extended negotiation": (
        """
        51 00 00 04  00 00 00 00
        57 00 00 18     # type, reserved (it was a version once), length
        00 03 '1.2'     # SOP class UID, with its length
        00 05 '1.2.9'   # service class UID, with its length
        00 0A           # length of the related general SOP classes
        00 03 '1.4'     # one
        00 03 '1.5'     # another
        """,
        UserInformation(common_extended_negotiations=(CommonExtendedNegotiation("1.2", "1.2.9", ("1.4", "1.5")),)),
    ),
    "user identity": (
        """
        51 00 00 04  00 00 00 00
        58 00 00 0B     # type, reserved, length
        02              # name and passcode
        01              # positive response requested
        00 03 'joe'     # primary field
        00 02 'pw'      # secondary field
        """,
        UserInformation(user_identity=UserIdentity(2, True, b"joe", b"pw")),
    ),
    "user identity response": (
        """
        51 00 00 04  00 00 00 00
        59 00 00 04     # type, reserved, length
        00 02 'ok'      # server response
        """,
        UserInformation(user_identity_response=b"ok"),
    ),
}
each_sub_item = pytest.mark.parametrize(("annotated", "value"), SUB_ITEMS.values(), ids=SUB_ITEMS.keys())


@each_sub_item
def test_a_user_information_sub_item_is_decoded(annotated: str, value: UserInformation) -> None:
    assert decoding.decode_user_information(wire(annotated)) == value


@each_sub_item
def test_a_user_information_sub_item_is_encoded(annotated: str, value: UserInformation) -> None:
    assert items.encode_user_information(value) == items.encode_item(0x50, wire(annotated))


@each_sub_item
def test_user_information_cut_inside_a_sub_item_is_an_error(annotated: str, value: UserInformation) -> None:
    encoded = wire(annotated)
    for size in {*range(1, len(encoded))} - {8}:  # 8: behind the maximum length
        with pytest.raises(ProtocolError):
            decoding.decode_user_information(encoded[:size])


@pytest.mark.parametrize(
    ("item_type", "shortest"),
    [(0x51, 4), (0x53, 4), (0x54, 4), (0x56, 2), (0x57, 4), (0x58, 4), (0x59, 2)],
)
def test_a_sub_item_shorter_than_its_fixed_fields_is_an_error(item_type: int, shortest: int) -> None:
    for size in range(shortest):
        assert_protocol_error(
            partial(decoding.decode_user_information, items.encode_item(item_type, bytes(size))),
            f"sub-item {item_type:02X}H length",
        )
    decoding.decode_user_information(items.encode_item(item_type, bytes(shortest)))


@pytest.mark.parametrize("item_type", [0x52, 0x55])
def test_zero_length_names_are_empty(item_type: int) -> None:
    assert decoding.decode_user_information(bytes((item_type, 0, 0, 0))) == UserInformation()


def test_no_user_information_is_all_defaults() -> None:
    assert decoding.decode_user_information(b"") == UserInformation()


@pytest.mark.parametrize("item_type", [0x00, 0x50, 0x5A, 0xFF])
def test_unknown_user_information_sub_items_are_passed_over(item_type: int) -> None:
    unknown = items.encode_item(item_type, b"anything")
    known = wire("51 00 00 04  00 00 40 00")
    assert decoding.decode_user_information(unknown + known + unknown) == UserInformation(16384)


@pytest.mark.parametrize("item_type", [0x51, 0x53])
def test_surplus_bytes_of_a_fixed_sub_item_are_passed_over(item_type: int) -> None:
    exact = decoding.decode_user_information(items.encode_item(item_type, wire("00 01 00 02")))
    assert decoding.decode_user_information(items.encode_item(item_type, wire("00 01 00 02  AA BB"))) == exact


def test_the_last_of_a_sub_item_sent_twice_counts() -> None:
    assert decoding.decode_user_information(
        wire("""
            51 00 00 04  00 00 00 01
            51 00 00 04  00 00 00 02
        """)
    ) == UserInformation(2)


def test_role_selections_are_kept_in_their_order() -> None:
    info = decoding.decode_user_information(
        wire("""
            54 00 00 07  00 03 '1.3' 01 00
            54 00 00 07  00 03 '1.2' 01 01
        """)
    )
    assert info.role_selections == (RoleSelection("1.3", True, False), RoleSelection("1.2", True, True))


@pytest.mark.parametrize("padding", ["00", "20"])
def test_a_padded_uid_behind_its_own_length_is_known(padding: str) -> None:
    info = decoding.decode_user_information(wire(f"54 00 00 08  00 04 '1.2' {padding}  01 00"))
    assert info.role_selections == (RoleSelection("1.2", True, False),)


def test_a_common_extended_negotiation_may_end_behind_its_service_class() -> None:
    info = decoding.decode_user_information(wire("57 00 00 0A  00 03 '1.2'  00 03 '1.9'"))
    assert info.common_extended_negotiations == (CommonExtendedNegotiation("1.2", "1.9"),)


def test_a_related_class_longer_than_its_list_is_an_error() -> None:
    body = wire("""
        57 00 00 11
        00 03 '1.2'
        00 03 '1.9'
        00 05           # length of the related general SOP classes
        00 04 '1.4'     # which is one byte shorter than this one says
    """)
    assert_protocol_error(lambda: decoding.decode_user_information(body), "related general SOP class item length")


def test_a_user_identity_may_leave_its_secondary_field_out() -> None:
    info = decoding.decode_user_information(wire("58 00 00 07  01 00  00 03 'joe'"))
    assert info.user_identity == UserIdentity(1, False, b"joe", b"")


@given(user_informations)
def test_user_information_survives_the_round_trip(info: UserInformation) -> None:
    assert decoding.decode_user_information(body_of(items.encode_user_information(info))) == info


@given(st.binary(max_size=60))
def test_any_user_information_is_a_value_or_a_protocol_error(body: bytes) -> None:
    try:
        info = decoding.decode_user_information(body)
    except ProtocolError:
        return
    assert isinstance(info, UserInformation)


@given(st.lists(st.tuples(st.integers(0x50, 0x5A), st.binary(max_size=16)), max_size=4))
def test_any_bytes_in_a_sub_item_are_a_value_or_a_protocol_error(sub_items: list[tuple[int, bytes]]) -> None:
    try:
        info = decoding.decode_user_information(b"".join(items.encode_item(*sub_item) for sub_item in sub_items))
    except ProtocolError:
        return
    assert isinstance(info, UserInformation)


@given(st.binary(max_size=60))
def test_any_context_is_a_value_or_a_protocol_error(body: bytes) -> None:
    for decode in (decoding.decode_proposed_context, decoding.decode_negotiated_context):
        try:
            decode(body)
        except ProtocolError as error:
            assert error.field
