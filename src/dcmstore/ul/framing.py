"""bytes -> PDUs and PDV fragments, however the network cuts them.

Bytes of a P-DATA-TF are handed on at once, as views of the chunk they came in, so that memory does not grow
with the length of a PDU. Of everything else only a header or one bounded PDU is gathered.
"""

from collections.abc import Iterator
from typing import NamedTuple

from dcmstore.errors import AbortReason, ProtocolError
from dcmstore.ul.pdu import (
    COMMAND_BIT,
    LAST_BIT,
    MAX_LENGTHS,
    PDU,
    PDU_HEADER,
    PDV_HEADER,
    PDUType,
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


class Framing:
    """Turns chunks of one TCP stream into PDUs and fragments.

    `max_length_received` is the bound we announced for a P-DATA-TF, in bytes; 0 means unlimited.
    """

    def __init__(self, max_length_received: int) -> None:
        self._max_length = max(max_length_received, TOLERATED_LENGTH) if max_length_received else 0xFFFF_FFFF
        self._gathered = bytearray()  # an incomplete header, or a PDU other than P-DATA-TF
        self._pdu_type = 0  # 0: a PDU header is next
        self._pdu_left = 0  # bytes of this PDU not yet seen
        self._fragment_left = -1  # bytes of this PDV's fragment not yet seen; -1: a PDV header is next
        self._context_id = 0
        self._control = 0

    @property
    def is_between_pdus(self) -> bool:
        """True when every PDU that was begun is complete."""
        return self._pdu_type == 0 and not self._gathered

    def receive(self, chunk: memoryview) -> Iterator[PDU | Fragment]:  # hot: bench
        """Yield what the chunk completes. Raises ProtocolError; nothing may be received after that."""
        position, end = 0, len(chunk)
        while position < end or self._fragment_left == 0:
            if self._fragment_left >= 0:
                size = min(self._fragment_left, end - position)
                yield self._fragment(chunk[position : position + size])
                position += size
                continue
            wanted = self._wanted()
            if self._gathered or end - position < wanted:
                size = min(wanted - len(self._gathered), end - position)
                self._gathered += chunk[position : position + size]
                position += size
                if len(self._gathered) < wanted:
                    return
                complete, self._gathered = bytes(self._gathered), bytearray()
            else:
                complete = bytes(chunk[position : position + wanted])
                position += wanted
            if self._pdu_type == 0:
                self._begin_pdu(complete)
            elif self._pdu_type == PDUType.P_DATA_TF:
                self._begin_fragment(complete)
            else:
                pdu_type, self._pdu_type = self._pdu_type, 0
                yield decode(pdu_type, complete)

    def _wanted(self) -> int:
        """How many bytes the next decision needs."""
        if self._pdu_type == 0:
            return PDU_HEADER.size
        if self._pdu_type == PDUType.P_DATA_TF:
            return PDV_HEADER.size
        return self._pdu_left

    def _begin_pdu(self, header: bytes) -> None:
        pdu_type, length = PDU_HEADER.unpack(header)
        if pdu_type == PDUType.P_DATA_TF:
            if not PDV_HEADER.size <= length <= self._max_length:
                raise ProtocolError("P-DATA-TF length", length, f"{PDV_HEADER.size} to {self._max_length}")
        elif pdu_type not in MAX_LENGTHS:
            raise ProtocolError("PDU type", f"{pdu_type:02X}H", "01H to 07H", reason=AbortReason.UNRECOGNIZED_PDU)
        elif not 4 <= length <= MAX_LENGTHS[pdu_type]:
            raise ProtocolError(f"{PDUType(pdu_type).name} length", length, f"4 to {MAX_LENGTHS[pdu_type]}")
        self._pdu_type = pdu_type
        self._pdu_left = length

    def _begin_fragment(self, header: bytes) -> None:
        length, self._context_id, self._control = PDV_HEADER.unpack(header)
        # PS3.8 9.3.5.1: the length counts context ID and control header too, and stays inside its PDU.
        if not 2 <= length <= self._pdu_left - 4:
            raise ProtocolError("PDV length", length, f"2 to {self._pdu_left - 4}, what is left of its PDU")
        behind = self._pdu_left - 4 - length
        # Said before the fragment is handed on, so that the outcome is the same however the chunks are cut.
        if 0 < behind < PDV_HEADER.size:
            raise ProtocolError("PDV header", f"{behind} bytes left in its PDU", f"{PDV_HEADER.size}")
        self._fragment_left = length - 2
        self._pdu_left -= PDV_HEADER.size

    def _fragment(self, data: memoryview) -> Fragment:
        self._fragment_left -= len(data)
        self._pdu_left -= len(data)
        is_last = False
        if self._fragment_left == 0:
            self._fragment_left = -1
            is_last = bool(self._control & LAST_BIT)
            if self._pdu_left == 0:
                self._pdu_type = 0
        return Fragment(self._context_id, bool(self._control & COMMAND_BIT), is_last, data)
