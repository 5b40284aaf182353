"""Fragments into messages: every right order, every wrong one, and the bound of a command set."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore.dimse import command
from dcmstore.dimse.command import NO_DATA_SET, CommandField, CommandSet
from dcmstore.dimse.message import MAX_COMMAND_SET, MessageAssembly
from dcmstore.errors import AbortReason, ProtocolError
from dcmstore.ul import pdu
from dcmstore.ul.framing import Fragment, Framing
from tests.wire import assert_protocol_error, bytes_held, cut, places

ECHO = CommandSet(CommandField.C_ECHO_RQ, message_id=1, command_data_set_type=NO_DATA_SET)
STORE = CommandSet(
    CommandField.C_STORE_RQ,
    message_id=2,
    affected_sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    affected_sop_instance_uid="1.2.3",
    command_data_set_type=0,
)


def command_fragment(data: bytes, *, is_last: bool = True, context_id: int = 1) -> Fragment:
    return Fragment(context_id, True, is_last, memoryview(data))


def data_fragment(data: bytes = b"AB", *, is_last: bool = True, context_id: int = 1) -> Fragment:
    return Fragment(context_id, False, is_last, memoryview(data))


def whole(command_set: CommandSet, context_id: int = 1) -> Fragment:
    return command_fragment(command.encode(command_set), context_id=context_id)


def assembly_after(*fragments: Fragment) -> MessageAssembly:
    assembly = MessageAssembly()
    for fragment in fragments:
        assembly.receive(fragment)
    return assembly


def refused(assembly: MessageAssembly, fragment: Fragment, field: str) -> ProtocolError:
    return assert_protocol_error(lambda: assembly.receive(fragment), field)


# --- right orders ----------------------------------------------------------------------------------


def test_a_command_set_in_one_fragment_is_returned() -> None:
    assert MessageAssembly().receive(whole(ECHO)) == ECHO


def test_a_command_set_in_many_fragments_is_returned_with_the_last() -> None:
    encoded = command.encode(ECHO)
    assembly = MessageAssembly()
    for byte in encoded[:-1]:
        assert assembly.receive(command_fragment(bytes((byte,)), is_last=False)) is None
    assert assembly.receive(command_fragment(encoded[-1:])) == ECHO


def test_an_empty_last_fragment_completes_a_command_set() -> None:
    assembly = assembly_after(command_fragment(command.encode(ECHO), is_last=False))
    assert assembly.receive(command_fragment(b"")) == ECHO


def test_a_data_set_fragment_returns_nothing() -> None:
    assembly = assembly_after(whole(STORE))
    assert assembly.receive(data_fragment(is_last=False)) is None
    assert assembly.receive(data_fragment(is_last=True)) is None


def test_messages_follow_one_another() -> None:
    assembly = assembly_after(whole(STORE), data_fragment())
    assert assembly.receive(whole(ECHO)) == ECHO
    assert assembly.receive(whole(STORE)) == STORE


def test_the_next_message_may_come_on_another_context() -> None:
    assembly = assembly_after(whole(STORE, context_id=1), data_fragment(context_id=1))
    assert assembly.receive(whole(ECHO, context_id=3)) == ECHO
    assert assembly.receive(whole(ECHO, context_id=5)) == ECHO


def test_an_empty_data_set_ends_a_message() -> None:
    assert assembly_after(whole(STORE), data_fragment(b"")).is_between_messages


# --- where a message ends --------------------------------------------------------------------------


def test_a_new_association_is_between_messages() -> None:
    assert MessageAssembly().is_between_messages


def test_a_begun_command_set_is_a_message_under_way() -> None:
    assert not assembly_after(command_fragment(b"", is_last=False)).is_between_messages


def test_a_command_set_that_announces_a_data_set_is_a_message_under_way() -> None:
    assert not assembly_after(whole(STORE)).is_between_messages


def test_a_begun_data_set_is_a_message_under_way() -> None:
    assert not assembly_after(whole(STORE), data_fragment(is_last=False)).is_between_messages


def test_a_command_set_without_data_set_ends_its_message() -> None:
    assert assembly_after(whole(ECHO)).is_between_messages


def test_the_last_data_set_fragment_ends_its_message() -> None:
    assert assembly_after(whole(STORE), data_fragment(is_last=False), data_fragment()).is_between_messages


# --- wrong orders ----------------------------------------------------------------------------------

UNDER_WAY: dict[str, list[Fragment]] = {
    "inside a command set": [command_fragment(b"", is_last=False)],
    "in front of a data set": [whole(STORE)],
    "inside a data set": [whole(STORE), data_fragment(is_last=False)],
}


@pytest.mark.parametrize("is_last", [False, True])
def test_a_data_set_before_any_command_is_an_error(is_last: bool) -> None:
    refused(MessageAssembly(), data_fragment(is_last=is_last), "message control header")


def test_a_data_set_inside_a_command_set_is_an_error() -> None:
    refused(assembly_after(command_fragment(b"", is_last=False)), data_fragment(), "message control header")


def test_a_data_set_nobody_announced_is_an_error() -> None:
    refused(assembly_after(whole(ECHO)), data_fragment(), "message control header")


def test_a_second_data_set_is_an_error() -> None:
    refused(assembly_after(whole(STORE), data_fragment()), data_fragment(), "message control header")


@pytest.mark.parametrize("is_last", [False, True])
def test_a_command_in_front_of_an_announced_data_set_is_an_error(is_last: bool) -> None:
    refused(assembly_after(whole(STORE)), command_fragment(b"", is_last=is_last), "message control header")


def test_a_command_inside_a_data_set_is_an_error() -> None:
    assembly = assembly_after(whole(STORE), data_fragment(is_last=False))
    refused(assembly, whole(ECHO), "message control header")


@pytest.mark.parametrize("fragments", UNDER_WAY.values(), ids=UNDER_WAY.keys())
@pytest.mark.parametrize("other", [whole(ECHO, context_id=3), data_fragment(context_id=3)])
def test_another_context_while_a_message_is_under_way_is_an_error(fragments: list[Fragment], other: Fragment) -> None:
    refused(assembly_after(*fragments), other, "presentation context ID")


def test_a_wrong_order_is_an_unexpected_parameter() -> None:
    error = refused(MessageAssembly(), data_fragment(), "message control header")
    assert error.reason is AbortReason.UNEXPECTED_PDU_PARAMETER


def test_an_empty_command_set_is_an_error() -> None:
    refused(MessageAssembly(), command_fragment(b""), "Command Field (0000,0100)")


def test_a_malformed_command_set_is_an_error() -> None:
    refused(MessageAssembly(), command_fragment(command.encode(ECHO)[:-1]), "length of (0000,0800)")


# --- the bound of a command set --------------------------------------------------------------------


def padded_to(size: int) -> bytes:
    """A command set of this size: C-ECHO-RQ and an element that nobody knows."""
    encoded = command.encode(ECHO)
    length = size - len(encoded) - 8
    return encoded + b"\0\0\xff\xff" + length.to_bytes(4, "little") + bytes(length)


def test_the_bound_of_a_command_set_is_16_kib() -> None:
    assert MAX_COMMAND_SET == 16384


def test_a_command_set_of_16_kib_is_taken() -> None:
    assert MessageAssembly().receive(command_fragment(padded_to(16384))) == ECHO


def test_a_larger_command_set_is_an_error() -> None:
    refused(MessageAssembly(), command_fragment(padded_to(16385)), "command set length")


def test_a_command_set_of_16_kib_in_fragments_is_taken() -> None:
    encoded = padded_to(16384)
    assembly = assembly_after(*(command_fragment(encoded[at : at + 100], is_last=False) for at in range(0, 16300, 100)))
    assert assembly.receive(command_fragment(encoded[16300:])) == ECHO


def test_a_larger_command_set_in_fragments_is_an_error() -> None:
    assembly = assembly_after(command_fragment(bytes(16384), is_last=False))
    refused(assembly, command_fragment(b"A"), "command set length")


def test_an_endless_command_set_is_not_gathered_beyond_its_bound() -> None:
    assembly = MessageAssembly()
    for _ in range(16):
        assembly.receive(command_fragment(bytes(1000), is_last=False))
    for _ in range(3):
        refused(assembly, command_fragment(bytes(1000), is_last=False), "command set length")
    assert bytes_held(assembly) == 16000


def test_endless_empty_command_fragments_are_not_gathered() -> None:
    assembly = assembly_after(*[command_fragment(b"", is_last=False)] * 10000)
    assert bytes_held(assembly) == 0


def test_no_data_set_is_gathered() -> None:
    assembly = assembly_after(whole(STORE), *[data_fragment(bytes(1000), is_last=False)] * 1000)
    assert bytes_held(assembly) == 0


def test_the_bound_counts_each_command_set_for_itself() -> None:
    assembly = MessageAssembly()
    for _ in range(3):
        assert assembly.receive(command_fragment(padded_to(16384))) == ECHO


# --- the invariants --------------------------------------------------------------------------------

any_fragments = st.builds(
    Fragment,
    st.sampled_from([1, 3]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([b"", b"AB", command.encode(ECHO), command.encode(STORE)]).map(memoryview),
)


def messages(fragments: Iterable[Fragment]) -> list[object]:
    """The command sets, each followed by its data set."""
    assembly = MessageAssembly()
    found: list[object] = []
    for fragment in fragments:
        command_set = assembly.receive(fragment)
        if command_set is not None:
            found += [command_set, b""] if command_set.has_data_set else [command_set]
        elif not fragment.is_command:
            found[-1] = bytes(found[-1]) + bytes(fragment.data)  # type: ignore[call-overload]
    return found


@given(st.lists(any_fragments, max_size=12))
def test_any_fragments_give_command_sets_or_a_protocol_error(fragments: list[Fragment]) -> None:
    try:
        assert all(isinstance(message, CommandSet | bytes) for message in messages(fragments))
    except ProtocolError as error:
        assert error.field


@given(
    st.lists(st.sampled_from([ECHO, STORE]), max_size=5), st.binary(max_size=50), st.sampled_from([0, 8, 20]), places
)
def test_what_is_sent_arrives_however_it_is_cut(
    sent: list[CommandSet], data: bytes, peer_max_length: int, places: list[int]
) -> None:
    stream, expected = b"", list[object]()
    for command_set in sent:
        encoded = command.encode(command_set)
        stream += pdu.encode_p_data(1, encoded, is_command=True, peer_max_length=peer_max_length)
        expected.append(command_set)
        if command_set.has_data_set:
            stream += pdu.encode_p_data(1, data, is_command=False, peer_max_length=peer_max_length)
            expected.append(data)
    framing = Framing(0)
    arrived = (event for chunk in cut(stream, places) for event in framing.receive(memoryview(chunk)))
    assert messages(event for event in arrived if isinstance(event, Fragment)) == expected
