"""The seven PDUs: each one whole, byte by byte, with trailing bytes, round trip, and against pynetdicom."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import pdu as oracle
from pynetdicom import pdu_items as oracle_items

from dcmstore.errors import AbortReason, AbortSource, ProtocolError
from dcmstore.ul import decoding, items, pdu
from dcmstore.ul.framing import Fragment, Framing
from dcmstore.ul.items import (
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    NegotiatedContext,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)
from dcmstore.ul.pdu import PDU, AAbort, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRP, AReleaseRQ, PDUType
from tests.wire import (
    assert_protocol_error,
    associate_accepts,
    associate_requests,
    joined,
    outcome_of,
    pdus_of,
    wire,
)

HEADER = 6  # bytes: type, reserved, length
HEAD = 68  # bytes of A-ASSOCIATE in front of its items

REQUEST = wire("""
    01              # A-ASSOCIATE-RQ
    00              # reserved
    00 00 00 AE     # length: 174
    00 01           # protocol version
    00 00           # reserved
    'DCMSTORE        '  # called AE title
    'CT1             '  # calling AE title
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  # reserved
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00

    10 00 00 15     # application context item
    '1.2.840.10008.3.1.1.1'

    20 00 00 2E     # presentation context item
    01 00 00 00     # presentation context ID, reserved
    30 00 00 11
    '1.2.840.10008.1.1'
    40 00 00 11
    '1.2.840.10008.1.2'

    50 00 00 1B     # user information item
    51 00 00 04
    00 00 40 00     # maximum length received
    52 00 00 05
    '1.2.3'
    55 00 00 06
    'TEST_1'
""")
REQUEST_VALUE = AAssociateRQ(
    "DCMSTORE",
    "CT1",
    (ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),),
    UserInformation(16384, "1.2.3", "TEST_1"),
)

ACCEPT = wire("""
    02              # A-ASSOCIATE-AC
    00              # reserved
    00 00 00 86     # length: 134
    00 01           # protocol version
    00 00           # reserved
    'DCMSTORE        '  # what the request called
    'CT1             '  # what the request called itself
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  # reserved
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00

    10 00 00 15     # application context item
    '1.2.840.10008.3.1.1.1'

    21 00 00 19     # presentation context item
    01 00           # presentation context ID, reserved
    00 00           # result: acceptance, reserved
    40 00 00 11
    '1.2.840.10008.1.2'

    50 00 00 08     # user information item
    51 00 00 04
    00 00 00 00     # maximum length received: unlimited
""")
ACCEPT_VALUE = AAssociateAC(
    "DCMSTORE", "CT1", (NegotiatedContext(1, ContextResult.ACCEPTANCE, "1.2.840.10008.1.2"),), UserInformation(0)
)

REJECT = wire("""
    03              # A-ASSOCIATE-RJ
    00              # reserved
    00 00 00 04     # length
    00              # reserved
    02              # result: rejected-transient
    03              # source: service provider (presentation)
    01              # reason: temporary congestion
""")
RELEASE_REQUEST = wire("""
    05              # A-RELEASE-RQ
    00              # reserved
    00 00 00 04     # length
    00 00 00 00     # reserved
""")
RELEASE_RESPONSE = wire("""
    06              # A-RELEASE-RP
    00              # reserved
    00 00 00 04     # length
    00 00 00 00     # reserved
""")
ABORT = wire("""
    07              # A-ABORT
    00              # reserved
    00 00 00 04     # length
    00 00           # reserved
    02              # source: service provider
    06              # reason: invalid PDU parameter value
