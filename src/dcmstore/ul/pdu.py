"""bytes <-> PDU: the protocol data units of PS3.8 9.3 as frozen values.

P-DATA-TF has no value class: its fragments are handed on while they arrive (framing.py) and are never
gathered; here it is only encoded.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from dcmstore.errors import AbortReason, AbortSource, ProtocolError
from dcmstore.uids import APPLICATION_CONTEXT
from dcmstore.ul import items
from dcmstore.ul.items import NegotiatedContext, ProposedContext, UserInformation

PDU_HEADER = struct.Struct(">BxI")  # type, reserved, length of what follows
PDV_HEADER = struct.Struct(">IBB")  # length of what follows, presentation context ID, message control header
_ASSOCIATE_HEAD = struct.Struct(">H2x16s16s32x")  # protocol version, called and calling AE title

# PS3.8 annex E.2: the message control header
COMMAND_BIT = 0x01
LAST_BIT = 0x02

MAX_ASSOCIATE_LENGTH = 1024 * 1024  # bytes; 128 contexts of 60 transfer syntaxes each come to about 230 kB


class PDUType(IntEnum):
    """PS3.8 9.3.2 to 9.3.8."""

    A_ASSOCIATE_RQ = 0x01
    A_ASSOCIATE_AC = 0x02
    A_ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    A_RELEASE_RQ = 0x05
    A_RELEASE_RP = 0x06
    A_ABORT = 0x07


@dataclass(frozen=True, slots=True)
class AAssociateRQ:
    """PS3.8 9.3.2. AE titles come without their padding."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[ProposedContext, ...] = ()
    user_information: UserInformation = field(default_factory=UserInformation)
    application_context_name: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AAssociateAC:
    """PS3.8 9.3.3. The AE titles repeat those of the request; nobody tests them."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[NegotiatedContext, ...] = ()
    user_information: UserInformation = field(default_factory=UserInformation)
    application_context_name: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AAssociateRJ:
    """PS3.8 9.3.4: result, source and reason as table 9-21 numbers them."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class AReleaseRQ:
    """PS3.8 9.3.6."""


@dataclass(frozen=True, slots=True)
class AReleaseRP:
    """PS3.8 9.3.7."""


@dataclass(frozen=True, slots=True)
class AAbort:
    """PS3.8 9.3.8: source and reason as table 9-26 numbers them."""

    source: int
    reason: int


PDU: TypeAlias = AAssociateRQ | AAssociateAC | AAssociateRJ | AReleaseRQ | AReleaseRP | AAbort


# --- reading -------------------------------------------------------------------------------------


def decode(pdu_type: int, body: bytes) -> PDU:
    """Decode what follows the six bytes of a PDU's header; every type except P-DATA-TF.

    Raises ProtocolError on an unknown type, a missing or surplus byte, or a value the standard forbids.
    """
    try:
        decoder = _DECODERS[pdu_type]
    except KeyError:
        raise ProtocolError("PDU type", f"{pdu_type:02X}H", "01H to 07H", reason=AbortReason.UNRECOGNIZED_PDU) from None
    return decoder(body)


def _decode_associate_rq(body: bytes) -> AAssociateRQ:
    version, called, calling, application_context, contexts, info = _decode_associate(body, 0x20)
    proposed = tuple(items.decode_proposed_context(context) for context in contexts)
    ids = [context.context_id for context in proposed]
    if len(ids) > len(set(ids)):
        raise ProtocolError(
            "presentation context IDs",
            f"{len(ids)} contexts with {len(set(ids))} different IDs",
            f"a different ID each, so at most {items.MAX_PRESENTATION_CONTEXTS} contexts",
        )
    return AAssociateRQ(called, calling, proposed, info, application_context, version)


def _decode_associate_ac(body: bytes) -> AAssociateAC:
    version, called, calling, application_context, contexts, info = _decode_associate(body, 0x21)
    negotiated = tuple(items.decode_negotiated_context(context) for context in contexts)
    return AAssociateAC(called, calling, negotiated, info, application_context, version)


def _decode_associate(body: bytes, context_type: int) -> tuple[int, str, str, str, list[bytes], UserInformation]:
    """What RQ and AC have in common; the presentation contexts are left as bytes."""
    if len(body) < _ASSOCIATE_HEAD.size:
        raise ProtocolError("A-ASSOCIATE length", len(body), f"at least {_ASSOCIATE_HEAD.size}")
    version, called, calling = _ASSOCIATE_HEAD.unpack_from(body)
    application_context, contexts, info = "", [], UserInformation()
    for item_type, value in items.decode_items(body[_ASSOCIATE_HEAD.size :], "A-ASSOCIATE item"):
        if item_type == 0x10:
            application_context = items.decode_text(value)
        elif item_type == context_type:
            contexts.append(value)
        elif item_type == 0x50:
            info = items.decode_user_information(value)
    return version, items.decode_ae_title(called), items.decode_ae_title(calling), application_context, contexts, info


def _decode_four_bytes(body: bytes, name: str) -> bytes:
    """RJ, release and abort carry exactly four bytes."""
    if len(body) != 4:
        raise ProtocolError(f"{name} length", len(body), "4")
    return body


