"""items -> bytes: the variable part of A-ASSOCIATE-RQ and -AC (PS3.8 9.3.2 and 9.3.3, PS3.7 annex D).

Every item is a type byte, a reserved byte and a 16-bit big-endian length, then its body. What reads
them is in decoding.py.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from dcmstore.errors import AbortReason, ProtocolError

ITEM_HEADER = struct.Struct(">BxH")  # type, reserved, length of what follows
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")

MAX_PRESENTATION_CONTEXTS = 128  # the odd numbers of one byte (PS3.8 9.3.2.2)


class ItemType(IntEnum):
    """The items of A-ASSOCIATE-RQ and -AC, and the sub-items within them."""

    APPLICATION_CONTEXT = 0x10  # PS3.8 9.3.2.1
    PRESENTATION_CONTEXT_RQ = 0x20  # PS3.8 9.3.2.2
    PRESENTATION_CONTEXT_AC = 0x21  # PS3.8 9.3.3.2
    ABSTRACT_SYNTAX = 0x30  # PS3.8 9.3.2.2.1
    TRANSFER_SYNTAX = 0x40  # PS3.8 9.3.2.2.2
    USER_INFORMATION = 0x50  # PS3.8 9.3.2.3
    MAXIMUM_LENGTH = 0x51  # PS3.8 D.1
    IMPLEMENTATION_CLASS_UID = 0x52  # PS3.7 D.3.3.2.1
    ASYNCHRONOUS_OPERATIONS_WINDOW = 0x53  # PS3.7 D.3.3.3
    ROLE_SELECTION = 0x54  # PS3.7 D.3.3.4
    IMPLEMENTATION_VERSION_NAME = 0x55  # PS3.7 D.3.3.2.3
    EXTENDED_NEGOTIATION = 0x56  # PS3.7 D.3.3.5
    COMMON_EXTENDED_NEGOTIATION = 0x57  # PS3.7 D.3.3.6
    USER_IDENTITY = 0x58  # PS3.7 D.3.3.7.1
    USER_IDENTITY_RESPONSE = 0x59  # PS3.7 D.3.3.7.2


class ContextResult(IntEnum):
    """Result of one proposed presentation context (PS3.8 table 9-18)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as the requestor proposes it (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NegotiatedContext:
    """The acceptor's answer to one presentation context (PS3.8 9.3.3.2)."""

    context_id: int
    result: ContextResult
    transfer_syntax: str  # not significant unless accepted


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """SCP/SCU Role Selection of one SOP class (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu_role: bool
    scp_role: bool


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """SOP Class Extended Negotiation; the information is the service class's own (PS3.7 D.3.3.5)."""

    sop_class_uid: str
    information: bytes


@dataclass(frozen=True, slots=True)
class CommonExtendedNegotiation:
    """SOP Class Common Extended Negotiation: which service an unknown class belongs to (PS3.7 D.3.3.6)."""

    sop_class_uid: str
    service_class_uid: str
    related_general_sop_class_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """User Identity of the requestor (PS3.7 D.3.3.7). `kind` is 1 name, 2 name and passcode, 3 to 5 tokens."""

    kind: int
    response_requested: bool
    primary: bytes
    secondary: bytes = b""


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The User Information item: what two applications tell each other about themselves (PS3.7 D.3.3).

    `max_length_received` is in bytes of a P-DATA-TF's variable field; 0 means unlimited.
    """

    max_length_received: int = 0
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    async_operations_window: tuple[int, int] | None = None  # invoked, performed
    role_selections: tuple[RoleSelection, ...] = ()
    extended_negotiations: tuple[ExtendedNegotiation, ...] = ()
    common_extended_negotiations: tuple[CommonExtendedNegotiation, ...] = ()
    user_identity: UserIdentity | None = None
    user_identity_response: bytes | None = None


# --- writing -------------------------------------------------------------------------------------


def encode_item(item_type: int, body: bytes) -> bytes:
    if len(body) > 0xFFFF:
        raise ProtocolError(
            f"item {item_type:02X}H length", len(body), "at most 65535", reason=AbortReason.NOT_SPECIFIED
        )
    return ITEM_HEADER.pack(item_type, len(body)) + body


def encode_proposed_context(context: ProposedContext) -> bytes:
    body = bytes((context.context_id, 0, 0, 0))
    body += encode_item(ItemType.ABSTRACT_SYNTAX, _encode_uid(context.abstract_syntax))
    for uid in context.transfer_syntaxes:
        body += encode_item(ItemType.TRANSFER_SYNTAX, _encode_uid(uid))
    return encode_item(ItemType.PRESENTATION_CONTEXT_RQ, body)


def encode_negotiated_context(context: NegotiatedContext) -> bytes:
    body = bytes((context.context_id, 0, context.result, 0))
    body += encode_item(ItemType.TRANSFER_SYNTAX, _encode_uid(context.transfer_syntax))
    return encode_item(ItemType.PRESENTATION_CONTEXT_AC, body)


def encode_user_information(info: UserInformation) -> bytes:
    sub_items = (encode_item(item_type, body) for item_type, body in _sub_items(info))
    return encode_item(ItemType.USER_INFORMATION, b"".join(sub_items))


def _sub_items(info: UserInformation) -> Iterator[tuple[ItemType, bytes]]:
    """Yield (type, body) in the order of the types, as most implementations send them."""
    yield ItemType.MAXIMUM_LENGTH, U32.pack(info.max_length_received)
    if info.implementation_class_uid:
        yield ItemType.IMPLEMENTATION_CLASS_UID, _encode_uid(info.implementation_class_uid)
    if info.async_operations_window is not None:
        yield ItemType.ASYNCHRONOUS_OPERATIONS_WINDOW, b"".join(map(U16.pack, info.async_operations_window))
    for role in info.role_selections:
        yield ItemType.ROLE_SELECTION, _sized_uid(role.sop_class_uid) + bytes((role.scu_role, role.scp_role))
    if info.implementation_version_name:
        yield ItemType.IMPLEMENTATION_VERSION_NAME, info.implementation_version_name.encode("latin-1")
    for extended in info.extended_negotiations:
        yield ItemType.EXTENDED_NEGOTIATION, _sized_uid(extended.sop_class_uid) + extended.information
    for common in info.common_extended_negotiations:
        yield ItemType.COMMON_EXTENDED_NEGOTIATION, _encode_common_extended_negotiation(common)
    if info.user_identity is not None:
        yield ItemType.USER_IDENTITY, _encode_user_identity(info.user_identity)
    if info.user_identity_response is not None:
        yield ItemType.USER_IDENTITY_RESPONSE, _sized(info.user_identity_response)


def _encode_common_extended_negotiation(common: CommonExtendedNegotiation) -> bytes:
    related = b"".join(map(_sized_uid, common.related_general_sop_class_uids))
    return _sized_uid(common.sop_class_uid) + _sized_uid(common.service_class_uid) + _sized(related)


def _encode_user_identity(identity: UserIdentity) -> bytes:
    head = bytes((identity.kind, identity.response_requested))
    return head + _sized(identity.primary) + _sized(identity.secondary)


def _encode_uid(uid: str) -> bytes:
    """PS3.8 annex F: UIDs travel without padding."""
    return uid.encode("latin-1")


def _sized_uid(uid: str) -> bytes:
    return _sized(_encode_uid(uid))


def _sized(value: bytes) -> bytes:
    return U16.pack(len(value)) + value
