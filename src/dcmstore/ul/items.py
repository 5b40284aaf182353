"""bytes <-> items: the variable part of A-ASSOCIATE-RQ and -AC (PS3.8 9.3.2 and 9.3.3, PS3.7 annex D).

Every item is a type byte, a reserved byte and a 16-bit big-endian length, then its body. Items of unknown
type are passed over, as PS3.8 9.3.1 demands.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from dcmstore.errors import AbortReason, ProtocolError

_HEADER = struct.Struct(">BxH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")

MAX_PRESENTATION_CONTEXTS = 128  # the odd numbers of one byte (PS3.8 9.3.2.2)


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


# --- reading -------------------------------------------------------------------------------------


class Cursor:
    """Reads one after the other from a body whose end is known; going past it is a protocol error."""

    __slots__ = ("_body", "_field", "_position")

    def __init__(self, body: bytes, field: str) -> None:
        self._body = body
        self._field = field
        self._position = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._body) - self._position

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise ProtocolError(f"{self._field} length", f"{self.left} bytes left", f"at least {size}")
        start = self._position
        self._position += size
        return self._body[start : self._position]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int(_U16.unpack(self.take(2))[0])

    def u32(self) -> int:
        return int(_U32.unpack(self.take(4))[0])

    def rest(self) -> bytes:
        return self.take(self.left)

    def uid(self) -> str:
        """A UID behind its own 16-bit length."""
        return decode_text(self.take(self.u16()))


def decode_text(raw: bytes) -> str:
    """Text of ISO 646 without its padding. Real peers pad with NUL as well as with spaces, at either end."""
    return raw.decode("latin-1").strip(" \0")


def decode_ae_title(raw: bytes) -> str:
    """An AE title: what stands in front of the first NUL, without padding. Some senders leave rubbish behind it."""
    return decode_text(raw.split(b"\0")[0])


def decode_items(body: bytes, field: str) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of each item; the last one must end where the whole ends."""
    cursor = Cursor(body, field)
    while cursor.left:
        item_type, length = _HEADER.unpack(cursor.take(_HEADER.size))
        yield item_type, cursor.take(length)


def decode_proposed_context(body: bytes) -> ProposedContext:
    """Presentation Context item 20H of an A-ASSOCIATE-RQ (PS3.8 9.3.2.2)."""
    cursor = Cursor(body, "presentation context item")
    context_id = decode_context_id(cursor)
    cursor.take(3)  # reserved
    abstract_syntax, transfer_syntaxes = "", []
    for item_type, value in decode_items(cursor.rest(), "presentation context sub-item"):
        if item_type == 0x30:
            abstract_syntax = decode_text(value)
        elif item_type == 0x40:
            transfer_syntaxes.append(decode_text(value))
    return ProposedContext(context_id, abstract_syntax, tuple(transfer_syntaxes))


def decode_negotiated_context(body: bytes) -> NegotiatedContext:
    """Presentation Context item 21H of an A-ASSOCIATE-AC (PS3.8 9.3.3.2)."""
    cursor = Cursor(body, "presentation context item")
    context_id = decode_context_id(cursor)
    cursor.take(1)  # reserved
    result = cursor.u8()
    if result not in ContextResult._value2member_map_:
        raise ProtocolError("presentation context result", result, "0 to 4")
    cursor.take(1)  # reserved
    syntaxes = [decode_text(v) for t, v in decode_items(cursor.rest(), "presentation context sub-item") if t == 0x40]
    return NegotiatedContext(context_id, ContextResult(result), syntaxes[0] if syntaxes else "")


def decode_context_id(cursor: Cursor) -> int:
    """PS3.8 9.3.2.2: presentation context IDs are odd numbers from 1 to 255."""
    context_id = cursor.u8()
    if context_id % 2 == 0:
        raise ProtocolError("presentation context ID", context_id, "an odd number from 1 to 255")
    return context_id


def _decode_role_selection(cursor: Cursor) -> RoleSelection:
    return RoleSelection(cursor.uid(), bool(cursor.u8()), bool(cursor.u8()))


def _decode_extended_negotiation(cursor: Cursor) -> ExtendedNegotiation:
    return ExtendedNegotiation(cursor.uid(), cursor.rest())


def _decode_common_extended_negotiation(cursor: Cursor) -> CommonExtendedNegotiation:
    sop_class_uid, service_class_uid = cursor.uid(), cursor.uid()
    related = Cursor(cursor.take(cursor.u16()) if cursor.left else b"", "related general SOP class item")
    uids = []
    while related.left:
        uids.append(related.uid())
    return CommonExtendedNegotiation(sop_class_uid, service_class_uid, tuple(uids))