""")

SAMPLES: dict[str, tuple[bytes, PDU]] = {
    "A-ASSOCIATE-RQ": (REQUEST, REQUEST_VALUE),
    "A-ASSOCIATE-AC": (ACCEPT, ACCEPT_VALUE),
    "A-ASSOCIATE-RJ": (REJECT, AAssociateRJ(2, 3, 1)),
    "A-RELEASE-RQ": (RELEASE_REQUEST, AReleaseRQ()),
    "A-RELEASE-RP": (RELEASE_RESPONSE, AReleaseRP()),
    "A-ABORT": (ABORT, AAbort(2, 6)),
}
each_sample = pytest.mark.parametrize(("encoded", "value"), SAMPLES.values(), ids=SAMPLES.keys())
each_decoded_type = pytest.mark.parametrize("pdu_type", [t for t in PDUType if t is not PDUType.P_DATA_TF])


def decode(encoded: bytes) -> PDU:
    return pdu.decode(encoded[0], encoded[HEADER:])


def request_of(variable_items: bytes) -> AAssociateRQ:
    """A request with these items behind the head of the sample."""
    decoded = pdu.decode(PDUType.A_ASSOCIATE_RQ, REQUEST[HEADER : HEADER + HEAD] + variable_items)
    assert isinstance(decoded, AAssociateRQ)
    return decoded


# --- all types -------------------------------------------------------------------------------------


@each_sample
def test_a_pdu_is_decoded(encoded: bytes, value: PDU) -> None:
    assert decode(encoded) == value


@each_sample
def test_a_pdu_is_encoded(encoded: bytes, value: PDU) -> None:
    assert pdu.encode(value) == encoded


@each_sample
def test_the_length_of_a_pdu_counts_what_follows_it(encoded: bytes, value: PDU) -> None:
    assert pdus_of(pdu.encode(value)) == [encoded]


@each_sample
def test_a_byte_behind_a_pdu_is_an_error(encoded: bytes, value: PDU) -> None:
    with pytest.raises(ProtocolError):
        decode(encoded + b"\0")


@each_sample
def test_a_pdu_cut_inside_a_field_is_an_error(encoded: bytes, value: PDU) -> None:
    ends_of_items = {HEADER + HEAD}
    if len(encoded) > HEADER + HEAD:
        for _, item in decoding.decode_items(encoded[HEADER + HEAD :], "item"):
            ends_of_items.add(max(ends_of_items) + 4 + len(item))
    for size in set(range(HEADER, len(encoded))) - ends_of_items:
        with pytest.raises(ProtocolError):
            decode(encoded[:size])


@each_sample
def test_the_reserved_byte_of_a_header_is_not_tested(encoded: bytes, value: PDU) -> None:
    chunk = encoded[:1] + b"\xff" + encoded[2:]
    assert outcome_of(Framing(0).receive, [chunk]) == [value]


@each_decoded_type
def test_a_pdu_of_no_bytes_is_an_error(pdu_type: PDUType) -> None:
    with pytest.raises(ProtocolError):
        pdu.decode(pdu_type, b"")


@pytest.mark.parametrize("pdu_type", [0x00, 0x04, 0x08, 0x50, 0xFF])
def test_a_type_without_decoder_is_an_unrecognized_pdu(pdu_type: int) -> None:
    error = assert_protocol_error(lambda: pdu.decode(pdu_type, bytes(4)), "PDU type")
    assert error.reason is AbortReason.UNRECOGNIZED_PDU


@each_decoded_type
@given(body=st.binary(max_size=100))
def test_any_bytes_are_a_pdu_or_a_protocol_error(pdu_type: PDUType, body: bytes) -> None:
    try:
        pdu.decode(pdu_type, body)
    except ProtocolError as error:
        assert str(error)


@given(body=st.binary(max_size=80), pdu_type=st.sampled_from([PDUType.A_ASSOCIATE_RQ, PDUType.A_ASSOCIATE_AC]))
def test_any_items_behind_a_good_head_are_a_pdu_or_a_protocol_error(pdu_type: PDUType, body: bytes) -> None:
    try:
        decoded = pdu.decode(pdu_type, REQUEST[HEADER : HEADER + HEAD] + body)
    except ProtocolError:
        return
    assert isinstance(decoded, AAssociateRQ | AAssociateAC)


@given(places=st.dictionaries(st.integers(HEADER, len(REQUEST) - 1), st.integers(0, 255), max_size=4))
def test_a_request_with_some_bytes_changed_is_a_pdu_or_a_protocol_error(places: dict[int, int]) -> None:
    damaged = bytearray(REQUEST)
    for place, byte in places.items():
        damaged[place] = byte
    try:
        assert isinstance(decode(bytes(damaged)), AAssociateRQ)
    except ProtocolError as error:
        assert error.field


# --- A-ASSOCIATE -----------------------------------------------------------------------------------


@given(associate_requests)
def test_an_association_request_survives_the_round_trip(request_value: AAssociateRQ) -> None:
    assert decode(pdu.encode(request_value)) == request_value


@given(associate_accepts)
def test_an_association_answer_survives_the_round_trip(answer: AAssociateAC) -> None:
    assert decode(pdu.encode(answer)) == answer


@pytest.mark.parametrize("size", range(HEAD))
def test_a_head_shorter_than_68_bytes_is_an_error(size: int) -> None:
    for pdu_type in (PDUType.A_ASSOCIATE_RQ, PDUType.A_ASSOCIATE_AC):
        with pytest.raises(ProtocolError, match=r"^A-ASSOCIATE-(RQ|AC) length: "):
            pdu.decode(pdu_type, bytes(size))


def test_a_head_of_zeros_without_items_is_a_request_for_nothing() -> None:
    request = pdu.decode(PDUType.A_ASSOCIATE_RQ, bytes(HEAD))
    assert request == AAssociateRQ("", "", application_context_name="", protocol_version=0)


def test_reserved_bytes_of_the_head_are_not_tested() -> None:
    head = wire("""
        00 01           # protocol version
        FF FF           # reserved
        'DCMSTORE        '
        'CT1             '
        FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF
        FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF FF
    """)
    request = pdu.decode(PDUType.A_ASSOCIATE_RQ, head)
    assert request == AAssociateRQ("DCMSTORE", "CT1", application_context_name="")


def test_all_bits_of_the_protocol_version_are_told() -> None:
    encoded = REQUEST[:HEADER] + wire("80 03") + REQUEST[HEADER + 2 :]
    request = decode(encoded)
    assert isinstance(request, AAssociateRQ)
    assert request.protocol_version == 0x8003


@pytest.mark.parametrize(
    "padded", [b"CT1".ljust(16), b"CT1".ljust(16, b"\0"), b"  CT1".ljust(16), b"CT1 \0rubbish\xff\xfe\0\0"]
)
def test_an_ae_title_is_known_under_any_padding(padded: bytes) -> None:
    head = bytearray(REQUEST[HEADER : HEADER + HEAD])
    head[4:20] = head[20:36] = padded
    request = pdu.decode(PDUType.A_ASSOCIATE_RQ, bytes(head))
    assert isinstance(request, AAssociateRQ)
    assert (request.called_ae_title, request.calling_ae_title) == ("CT1", "CT1")


def test_an_ae_title_of_16_characters_fills_its_field() -> None:
    title = "ABCDEFGHIJKLMNOP"
    assert pdu.encode(AAssociateRQ(title, title))[10:42] == 2 * title.encode()


def test_a_longer_ae_title_is_cut_to_16_characters() -> None:
    assert pdu.encode(AAssociateRQ("ABCDEFGHIJKLMNOPQ", "CT1"))[10:26] == b"ABCDEFGHIJKLMNOP"


def test_unknown_items_are_passed_over() -> None:
    request = request_of(
        wire("""
            99 00 00 02 'AB'    # nobody knows
            10 00 00 03 '1.2'
            21 00 00 01 00      # an item of the answer; in a request it is unknown
            00 00 00 00
        """)
    )
    assert request.application_context_name == "1.2"
    assert request.presentation_contexts == ()


def test_items_may_come_in_any_order() -> None:
    request = request_of(
        wire("""
            50 00 00 08
            51 00 00 04  00 00 00 07
            20 00 00 04  03 00 00 00
            10 00 00 03 '1.2'
        """)
    )
    assert request.user_information == UserInformation(7)
    assert request.presentation_contexts == (ProposedContext(3, "", ()),)


def test_zero_length_items_are_empty() -> None:
    request = request_of(
        wire("""
            10 00 00 00     # application context, no bytes
            50 00 00 00     # user information, no bytes
        """)
    )
    assert request == AAssociateRQ("DCMSTORE", "CT1", application_context_name="")


def test_a_zero_length_presentation_context_is_an_error() -> None:
    assert_protocol_error(lambda: request_of(wire("20 00 00 00")), "presentation context item length")


def test_a_padded_application_context_name_is_known() -> None:
    assert request_of(wire("10 00 00 04 '1.2' 00")).application_context_name == "1.2"


def contexts_with(ids: list[int]) -> bytes:
    return b"".join(items.encode_proposed_context(ProposedContext(n, f"1.2.{i}", ("1.2",))) for i, n in enumerate(ids))


def test_128_presentation_contexts_are_taken() -> None:
    ids = list(range(1, 256, 2))
    assert [context.context_id for context in request_of(contexts_with(ids)).presentation_contexts] == ids


def test_presentation_contexts_keep_the_order_of_the_request() -> None:
    assert [context.context_id for context in request_of(contexts_with([255, 1, 7])).presentation_contexts] == [
        255,
        1,
        7,
    ]


@pytest.mark.parametrize("repeated", [1, 127, 255])
def test_a_129th_context_repeats_an_id_and_is_an_error(repeated: int) -> None:
    contexts = contexts_with([*range(1, 256, 2), repeated])
    assert_protocol_error(lambda: request_of(contexts), "presentation context IDs")


@pytest.mark.parametrize("even", [0, 2, 254])
def test_a_129th_context_with_an_even_id_is_an_error(even: int) -> None:
    contexts = contexts_with([*range(1, 256, 2), even])
    assert_protocol_error(lambda: request_of(contexts), "presentation context ID")


def test_two_contexts_with_one_id_are_an_error() -> None:
    assert_protocol_error(lambda: request_of(contexts_with([5, 5])), "presentation context IDs")


def test_the_largest_plausible_request_stays_under_the_bound() -> None:
    syntaxes = tuple(f"1.2.840.10008.1.2.4.{n}" for n in range(60))
    contexts = tuple(ProposedContext(n, "1.2.840.10008.5.1.4.1.1.2", syntaxes) for n in range(1, 256, 2))
    encoded = pdu.encode(AAssociateRQ("DCMSTORE", "CT1", contexts))
    assert len(encoded) < pdu.MAX_ASSOCIATE_LENGTH


# --- P-DATA-TF -------------------------------------------------------------------------------------


def test_a_command_set_is_encoded_as_one_pdu() -> None:
    encoded = pdu.encode_p_data(3, b"ABCD", is_command=True, peer_max_length=16384)
    assert encoded == wire("""
        04              # P-DATA-TF
        00              # reserved
        00 00 00 0A     # length: 10
        00 00 00 06     # PDV length: 6
        03              # presentation context ID
        03              # message control header: command, last
        'ABCD'
    """)


def test_a_data_set_longer_than_the_peer_receives_is_cut() -> None:
    encoded = pdu.encode_p_data(1, b"ABCDEF", is_command=False, peer_max_length=10)
    assert encoded == wire("""
        04 00           # P-DATA-TF, reserved
        00 00 00 0A     # length: 10, as much as the peer receives
        00 00 00 06     # PDV length: 6
        01              # presentation context ID
        00              # message control header: data set, not last
        'ABCD'
        04 00
        00 00 00 08     # length: 8
        00 00 00 04     # PDV length: 4
        01
        02              # message control header: data set, last
        'EF'
    """)


def test_data_that_fits_exactly_is_one_pdu() -> None:
    assert len(pdus_of(pdu.encode_p_data(1, bytes(10), is_command=True, peer_max_length=16))) == 1


def test_no_data_are_one_empty_last_fragment() -> None:
    assert pdu.encode_p_data(1, b"", is_command=False, peer_max_length=0) == wire("""
        04 00
        00 00 00 06     # length
        00 00 00 02     # PDV length: nothing but
        01 02           # context ID and message control header
    """)


def test_unlimited_data_are_one_pdu() -> None:
    assert len(pdus_of(pdu.encode_p_data(1, bytes(1_000_000), is_command=False, peer_max_length=0))) == 1


@given(st.binary(max_size=200), st.booleans(), st.integers(8, 64))
def test_no_pdu_is_longer_than_the_peer_receives(data: bytes, is_command: bool, peer_max_length: int) -> None:
    encoded = pdu.encode_p_data(1, data, is_command=is_command, peer_max_length=peer_max_length)
    assert all(len(p) - HEADER <= peer_max_length for p in pdus_of(encoded))


@given(st.binary(max_size=100).map(lambda half: 2 * half), st.integers(0, 64))
def test_every_fragment_of_even_data_is_even(data: bytes, peer_max_length: int) -> None:
    # PS3.8 E.1: each fragment of a message shall consist of an even number of bytes
    encoded = pdu.encode_p_data(1, data, is_command=True, peer_max_length=peer_max_length)
    assert all(len(p) % 2 == 0 for p in pdus_of(encoded))


@given(st.binary(max_size=200), st.booleans(), st.integers(0, 64))
def test_data_survive_any_cutting(data: bytes, is_command: bool, peer_max_length: int) -> None:
    encoded = pdu.encode_p_data(7, data, is_command=is_command, peer_max_length=peer_max_length)
    events = outcome_of(Framing(0).receive, [encoded])
    assert joined(events) == [Fragment(7, is_command, True, memoryview(data))]


@given(st.binary(max_size=200), st.integers(0, 64))
def test_only_the_last_fragment_says_that_it_is_the_last(data: bytes, peer_max_length: int) -> None:
    encoded = pdu.encode_p_data(1, data, is_command=False, peer_max_length=peer_max_length)
    controls = [p[HEADER + 5] for p in pdus_of(encoded)]
    assert controls == [0] * (len(controls) - 1) + [pdu.LAST_BIT]


# --- A-ABORT ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", AbortReason)
def test_the_providers_abort_says_why(reason: AbortReason) -> None:
    assert pdu.abort_for(ProtocolError("PDU", "this", "that", reason=reason)) == AAbort(2, reason)


def test_the_users_abort_carries_no_reason() -> None:
    error = ProtocolError("PDU", "this", "that", source=AbortSource.SERVICE_USER, reason=AbortReason.UNEXPECTED_PDU)
    assert pdu.abort_for(error) == AAbort(0, 0)


def test_a_protocol_error_names_field_what_came_and_what_is_allowed() -> None:
    assert str(ProtocolError("PDU type", "09H", "01H to 07H")) == "PDU type: got 09H, allowed is 01H to 07H"


# --- pynetdicom says the same ----------------------------------------------------------------------

WHOLE = AAssociateRQ(
    "DCMSTORE",
    "CT1",
    (
        ProposedContext(1, "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")),
        ProposedContext(255, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),
    ),
    UserInformation(
        max_length_received=16382,
        implementation_class_uid="1.2.826.0.1.3680043.9.3811.3.0.4",
        implementation_version_name="PYNETDICOM_304",
        async_operations_window=(5, 7),
        role_selections=(RoleSelection("1.2.840.10008.5.1.4.1.1.2", True, False),),
        extended_negotiations=(ExtendedNegotiation("1.2.840.10008.5.1.4.1.1.2", b"\2\0\0\0"),),
        common_extended_negotiations=(
            CommonExtendedNegotiation("1.2.3.4", "1.2.840.10008.4.2", ("1.2.840.10008.5.1.4.1.1.88.22", "1.2.5")),
        ),
        user_identity=UserIdentity(2, True, b"joe", b"secret"),
    ),
)


def oracle_item(cls: type, **values: object) -> Any:
    item = cls()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def oracle_request(request: AAssociateRQ) -> oracle.A_ASSOCIATE_RQ:
    """The same request in pynetdicom's classes."""
    encoded = oracle.A_ASSOCIATE_RQ()
    encoded.called_ae_title, encoded.calling_ae_title = request.called_ae_title, request.calling_ae_title
    name = oracle_item(oracle_items.ApplicationContextItem, application_context_name=request.application_context_name)
    contexts = []
    for context in request.presentation_contexts:
        item = oracle_items.PresentationContextItemRQ()
        item.presentation_context_id = context.context_id
        item.abstract_transfer_syntax_sub_items = [
            oracle_item(oracle_items.AbstractSyntaxSubItem, abstract_syntax_name=context.abstract_syntax),
            *(
                oracle_item(oracle_items.TransferSyntaxSubItem, transfer_syntax_name=syntax)
                for syntax in context.transfer_syntaxes
            ),
        ]
        contexts.append(item)
    information = oracle_items.UserInformationItem()
    information.user_data = list(oracle_sub_items(request.user_information))
    encoded.variable_items = [name, *contexts, information]
    return encoded


