"""bytes -> what is to be committed: the data set of an N-ACTION-RQ (PS3.4 table J.3-1), read within bounds."""

import struct
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from dcmstore import uids
from dcmstore.errors import DcmStoreError

# bytes; the longest UIDs and explicit lengths make 160 bytes an instance, so 100,000 instances always fit
MAX_ACTION_INFORMATION = 20 * 1024 * 1024
MAX_NESTING = 16  # levels of sequences; a request has one

TRANSACTION_UID = 0x0008_1195
REFERENCED_SOP_SEQUENCE = 0x0008_1199
REFERENCED_SOP_CLASS_UID = 0x0008_1150
REFERENCED_SOP_INSTANCE_UID = 0x0008_1155

_ITEM = 0xFFFE_E000
_ITEM_DELIMITATION = 0xFFFE_E00D
_SEQUENCE_DELIMITATION = 0xFFFE_E0DD
_UNDEFINED_LENGTH = 0xFFFF_FFFF
_IMPLICIT = struct.Struct("<HHI")  # group, element, length (PS3.5 table 7.1-3)
_EXPLICIT = struct.Struct("<HH2sH")  # group, element, VR, length (PS3.5 table 7.1-2)
_LONG_LENGTH = struct.Struct("<I")
# PS3.5 table 7.1-1: two bytes and a length of 32 bits follow
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))

_TOP = frozenset((TRANSACTION_UID, REFERENCED_SOP_SEQUENCE))
_REFERENCE = frozenset((REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID))
_NOTHING: frozenset[int] = frozenset()

_Level: TypeAlias = dict[int, bytes]


class Reference(NamedTuple):
    """An instance that somebody wants kept for good."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Action:
    """What an N-ACTION asks for, in the order in which it stood there."""

    transaction_uid: str
    references: tuple[Reference, ...]


class Unreadable(DcmStoreError):
    """The data set breaks the encoding; the text fits an Error Comment."""


class Invalid(DcmStoreError):
    """The data set lacks something, or has what can't be; the text fits an Error Comment."""


def decode(encoded: bytes, transfer_syntax: str) -> Action:
    """Read a whole data set, in Implicit or Explicit VR Little Endian. Raises Unreadable and Invalid."""
    reader = _Reader(encoded, is_explicit=transfer_syntax != uids.IMPLICIT_VR_LITTLE_ENDIAN)
    try:
        top = reader.level(len(encoded), _TOP, 0)
    except struct.error:
        raise Unreadable("the data set ends in the middle of an element") from None
    references = tuple(map(_reference, reader.items))
    if not references:
        raise Invalid("no item in Referenced SOP Sequence (0008,1199)")
    return Action(_uid(top, TRANSACTION_UID, "Transaction UID (0008,1195)"), references)


def _reference(item: _Level) -> Reference:
    return Reference(
        _uid(item, REFERENCED_SOP_CLASS_UID, "Referenced SOP Class UID"),
        _uid(item, REFERENCED_SOP_INSTANCE_UID, "Referenced SOP Instance UID"),
    )


def _uid(level: _Level, tag: int, name: str) -> str:
    if tag not in level:
        raise Invalid(f"no {name}")
    uid = level[tag].decode("latin-1").strip(" \0")
    if not uids.is_uid(uid):
        raise Invalid(f"{name} is not 1 to 64 digits and dots")
    return uid


class _Reader:
    """Goes once over a data set. `items` are those of the top level's Referenced SOP Sequence."""

    def __init__(self, encoded: bytes, *, is_explicit: bool) -> None:
        self._encoded = encoded
        self._position = 0
        self._is_explicit = is_explicit
        self.items: list[_Level] = []

    def level(self, end: int | None, wanted: frozenset[int], depth: int) -> _Level:
        """The wanted values of a data set or item, which ends there, or without an end at its delimitation."""
        found: _Level = {}
        while end is None or self._position < end:
            tag, vr, length = self._head()
            if tag == _ITEM_DELIMITATION and end is None:
                return found
            if tag >> 16 == 0xFFFE:
                raise Unreadable(f"{_name(tag)} where an element is due")
            value = self._position
            if length != _UNDEFINED_LENGTH:
                self._pass(length, end)
            if tag == REFERENCED_SOP_SEQUENCE and wanted is _TOP:
                self._position = value
                self.items = self._sequence(length, _REFERENCE, depth)
            elif length == _UNDEFINED_LENGTH:
                self._unwanted_sequence(vr, depth)
            elif tag in wanted:
                found[tag] = self._encoded[value : self._position]
        if self._position != end:
            raise Unreadable("an item or a sequence is longer than what holds it")
        return found

    def _sequence(self, length: int, wanted: frozenset[int], depth: int) -> list[_Level]:
        if depth == MAX_NESTING:
            raise Unreadable(f"sequences are nested more than {MAX_NESTING} deep")
        items: list[_Level] = []
        end = None if length == _UNDEFINED_LENGTH else self._position + length
        while end is None or self._position < end:
            tag, _, length = self._head()
            if tag == _SEQUENCE_DELIMITATION and end is None:
                return items
            if tag != _ITEM:
                raise Unreadable(f"{_name(tag)} where an item of a sequence is due")
            item_end = None if length == _UNDEFINED_LENGTH else self._position + length
            items.append(self.level(item_end, wanted, depth + 1))
        if self._position != end:
            raise Unreadable("an item or a sequence is longer than what holds it")
        return items

    def _unwanted_sequence(self, vr: bytes, depth: int) -> None:
        outside = self._is_explicit
        self._is_explicit = outside and vr != b"UN"  # PS3.5 6.2.2 note 2: what it holds is in Implicit VR
        self._sequence(_UNDEFINED_LENGTH, _NOTHING, depth)
        self._is_explicit = outside

    def _head(self) -> tuple[int, bytes, int]:
        """Tag, VR if it has one, and length of the element that begins here; its value is next. Raises struct.error."""
        group, element, length = _IMPLICIT.unpack_from(self._encoded, self._position)
        vr = b""
        if self._is_explicit and group != 0xFFFE:
            _, _, vr, length = _EXPLICIT.unpack_from(self._encoded, self._position)
            if vr in _LONG_VRS:
                self._position += 4
                (length,) = _LONG_LENGTH.unpack_from(self._encoded, self._position + 4)
            elif not (vr.isalpha() and vr.isupper()):
                raise Unreadable(f"{_name(group << 16 | element)} has no VR of two capital letters")
        self._position += _IMPLICIT.size
        return group << 16 | element, vr, length

    def _pass(self, length: int, end: int | None) -> None:
        self._position += length
        if self._position > (len(self._encoded) if end is None else end):
            raise Unreadable("an element is longer than what holds it")


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