def _decode_user_identity(cursor: Cursor) -> UserIdentity:
    kind, response_requested = cursor.u8(), bool(cursor.u8())
    primary = cursor.take(cursor.u16())
    secondary = cursor.take(cursor.u16()) if cursor.left else b""
    return UserIdentity(kind, response_requested, primary, secondary)


_SINGLE_SUB_ITEMS: dict[int, tuple[str, Callable[[Cursor], object]]] = {
    0x51: ("max_length_received", Cursor.u32),
    0x52: ("implementation_class_uid", lambda c: decode_text(c.rest())),
    0x53: ("async_operations_window", lambda c: (c.u16(), c.u16())),
    0x55: ("implementation_version_name", lambda c: decode_text(c.rest())),
    0x58: ("user_identity", _decode_user_identity),
    0x59: ("user_identity_response", lambda c: c.take(c.u16())),
}
_REPEATED_SUB_ITEMS: dict[int, tuple[str, Callable[[Cursor], object]]] = {
    0x54: ("role_selections", _decode_role_selection),
    0x56: ("extended_negotiations", _decode_extended_negotiation),
    0x57: ("common_extended_negotiations", _decode_common_extended_negotiation),
}


def decode_user_information(body: bytes) -> UserInformation:
    """User Information item 50H (PS3.8 9.3.2.3); of a sub-item sent twice the last one counts."""
    single: dict[str, object] = {}
    repeated: dict[str, list[object]] = {}
    for item_type, value in decode_items(body, "user information sub-item"):
        if item_type in _SINGLE_SUB_ITEMS:
            name, decode = _SINGLE_SUB_ITEMS[item_type]
            single[name] = decode(Cursor(value, f"sub-item {item_type:02X}H"))
        elif item_type in _REPEATED_SUB_ITEMS:
            name, decode = _REPEATED_SUB_ITEMS[item_type]
            repeated.setdefault(name, []).append(decode(Cursor(value, f"sub-item {item_type:02X}H")))
    return UserInformation(**single, **{name: tuple(values) for name, values in repeated.items()})  # type: ignore[arg-type]


# --- writing -------------------------------------------------------------------------------------


def encode_item(item_type: int, body: bytes) -> bytes:
    if len(body) > 0xFFFF:
        raise ProtocolError(
            f"item {item_type:02X}H length", len(body), "at most 65535", reason=AbortReason.NOT_SPECIFIED
        )
    return _HEADER.pack(item_type, len(body)) + body


def _encode_uid(uid: str) -> bytes:
    """PS3.8 annex F: UIDs travel without padding."""
    return uid.encode("latin-1")


def _sized(value: bytes) -> bytes:
    return _U16.pack(len(value)) + value


def encode_proposed_context(context: ProposedContext) -> bytes:
    syntaxes = b"".join(encode_item(0x40, _encode_uid(uid)) for uid in context.transfer_syntaxes)
    body = bytes((context.context_id, 0, 0, 0)) + encode_item(0x30, _encode_uid(context.abstract_syntax)) + syntaxes
    return encode_item(0x20, body)


def encode_negotiated_context(context: NegotiatedContext) -> bytes:
    body = bytes((context.context_id, 0, context.result, 0))
    return encode_item(0x21, body + encode_item(0x40, _encode_uid(context.transfer_syntax)))


def encode_user_information(info: UserInformation) -> bytes:
    """The sub-items in the order of their types, as most implementations send them."""
    items = [encode_item(0x51, _U32.pack(info.max_length_received))]
    if info.implementation_class_uid:
        items.append(encode_item(0x52, _encode_uid(info.implementation_class_uid)))
    if info.async_operations_window is not None:
        items.append(encode_item(0x53, b"".join(_U16.pack(n) for n in info.async_operations_window)))
    for role in info.role_selections:
        uid = _sized(_encode_uid(role.sop_class_uid))
        items.append(encode_item(0x54, uid + bytes((role.scu_role, role.scp_role))))
    if info.implementation_version_name:
        items.append(encode_item(0x55, info.implementation_version_name.encode("latin-1")))
    for extended in info.extended_negotiations:
        items.append(encode_item(0x56, _sized(_encode_uid(extended.sop_class_uid)) + extended.information))
    for common in info.common_extended_negotiations:
        related = b"".join(_sized(_encode_uid(uid)) for uid in common.related_general_sop_class_uids)
        service = _sized(_encode_uid(common.service_class_uid))
        items.append(encode_item(0x57, _sized(_encode_uid(common.sop_class_uid)) + service + _sized(related)))
    if info.user_identity is not None:
        user = info.user_identity
        head = bytes((user.kind, user.response_requested))
        items.append(encode_item(0x58, head + _sized(user.primary) + _sized(user.secondary)))
    if info.user_identity_response is not None:
        items.append(encode_item(0x59, _sized(info.user_identity_response)))
    return encode_item(0x50, b"".join(items))