def oracle_sub_items(info: UserInformation) -> list[Any]:
    window, identity = info.async_operations_window, info.user_identity
    assert window is not None
    assert identity is not None
    sub_items = [
        oracle_item(oracle_items.MaximumLengthSubItem, maximum_length_received=info.max_length_received),
        oracle_item(oracle_items.ImplementationClassUIDSubItem, implementation_class_uid=info.implementation_class_uid),
        oracle_item(
            oracle_items.AsynchronousOperationsWindowSubItem,
            maximum_number_operations_invoked=window[0],
            maximum_number_operations_performed=window[1],
        ),
    ]
    for role in info.role_selections:
        sub_items.append(
            oracle_item(
                oracle_items.SCP_SCU_RoleSelectionSubItem,
                sop_class_uid=role.sop_class_uid,
                scu_role=int(role.scu_role),
                scp_role=int(role.scp_role),
            )
        )
    sub_items.append(
        oracle_item(
            oracle_items.ImplementationVersionNameSubItem, implementation_version_name=info.implementation_version_name
        )
    )
    for extended in info.extended_negotiations:
        sub_items.append(
            oracle_item(
                oracle_items.SOPClassExtendedNegotiationSubItem,
                sop_class_uid=extended.sop_class_uid,
                service_class_application_information=extended.information,
            )
        )
    for common in info.common_extended_negotiations:
        sub_items.append(
            oracle_item(
                oracle_items.SOPClassCommonExtendedNegotiationSubItem,
                sop_class_uid=common.sop_class_uid,
                service_class_uid=common.service_class_uid,
                related_general_sop_class_identification=list(common.related_general_sop_class_uids),
            )
        )
    sub_items.append(
        oracle_item(
            oracle_items.UserIdentitySubItemRQ,
            user_identity_type=identity.kind,
            positive_response_requested=int(identity.response_requested),
            primary_field=identity.primary,
            secondary_field=identity.secondary,
        )
    )
    return sub_items