def _decode_associate_rj(body: bytes) -> AAssociateRJ:
    _, result, source, reason = _decode_four_bytes(body, "A-ASSOCIATE-RJ")
    return AAssociateRJ(result, source, reason)


def _decode_release_rq(body: bytes) -> AReleaseRQ:
    _decode_four_bytes(body, "A-RELEASE-RQ")
    return AReleaseRQ()


def _decode_release_rp(body: bytes) -> AReleaseRP:
    _decode_four_bytes(body, "A-RELEASE-RP")
    return AReleaseRP()


def _decode_abort(body: bytes) -> AAbort:
    _, _, source, reason = _decode_four_bytes(body, "A-ABORT")
    return AAbort(source, reason)


_DECODERS: dict[int, Callable[[bytes], PDU]] = {
    PDUType.A_ASSOCIATE_RQ: _decode_associate_rq,
    PDUType.A_ASSOCIATE_AC: _decode_associate_ac,
    PDUType.A_ASSOCIATE_RJ: _decode_associate_rj,
    PDUType.A_RELEASE_RQ: _decode_release_rq,
    PDUType.A_RELEASE_RP: _decode_release_rp,
    PDUType.A_ABORT: _decode_abort,
}

# What a PDU's length may be, so that no peer makes us gather more. P-DATA-TF has its own bound in framing.py.
MAX_LENGTHS: dict[int, int] = {
    PDUType.A_ASSOCIATE_RQ: MAX_ASSOCIATE_LENGTH,
    PDUType.A_ASSOCIATE_AC: MAX_ASSOCIATE_LENGTH,
    PDUType.A_ASSOCIATE_RJ: 4,
    PDUType.A_RELEASE_RQ: 4,
    PDUType.A_RELEASE_RP: 4,
    PDUType.A_ABORT: 4,
}


# --- writing -------------------------------------------------------------------------------------


def encode(pdu: PDU) -> bytes:
    """The whole PDU, header included."""
    match pdu:
        case AAssociateRQ():
            proposed = map(items.encode_proposed_context, pdu.presentation_contexts)
            return _encode_associate(PDUType.A_ASSOCIATE_RQ, pdu, b"".join(proposed))
        case AAssociateAC():
            negotiated = map(items.encode_negotiated_context, pdu.presentation_contexts)
            return _encode_associate(PDUType.A_ASSOCIATE_AC, pdu, b"".join(negotiated))
        case AAssociateRJ(result, source, reason):
            return _encode_pdu(PDUType.A_ASSOCIATE_RJ, bytes((0, result, source, reason)))
        case AReleaseRQ():
            return _encode_pdu(PDUType.A_RELEASE_RQ, bytes(4))
        case AReleaseRP():
            return _encode_pdu(PDUType.A_RELEASE_RP, bytes(4))
        case AAbort(source, reason):
            return _encode_pdu(PDUType.A_ABORT, bytes((0, 0, source, reason)))


def _encode_pdu(pdu_type: PDUType, body: bytes) -> bytes:
    return PDU_HEADER.pack(pdu_type, len(body)) + body


def _encode_associate(pdu_type: PDUType, pdu: AAssociateRQ | AAssociateAC, contexts: bytes) -> bytes:
    called, calling = _encode_ae_title(pdu.called_ae_title), _encode_ae_title(pdu.calling_ae_title)
    head = _ASSOCIATE_HEAD.pack(pdu.protocol_version, called, calling)
    application_context = items.encode_item(0x10, pdu.application_context_name.encode("latin-1"))
    information = items.encode_user_information(pdu.user_information)
    return _encode_pdu(pdu_type, head + application_context + contexts + information)


def _encode_ae_title(title: str) -> bytes:
    """16 bytes, padded with spaces (PS3.8 9.3.2)."""
    return title.encode("latin-1")[:16].ljust(16)


def encode_p_data(context_id: int, data: bytes, *, is_command: bool, peer_max_length: int) -> bytes:
    """One command or data set as P-DATA-TF PDUs of one PDV each, none longer than the peer receives.

    `peer_max_length` is the peer's max_length_received; 0 means unlimited (PS3.8 D.1).
    """
    # The length counts the PDV's own header (PS3.8 D.1), and every fragment is even (PS3.8 E.1); a limit too
    # small for that is read as two bytes a PDV.
    step = max((peer_max_length - PDV_HEADER.size) & ~1, 2) if peer_max_length else len(data) or 1
    kind = COMMAND_BIT if is_command else 0
    pdus = []
    for start in range(0, len(data) or 1, step):
        fragment = data[start : start + step]
        control = kind | (LAST_BIT if start + step >= len(data) else 0)
        pdus.append(
            PDU_HEADER.pack(PDUType.P_DATA_TF, PDV_HEADER.size + len(fragment))
            + PDV_HEADER.pack(2 + len(fragment), context_id, control)
            + fragment
        )
    return b"".join(pdus)


def abort_for(error: ProtocolError) -> AAbort:
    """The A-ABORT that answers a broken rule. A user's abort carries no reason (PS3.8 9.3.8)."""
    return AAbort(error.source, error.reason if error.source is AbortSource.SERVICE_PROVIDER else 0)
