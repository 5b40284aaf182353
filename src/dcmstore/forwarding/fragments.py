"""a data set in its file -> P-DATA-TF PDUs: as it is, in pieces."""

from collections.abc import Iterator

from dcmstore.forwarding.outgoing import Outgoing
from dcmstore.ul import pdu

_MAX_FRAGMENT = 64 * 1024  # bytes of a data set in one PDU, also for a peer that takes more


def pdus(outgoing: Outgoing, context_id: int, peer_max_length: int) -> Iterator[bytes]:
    """The data set as PDUs of one PDV each, none longer than the peer receives; 0 means unlimited (PS3.8 D.1).

    Raises OSError for what can't be read.
    """
    limit = (peer_max_length or _MAX_FRAGMENT) - pdu.PDV_HEADER.size
    step = max(min(limit, _MAX_FRAGMENT) & ~1, 2)  # every fragment but the last is even (PS3.8 E.1)
    outgoing.file.seek(outgoing.start)
    left = outgoing.size
    while left:
        size = min(step, left)
        fragment = outgoing.file.read(size)
        if len(fragment) < size:
            raise OSError("it became shorter while it was sent")
        left -= size
        control = 0 if left else pdu.LAST_BIT
        head = pdu.PDU_HEADER.pack(pdu.PDUType.P_DATA_TF, pdu.PDV_HEADER.size + size)
        yield head + pdu.PDV_HEADER.pack(2 + size, context_id, control) + fragment