def test_what_pynetdicom_requests_is_decoded_to_the_same_values() -> None:
    assert decode(oracle_request(WHOLE).encode()) == WHOLE


def test_a_request_is_encoded_as_pynetdicom_encodes_it() -> None:
    assert pdu.encode(WHOLE) == oracle_request(WHOLE).encode()


def test_pynetdicom_decodes_what_we_request_to_the_same_values() -> None:
    decoded = oracle.A_ASSOCIATE_RQ()
    decoded.decode(pdu.encode(WHOLE))
    assert decoded == oracle_request(WHOLE)


def test_pynetdicom_decodes_what_we_accept_to_the_same_values() -> None:
    decoded = oracle.A_ASSOCIATE_AC()
    decoded.decode(
        pdu.encode(
            AAssociateAC(
                "DCMSTORE",
                "CT1",
                (
                    NegotiatedContext(1, ContextResult.ACCEPTANCE, "1.2.840.10008.1.2.1"),
                    NegotiatedContext(3, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, "1.2.840.10008.1.2"),
                ),
                UserInformation(
                    65536,
                    "1.2.3",
                    "TEST_1",
                    role_selections=(RoleSelection("1.2.4", True, False),),
                    user_identity_response=b"",
                ),
            )
        )
    )
    assert decoded.application_context_name == "1.2.840.10008.3.1.1.1"
    assert [
        (context.context_id, context.result, context.transfer_syntax) for context in decoded.presentation_context
    ] == [(1, 0, "1.2.840.10008.1.2.1"), (3, 3, "1.2.840.10008.1.2")]
    info = decoded.user_information
    assert info is not None
    assert info.maximum_length == 65536
    assert info.implementation_class_uid == "1.2.3"
    assert info.implementation_version_name == "TEST_1"
    ((uid, role),) = info.role_selection.items()
    assert (uid, role.scu_role, role.scp_role) == ("1.2.4", 1, 0)
    assert isinstance(info.user_identity, oracle_items.UserIdentitySubItemAC)
    assert info.user_identity.server_response == b""


