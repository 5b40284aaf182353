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
from dcmstore.ul import decoding, items
from dcmstore.ul.items import ItemType, NegotiatedContext, ProposedContext, UserInformation

PDU_HEADER = struct.Struct(">BxI")  # type, reserved, length of what follows
PDV_HEADER = struct.Struct(">IBB")  # length of what follows, presentation context ID, message control header
_ASSOCIATE_HEAD = struct.Struct(">H2x64s")  # protocol version; what an answer repeats:
_AE_TITLES = struct.Struct("16s16s32x")  # called and calling AE title, reserved

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
    """PS3.8 9.3.2. AE titles come without their padding; `repeated` is bytes 11 to 74 of the PDU as they came."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[ProposedContext, ...] = ()
    user_information: UserInformation = field(default_factory=UserInformation)
    application_context_name: str = APPLICATION_CONTEXT
    protocol_version: int = 1
    repeated: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class AAssociateAC:
    """PS3.8 9.3.3. AE titles and reserved bytes repeat those of the request (table 9-17); nobody tests them."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[NegotiatedContext, ...] = ()
    user_information: UserInformation = field(default_factory=UserInformation)
    application_context_name: str = APPLICATION_CONTEXT
    protocol_version: int = 1
    repeated: bytes = field(default=b"", repr=False, compare=False)


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


def check_header(pdu_type: int, length: int) -> None:
    """Raise ProtocolError for an unknown type, or a length that this type can't have; every type except P-DATA-TF."""
    layout = _LAYOUTS.get(pdu_type)
    if layout is None:
        raise ProtocolError("PDU type", f"{pdu_type:02X}H", "01H to 07H", reason=AbortReason.UNRECOGNIZED_PDU)
    if not layout.shortest <= length <= layout.longest:
        name = PDUType(pdu_type).name.replace("_", "-")
        raise ProtocolError(f"{name} length", length, f"{layout.shortest} to {layout.longest}")


def decode(pdu_type: int, body: bytes) -> PDU:
    """Decode what follows the six bytes of a PDU's header; every type except P-DATA-TF.

    Raises ProtocolError on an unknown type, a missing or surplus byte, or a value the standard forbids.
    """
    check_header(pdu_type, len(body))
    return _LAYOUTS[pdu_type].decode(body)


def _decode_associate_rq(body: bytes) -> AAssociateRQ:
    common = _decode_associate(body, ItemType.PRESENTATION_CONTEXT_RQ)
    proposed = tuple(map(decoding.decode_proposed_context, common.presentation_contexts))
    ids = [context.context_id for context in proposed]
    if len(ids) > len(set(ids)):
        raise ProtocolError(
            "presentation context IDs",
            f"{len(ids)} contexts with {len(set(ids))} different IDs",
            f"a different ID each, so at most {items.MAX_PRESENTATION_CONTEXTS} contexts",
        )
    return AAssociateRQ(
        common.called_ae_title,
        common.calling_ae_title,
        proposed,
        common.user_information,
        common.application_context_name,
        common.protocol_version,
        common.repeated,
    )


def _decode_associate_ac(body: bytes) -> AAssociateAC:
    common = _decode_associate(body, ItemType.PRESENTATION_CONTEXT_AC)
    return AAssociateAC(
        common.called_ae_title,
        common.calling_ae_title,
        tuple(map(decoding.decode_negotiated_context, common.presentation_contexts)),
        common.user_information,
        common.application_context_name,
        common.protocol_version,
        common.repeated,
    )


@dataclass(frozen=True, slots=True)
class _Associate:
    """What RQ and AC have in common; the presentation contexts are still bytes."""

    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: list[bytes]
    user_information: UserInformation
    application_context_name: str
    protocol_version: int
    repeated: bytes


def _decode_associate(body: bytes, context_type: ItemType) -> _Associate:
    version, repeated = _ASSOCIATE_HEAD.unpack_from(body)
    called, calling = _AE_TITLES.unpack(repeated)
    application_context, contexts, info = "", [], UserInformation()
    for item_type, value in decoding.decode_items(body[_ASSOCIATE_HEAD.size :], "A-ASSOCIATE item"):
        if item_type == ItemType.APPLICATION_CONTEXT:
            application_context = decoding.decode_text(value)
        elif item_type == context_type:
            contexts.append(value)
        elif item_type == ItemType.USER_INFORMATION:
            info = decoding.decode_user_information(value)
    called_ae_title, calling_ae_title = decoding.decode_ae_title(called), decoding.decode_ae_title(calling)
    return _Associate(called_ae_title, calling_ae_title, contexts, info, application_context, version, repeated)


def _decode_associate_rj(body: bytes) -> AAssociateRJ:
    _, result, source, reason = body
    return AAssociateRJ(result, source, reason)


def _decode_abort(body: bytes) -> AAbort:
    _, _, source, reason = body
    return AAbort(source, reason)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How long a PDU of one type may be behind its header, in bytes, and what reads it."""

    shortest: int
    longest: int
    decode: Callable[[bytes], PDU]


# So that no peer makes us gather more. P-DATA-TF has its own bound in framing.py.
_LAYOUTS: dict[int, _Layout] = {
    PDUType.A_ASSOCIATE_RQ: _Layout(_ASSOCIATE_HEAD.size, MAX_ASSOCIATE_LENGTH, _decode_associate_rq),
    PDUType.A_ASSOCIATE_AC: _Layout(_ASSOCIATE_HEAD.size, MAX_ASSOCIATE_LENGTH, _decode_associate_ac),
    PDUType.A_ASSOCIATE_RJ: _Layout(4, 4, _decode_associate_rj),
    PDUType.A_RELEASE_RQ: _Layout(4, 4, lambda _: AReleaseRQ()),
    PDUType.A_RELEASE_RP: _Layout(4, 4, lambda _: AReleaseRP()),
    PDUType.A_ABORT: _Layout(4, 4, _decode_abort),
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
    titles = _AE_TITLES.pack(_encode_ae_title(pdu.called_ae_title), _encode_ae_title(pdu.calling_ae_title))
    head = _ASSOCIATE_HEAD.pack(pdu.protocol_version, pdu.repeated or titles)
    application_context = items.encode_item(
        ItemType.APPLICATION_CONTEXT, pdu.application_context_name.encode("latin-1")
    )
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
