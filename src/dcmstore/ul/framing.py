"""bytes -> PDUs and PDV fragments, however the network cuts them.

Bytes of a P-DATA-TF are handed on at once, as views of the chunk they came in, so that memory does not grow
with the length of a PDU. Of everything else only a header or one bounded PDU is gathered.
"""

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from dcmstore.errors import ProtocolError
from dcmstore.ul.pdu import (
    COMMAND_BIT,
    LAST_BIT,
    PDU,
    PDU_HEADER,
    PDV_HEADER,
    PDUType,
    check_header,
    decode,
)

# bytes of a P-DATA-TF that are let pass whatever bound was announced: some senders ignore it, and as fragments
# are never gathered it costs nothing. Beyond, a length is a fault and not a habit.
TOLERATED_LENGTH = 16 * 1024 * 1024


class Fragment(NamedTuple):
    """A part of one PDV: at most as much of it as one chunk held (PS3.8 9.3.5.1).

    `data` is a view of the receiver's buffer, valid until the next chunk is received.
    `is_last` is true on the part that completes the message's command or data set.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class _State(IntEnum):
    """What the next bytes belong to."""

    IN_PDU_HEADER = 1
    IN_PDU_BODY = 2  # of every type but P-DATA-TF
    IN_PDV_HEADER = 3
    IN_FRAGMENT = 4


# hot: bench; looked up several times a PDU, and a member of an Enum takes four times as long to find as a name here.
_IN_PDU_HEADER, _IN_PDU_BODY, _IN_PDV_HEADER, _IN_FRAGMENT = _State
_P_DATA_TF = int(PDUType.P_DATA_TF)


class Framing:
    """Turns chunks of one TCP stream into PDUs and fragments.

    `max_length_received` is the bound we announced for a P-DATA-TF, in bytes; 0 means unlimited.
    """

    def __init__(self, max_length_received: int) -> None:
        self._max_length = max(max_length_received, TOLERATED_LENGTH) if max_length_received else 0xFFFF_FFFF
        self._state = _IN_PDU_HEADER
        self._wanted = PDU_HEADER.size  # bytes that belong to it and have not come yet
        self._gathered = bytearray()  # those that have come, of what can't be handed on in parts
        self._pdu_type = 0
        self._pdvs_left = 0  # bytes of a P-DATA-TF behind the PDV that has begun
        self._context_id = 0
        self._control = 0

    @property
    def is_between_pdus(self) -> bool:
        """True when every PDU that was begun is complete."""
        return self._state is _IN_PDU_HEADER and not self._gathered

    def receive(self, chunk: memoryview) -> Iterator[PDU | Fragment]:  # hot: bench
        """Yield what the chunk completes. Raises ProtocolError; nothing may be received after that."""
        position, end = 0, len(chunk)
        while position < end:
            part = chunk[position : position + self._wanted]
            position += len(part)
            self._wanted -= len(part)
            if self._state is not _IN_FRAGMENT and (self._wanted or self._gathered):
                self._gathered += part
                if self._wanted:
                    return
                part, self._gathered = memoryview(self._gathered), bytearray()
            event = _ACTIONS[self._state](self, part)
            if event is not None:
                yield event

    def _begin_pdu(self, header: memoryview) -> None:
        self._pdu_type, length = PDU_HEADER.unpack(header)
        if self._pdu_type != _P_DATA_TF:
            check_header(self._pdu_type, length)
            self._state, self._wanted = _IN_PDU_BODY, length
            return
        if not PDV_HEADER.size <= length <= self._max_length:
            raise ProtocolError("P-DATA-TF length", length, f"{PDV_HEADER.size} to {self._max_length}")
        self._pdvs_left = length
        self._state, self._wanted = _IN_PDV_HEADER, PDV_HEADER.size

    def _end_pdu(self, body: memoryview) -> PDU:
        self._state, self._wanted = _IN_PDU_HEADER, PDU_HEADER.size
        return decode(self._pdu_type, bytes(body))

    def _begin_pdv(self, header: memoryview) -> Fragment | None:
        length, self._context_id, self._control = PDV_HEADER.unpack(header)
        # PS3.8 9.3.5.1: the length counts context ID and control header too, and stays inside its PDU.
        if not 2 <= length <= self._pdvs_left - 4:
            raise ProtocolError("PDV length", length, f"2 to {self._pdvs_left - 4}, what is left of its PDU")
        self._pdvs_left -= 4 + length
        # Said before the fragment is handed on, so that the outcome is the same however the chunks are cut.
        if 0 < self._pdvs_left < PDV_HEADER.size:
            raise ProtocolError("PDV header", f"{self._pdvs_left} bytes left in its PDU", f"{PDV_HEADER.size}")
        self._state, self._wanted = _IN_FRAGMENT, length - 2
        return self._pass_fragment(header[:0]) if length == 2 else None

    def _pass_fragment(self, part: memoryview) -> Fragment:
        """Hand on as much of a PDV as there is."""
        is_last = False
        if self._wanted == 0:
            is_last = bool(self._control & LAST_BIT)
            if self._pdvs_left:
                self._state, self._wanted = _IN_PDV_HEADER, PDV_HEADER.size
            else:
                self._state, self._wanted = _IN_PDU_HEADER, PDU_HEADER.size
        return Fragment(self._context_id, bool(self._control & COMMAND_BIT), is_last, part)


# What each state does with its bytes: with all of them at once, but in IN_FRAGMENT with as many as have come.
_ACTIONS: dict[int, Callable[[Framing, memoryview], PDU | Fragment | None]] = {
    _IN_PDU_HEADER: Framing._begin_pdu,
    _IN_PDU_BODY: Framing._end_pdu,
    _IN_PDV_HEADER: Framing._begin_pdv,
    _IN_FRAGMENT: Framing._pass_fragment,
}
