"""What the tests of the pure core share: annotated hex, chunked streams, and values for hypothesis to draw."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st

from dcmstore.errors import ProtocolError
from dcmstore.ul.framing import Fragment
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
from dcmstore.ul.pdu import PDU_HEADER, PDV_HEADER, AAssociateAC, AAssociateRQ, PDUType

_TOKEN = re.compile(r"'([^']*)'|([0-9A-Fa-f]{2})(?=\s|$)|(\S+)")


def wire(annotated: str) -> bytes:
    """Bytes from annotated hex: a field a line, `'text'` for characters, `#` before a remark."""
    encoded = bytearray()
    for line in annotated.splitlines():
        for text, pair, rubbish in _TOKEN.findall(line.split("#")[0]):
            assert not rubbish, f"neither hex nor text: {rubbish}"
            encoded += bytes.fromhex(pair) if pair else text.encode("latin-1")
    return bytes(encoded)


def pdu_of(pdu_type: int, body: bytes) -> bytes:
    return PDU_HEADER.pack(pdu_type, len(body)) + body


def pdv_of(context_id: int, control: int, data: bytes) -> bytes:
    return PDV_HEADER.pack(2 + len(data), context_id, control) + data


def p_data_of(*pdvs: bytes) -> bytes:
    return pdu_of(PDUType.P_DATA_TF, b"".join(pdvs))


def pdus_of(stream: bytes) -> list[bytes]:
    """A stream of whole PDUs, cut at its headers."""
    pdus = []
    while stream:
        _, length = PDU_HEADER.unpack_from(stream)
        pdus.append(stream[: PDU_HEADER.size + length])
        stream = stream[PDU_HEADER.size + length :]
    return pdus


# --- streams and what comes of them ----------------------------------------------------------------


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """The stream in chunks that end at these places."""
    inside = {place % (len(stream) + 1) for place in places}
    return [stream[start:end] for start, end in pairwise(sorted({0, len(stream)} | inside))]


def outcome_of(receive: Callable[[memoryview], Iterator[Any]], chunks: Iterable[bytes]) -> list[object]:
    """The events of a stream, each fragment copied; a ProtocolError is the last one, as its text."""
    events: list[object] = []
    try:
        for chunk in chunks:
            for event in receive(memoryview(chunk)):
                events.append(
                    event._replace(data=memoryview(bytes(event.data))) if isinstance(event, Fragment) else event
                )
    except ProtocolError as error:
        events.append(f"{type(error).__name__}: {error}")
    return events


def joined(events: Sequence[object]) -> list[object]:
    """The same events with neighbouring fragments of one command or data set made one."""
    result: list[object] = []
    for event in events:
        last = result[-1] if result else None
        if (
            isinstance(event, Fragment)
            and isinstance(last, Fragment)
            and not last.is_last
            and last[:2] == event[:2]  # same context, same kind
        ):
            result[-1] = event._replace(data=memoryview(bytes(last.data) + bytes(event.data)))
        else:
            result.append(event)
    return result


def bytes_held(holder: object) -> int:
    """How many bytes an object keeps in its own attributes and in those of its parts."""
    held = 0
    for value in vars(holder).values():
        if isinstance(value, bytes | bytearray | memoryview | str | list | dict | set | tuple):
            held += len(value)
        elif hasattr(value, "__dict__") and not isinstance(value, type | Enum):
            held += bytes_held(value)
    return held


# What a peer may put where a UID belongs, and what is_uid says of it.
UIDS = ["1", "0", "1.2.3", "1.02.3", "0.0", "1..2", "9" * 64]
NO_UIDS = [
    "", ".", "..", "1.", ".1", "9" * 65, "9" * 30_000, "1.2.a", "1.2/3", "../../x\xe9", "junk class", "1.2.3 ",
    " 1.2.3", "1.2.3\n", "1.2.3\0", "1.2\n1.3", "-1", "+1", "1e5", "1_0", "1²", "١.٢", "1 2",
]  # fmt: skip


def assert_protocol_error(call: Callable[[], object], field: str) -> ProtocolError:
    """The call breaks a rule about the named field; return the error."""
    with pytest.raises(ProtocolError) as caught:
        call()
    assert caught.value.field == field
    return caught.value


# --- values ----------------------------------------------------------------------------------------

uids = st.lists(st.integers(0, 10**9), min_size=1, max_size=6).map(lambda parts: ".".join(map(str, (1, *parts))))
texts = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789é", max_size=16)
context_ids = st.integers(0, 127).map(lambda n: 2 * n + 1)
words = st.integers(0, 0xFFFF)

role_selections = st.builds(RoleSelection, uids, st.booleans(), st.booleans())
extended_negotiations = st.builds(ExtendedNegotiation, uids, st.binary(max_size=8))
common_extended_negotiations = st.builds(CommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=3).map(tuple))
user_identities = st.builds(
    UserIdentity, st.integers(1, 5), st.booleans(), st.binary(max_size=20), st.binary(max_size=20)
)
user_informations = st.builds(
    UserInformation,
    st.integers(0, 0xFFFF_FFFF),
    st.just("") | uids,
    texts,
    st.none() | st.tuples(words, words),
    st.lists(role_selections, max_size=3).map(tuple),
    st.lists(extended_negotiations, max_size=3).map(tuple),
    st.lists(common_extended_negotiations, max_size=3).map(tuple),
    st.none() | user_identities,
    st.none() | st.binary(max_size=20),
)
proposed_contexts = st.builds(ProposedContext, context_ids, st.just("") | uids, st.lists(uids, max_size=4).map(tuple))
negotiated_contexts = st.builds(NegotiatedContext, context_ids, st.sampled_from(ContextResult), st.just("") | uids)
associate_requests = st.builds(
    AAssociateRQ,
    texts,
    texts,
    st.lists(proposed_contexts, max_size=4, unique_by=lambda context: context.context_id).map(tuple),
    user_informations,
    st.just("") | uids,
    words,
)
associate_accepts = st.builds(
    AAssociateAC,
    texts,
    texts,
    st.lists(negotiated_contexts, max_size=4).map(tuple),
    user_informations,
    st.just("") | uids,
    words,
)
pdvs = st.builds(pdv_of, st.integers(0, 255), st.integers(0, 3), st.binary(max_size=30))
p_datas = st.lists(pdvs, min_size=1, max_size=4).map(lambda pdvs: p_data_of(*pdvs))
places = st.lists(st.integers(0, 4096), max_size=30)
