"""How a data set is cut into PDUs."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore.forwarding import fragments
from dcmstore.forwarding.outgoing import Context, Outgoing
from dcmstore.ul import pdu


def outgoing(data: bytes, head: bytes = b"head") -> Outgoing:
    return Outgoing(io.BytesIO(head + data), len(head), len(data), Context("1.2", "1.2"), "1.2")


@given(st.binary(min_size=1, max_size=300), st.sampled_from([0, 1, 7, 8, 9, 100, 101]))
def test_the_fragments_are_the_data_set_and_keep_to_the_rules(data: bytes, peer_max_length: int) -> None:
    found = b""
    pdus = list(fragments.pdus(outgoing(data), 5, peer_max_length))
    for number, encoded in enumerate(pdus, 1):
        kind, length = pdu.PDU_HEADER.unpack_from(encoded)
        size, context_id, control = pdu.PDV_HEADER.unpack_from(encoded, pdu.PDU_HEADER.size)
        fragment = encoded[pdu.PDU_HEADER.size + pdu.PDV_HEADER.size :]
        assert (kind, length, size, context_id) == (4, len(fragment) + 6, len(fragment) + 2, 5)
        assert control == (2 if number == len(pdus) else 0)
        assert len(fragment) % 2 == 0 or number == len(pdus)
        assert length <= max(peer_max_length, 8) or not peer_max_length
        found += fragment
    assert found == data


def test_a_peer_without_a_limit_gets_pieces_too() -> None:
    assert {len(encoded) for encoded in fragments.pdus(outgoing(bytes(1_000_000)), 1, 0)} <= set(range(70_000))


def test_what_is_not_there_is_not_sent() -> None:
    whole = outgoing(bytes(100))
    whole.file.truncate(50)
    with pytest.raises(OSError, match="became shorter"):
        list(fragments.pdus(whole, 1, 0))