def test_pynetdicom_decodes_what_we_reject_to_the_same_values() -> None:
    decoded = oracle.A_ASSOCIATE_RJ()
    decoded.decode(pdu.encode(AAssociateRJ(2, 3, 2)))
    assert (decoded.result, decoded.source, decoded.reason_diagnostic) == (2, 3, 2)


def test_pynetdicom_decodes_why_we_abort_to_the_same_values() -> None:
    decoded = oracle.A_ABORT_RQ()
    decoded.decode(pdu.encode(AAbort(2, 6)))
    assert (decoded.source, decoded.reason_diagnostic) == (2, 6)


@pytest.mark.parametrize(
    ("encoded", "cls"), [(RELEASE_REQUEST, oracle.A_RELEASE_RQ), (RELEASE_RESPONSE, oracle.A_RELEASE_RP)]
)
def test_a_release_is_encoded_as_pynetdicom_encodes_it(encoded: bytes, cls: type) -> None:
    assert cls().encode() == encoded


def test_pynetdicom_decodes_our_fragments_to_the_same_data() -> None:
    data = bytes(range(100))
    arrived = b""
    for encoded in pdus_of(pdu.encode_p_data(5, data, is_command=False, peer_max_length=38)):
        decoded = oracle.P_DATA_TF()
        decoded.decode(encoded)
        (pdv,) = decoded.presentation_data_value_items
        assert pdv.presentation_context_id == 5
        arrived += pdv.data or b""
    assert arrived == b"\0" + data[:32] + b"\0" + data[32:64] + b"\0" + data[64:96] + b"\2" + data[96:]


def test_every_type_of_pdu_has_a_sample() -> None:
    assert {sample[0] for sample, _ in SAMPLES.values()} | {PDUType.P_DATA_TF} == {1, 2, 3, 4, 5, 6, 7}
