"""bytes -> items: what an A-ASSOCIATE-RQ or -AC says, as the values of items.py.

Items of unknown type are passed over, as PS3.8 9.3.1 demands; a length past its end is a protocol error.
"""

from collections.abc import Callable, Iterator

from dcmstore.errors import ProtocolError
from dcmstore.ul.items import (
    ITEM_HEADER,
    U16,
    U32,
    CommonExtendedNegotiation,
    ContextResult,
    ExtendedNegotiation,
    ItemType,
    NegotiatedContext,
    ProposedContext,
    RoleSelection,
    UserIdentity,
    UserInformation,
)


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
        return int(U16.unpack(self.take(2))[0])

    def u32(self) -> int:
        return int(U32.unpack(self.take(4))[0])

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
        item_type, length = ITEM_HEADER.unpack(cursor.take(ITEM_HEADER.size))
        yield item_type, cursor.take(length)


def decode_proposed_context(body: bytes) -> ProposedContext:
    """Presentation Context item 20H of an A-ASSOCIATE-RQ (PS3.8 9.3.2.2)."""
    cursor = Cursor(body, "presentation context item")
    context_id = decode_context_id(cursor)
    cursor.take(3)  # reserved
    abstract_syntax, transfer_syntaxes = "", []
    for item_type, value in decode_items(cursor.rest(), "presentation context sub-item"):
        if item_type == ItemType.ABSTRACT_SYNTAX:
            abstract_syntax = decode_text(value)
        elif item_type == ItemType.TRANSFER_SYNTAX:
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
    sub_items = decode_items(cursor.rest(), "presentation context sub-item")
    syntaxes = [decode_text(value) for item_type, value in sub_items if item_type == ItemType.TRANSFER_SYNTAX]
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
    ItemType.MAXIMUM_LENGTH: ("max_length_received", Cursor.u32),
    ItemType.IMPLEMENTATION_CLASS_UID: ("implementation_class_uid", lambda c: decode_text(c.rest())),
    ItemType.ASYNCHRONOUS_OPERATIONS_WINDOW: ("async_operations_window", lambda c: (c.u16(), c.u16())),
    ItemType.IMPLEMENTATION_VERSION_NAME: ("implementation_version_name", lambda c: decode_text(c.rest())),
    ItemType.USER_IDENTITY: ("user_identity", _decode_user_identity),
    ItemType.USER_IDENTITY_RESPONSE: ("user_identity_response", lambda c: c.take(c.u16())),
}
_REPEATED_SUB_ITEMS: dict[int, tuple[str, Callable[[Cursor], object]]] = {
    ItemType.ROLE_SELECTION: ("role_selections", _decode_role_selection),
    ItemType.EXTENDED_NEGOTIATION: ("extended_negotiations", _decode_extended_negotiation),
    ItemType.COMMON_EXTENDED_NEGOTIATION: ("common_extended_negotiations", _decode_common_extended_negotiation),
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
