"""first bytes of a data set -> the few attributes that filing and the audit trail need (PS3.5 chapter 7).

The reader looks at a data set while it passes and keeps only the values of wanted attributes. It never
decodes what it does not need, and never looks behind the last tag it wants. Bounded in memory whatever comes.
"""

import functools
import struct
import threading
import time
import zlib
from dataclasses import dataclass

from dcmstore import uids
from dcmstore.errors import CannotUnderstand

SPECIFIC_CHARACTER_SET = 0x0008_0005
SOP_CLASS_UID = 0x0008_0016
SOP_INSTANCE_UID = 0x0008_0018
MODALITY = 0x0008_0060
CODE_VALUE = 0x0008_0100
CODING_SCHEME_DESIGNATOR = 0x0008_0102
PATIENT_NAME = 0x0010_0010
PATIENT_ID = 0x0010_0020
STUDY_INSTANCE_UID = 0x0020_000D
STUDY_ID = 0x0020_0010
SERIES_NUMBER = 0x0020_0011
INSTANCE_NUMBER = 0x0020_0013
CONCEPT_NAME_CODE_SEQUENCE = 0x0040_A043

_ITEM = 0xFFFE_E000
_ITEM_DELIMITATION = 0xFFFE_E00D
_SEQUENCE_DELIMITATION = 0xFFFE_E0DD
_UNDEFINED_LENGTH = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, eq=False)
class _Head:
    """How the first eight bytes of an element are read. In Implicit VR, the VR is empty."""

    parts: struct.Struct  # group, element, VR, length
    kind: struct.Struct  # what stands in front of the length in one piece, length


@dataclass(frozen=True, slots=True)
class _ByteOrder:
    explicit: _Head  # PS3.5 table 7.1-2; of a long VR (table 7.1-1) the length is still to come
    implicit: _Head  # PS3.5 table 7.1-3
    long_length: struct.Struct


def _byte_order(sign: str) -> _ByteOrder:
    explicit = _Head(struct.Struct(f"{sign}HH2sH"), struct.Struct(f"{sign}6sH"))
    implicit = _Head(struct.Struct(f"{sign}HH0sI"), struct.Struct(f"{sign}4sI"))
    return _ByteOrder(explicit, implicit, struct.Struct(f"{sign}I"))


_LITTLE, _BIG = map(_byte_order, "<>")
_HEADS = (_LITTLE.explicit, _LITTLE.implicit, _BIG.explicit, _BIG.implicit)


class _Level:
    """What is looked for on one level of a data set. `last` is the last tag that matters.

    What stands in front of it is kept where it is `wanted`, and else passed over. `unwanted` has the kinds of elements
    that were: most data sets have the same ones, and one look then says all. All readers share it.
    """

    def __init__(self, wanted: frozenset[int], last: int) -> None:
        self.wanted = wanted
        self.last = last
        self.unwanted: dict[_Head, set[bytes]] = {head: set() for head in _HEADS}


# fmt: off
_WANTED = frozenset((
    SPECIFIC_CHARACTER_SET, SOP_CLASS_UID, SOP_INSTANCE_UID, MODALITY, PATIENT_NAME, PATIENT_ID,
    STUDY_INSTANCE_UID, STUDY_ID, SERIES_NUMBER, INSTANCE_NUMBER,
))
# fmt: on
_TOP = _Level(_WANTED, INSTANCE_NUMBER)
_TOP_WITH_TITLE = _Level(_WANTED, CONCEPT_NAME_CODE_SEQUENCE)
_TITLE = _Level(frozenset((CODE_VALUE, CODING_SCHEME_DESIGNATOR)), CODING_SCHEME_DESIGNATOR)
_NESTED = _Level(frozenset(), _ITEM)  # in what has no length to pass it over by: only where it ends matters

# PS3.5 7.1.2: these have two reserved bytes and a 32-bit length in Explicit VR.
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(  # the others, with a 16-bit length; ?? is how old writers mark a VR they do not know
    b"?? AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_EIGHT_BYTE_VRS = _SHORT_VRS | {b""}  # with these, and in Implicit VR, the value starts behind the first eight bytes

MAX_UNWANTED = 4096  # kinds of elements that a level knows, 0.5 MB; real data sets have some hundred
MAX_VALUE = 16 * 1024  # bytes of one wanted value; the longest that the standard allows, a PN, is under 2 kB
MAX_NESTING = 128  # open sequences and items of undefined length; real data sets stay under 16
# bytes of heads and kept values before giving up: half a second's work at most, where all of it are sequences. No file
# of pydicom and no dose report of pyskindose has more than 1,888. Passing over a value costs nothing, so it does not
# count; private elements in front of group 0010 can be large.
MAX_HEADER = 4 * 1024 * 1024
# Heads beyond these are walked behind all other work: who sends nothing but heads must not hold up the others. So many
# bytes cost 8 ms of work, and then the reader steps aside for twice that, one reader after the other.
COURTEOUS_AFTER = 64 * 1024  # bytes; a reference to a thousand images has 40,000
ASIDE = 0.016 / (64 * 1024)  # seconds for each byte
# bytes unpacked before giving up, a quarter of a second's work: there, passing over costs as much as the rest
MAX_INFLATED = 64 * 1024 * 1024
_INFLATE_STEP = 64 * 1024  # bytes of a deflated data set unpacked at a time

DEFLATED = frozenset((uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"))
# Besides the standard's own: GE's private syntax whose pixels alone are big endian, and Papyrus 3.
_IMPLICIT = frozenset((uids.IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.113619.5.2", "1.2.840.10008.1.20"))

_turn_aside = threading.Lock()


class HeaderReader:
    """Takes a data set in pieces; `values` holds the raw bytes of what it met, by tag.

    `transfer_syntax` is a UID; a private one is read as Explicit VR Little Endian, which all newer ones are.
    With `with_title` the reader goes on to the code of a structured report's title (Concept Name Code Sequence).
    A data set that plainly has the other VR or byte order than its transfer syntax says is read as it is; when
    complete, `found_transfer_syntax` is what one that is not compressed is in. One `from_a_peer` steps aside where it
    has very many heads, so that the others are served; what lies on disk is looked at by who may hold them up.
    """

    def __init__(self, transfer_syntax: str, *, with_title: bool = False, from_a_peer: bool = False) -> None:
        self.values: dict[int, bytes] = {}
        self.is_complete = False
        self.found_transfer_syntax = transfer_syntax
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if transfer_syntax in DEFLATED else None
        self._inflated = 0
        self._order = _BIG if transfer_syntax == uids.EXPLICIT_VR_BIG_ENDIAN else _LITTLE
        self._head = self._order.implicit if transfer_syntax in _IMPLICIT else self._order.explicit
        self._is_first = True  # no element but File Meta Information has come
        self._level = _TOP_WITH_TITLE if with_title else _TOP
        self._enclosing: list[tuple[_Level, _Head]] = []  # level and head outside each open sequence or item
        self._kept = b""  # an element that is not complete yet
        self._skip = 0  # bytes of an unwanted value still to come
        self._walked = 0
        self._from_a_peer = from_a_peer
        self._atoned = 0  # of what was walked, that for which it has stepped aside
        self._seen = 0
        self._claimed = 0  # where the element ends at which the header ended

    @classmethod
    def for_tags(cls, transfer_syntax: str, tags: frozenset[int]) -> "HeaderReader":
        """One that keeps these tags in place of those that filing needs."""
        reader = cls(transfer_syntax)
        reader._level = _level_for(tags)
        return reader

    def text_of(self, tag: int) -> str:
        """A UID or other ASCII value without its padding, empty when absent."""
        return self.values.get(tag, b"").decode("latin-1").strip(" \0")

    def receive(self, piece: memoryview) -> None:
        """Look at the next piece. Raises CannotUnderstand; once `is_complete`, does nothing."""
        if self.is_complete:
            return
        if self._inflater is None:
            self._look(piece)
            return
        try:
            self._inflate(self._inflater, piece)
        except zlib.error as error:
            if not self.is_complete:
                raise CannotUnderstand(f"the deflated data set can't be unpacked: {error}") from None

    def check_size(self, size: int) -> None:
        """Raises CannotUnderstand where nothing was found, and what was met claims more than these bytes: rubbish."""
        if not self.values and self._claimed > size and self._inflater is None:
            raise CannotUnderstand(f"no DICOM data set: an element in it ends at byte {self._claimed} of {size}")

    def end(self) -> None:
        """The data set is over: what was not met is absent. Raises CannotUnderstand if it broke off in an element."""
        if not self.is_complete and (self._kept or self._skip or self._enclosing or self._is_first):
            raise CannotUnderstand("the data set breaks off before its header ends")
        self.is_complete = True

    def _inflate(self, inflater: "zlib._Decompress", piece: memoryview) -> None:
        # What follows the deflated stream is not given to zlib, which would keep all of it.
        while not (self.is_complete or inflater.eof):
            before = inflater.copy()
            try:
                unpacked = inflater.decompress(piece, _INFLATE_STEP)
            except zlib.error:
                self._inflate_up_to_the_fault(before, piece)
                raise
            self._look_unpacked(unpacked)
            if len(unpacked) < _INFLATE_STEP:  # else zlib may hold output back, even with all input taken
                return
            piece = memoryview(inflater.unconsumed_tail)

    def _inflate_up_to_the_fault(self, inflater: "zlib._Decompress", piece: memoryview) -> None:
        """zlib drops what it has unpacked in front of a fault in the same piece, but the header may end there."""
        for start in range(len(piece)):
            self._look_unpacked(inflater.decompress(piece[start : start + 1]))

    def _look_unpacked(self, unpacked: bytes) -> None:
        self._inflated += len(unpacked)
        if self._inflated > MAX_INFLATED:
            raise CannotUnderstand(f"no header ends within the first {MAX_INFLATED} bytes unpacked")
        if not self.is_complete:
            self._look(memoryview(unpacked))

    def _look(self, piece: memoryview) -> None:  # hot: bench
        """Walk what is new, with what was kept of the piece before."""
        self._seen += len(piece)
        if self._skip >= len(piece):
            self._skip -= len(piece)
            return
        data = self._kept + piece if self._kept else piece
        position = self._walk(data, self._skip)
        if self.is_complete:
            self._claimed = self._seen - len(data) + position
            return
        self._skip = max(position - len(data), 0)
        self._kept = bytes(data[position:])
        if self._walked > COURTEOUS_AFTER:
            self._has_many_heads()

    def _has_many_heads(self) -> None:
        if self._walked > MAX_HEADER:
            raise CannotUnderstand(f"no header ends within the first {MAX_HEADER} bytes")
        if not self._from_a_peer:
            return
        walked, self._atoned = self._walked - self._atoned, self._walked
        with _turn_aside:
            time.sleep(walked * ASIDE)

    def _walk(self, data: bytes | memoryview, position: int) -> int:  # hot: bench
        """Go from element to element; return where the first one begins that is not all there."""
        end, begin, passed, is_first = len(data), position, 0, self._is_first
        head, level = self._head, self._level
        glance, unwanted = head.kind.unpack_from, level.unwanted[head]
        last_head = end - 8
        undefined = _UNDEFINED_LENGTH
        while position <= last_head:
            if is_first:
                head, is_first = self._sniff(data, position), self._is_first
                glance, unwanted = head.kind.unpack_from, level.unwanted[head]
            kind, length = glance(data, position)
            start = position + 8
            if kind in unwanted and length != undefined:
                position = start + length
                passed += length
                continue
            group, number, vr, length = head.parts.unpack_from(data, position)
            tag = group << 16 | number
            if vr not in _EIGHT_BYTE_VRS:
                start, length = self._long_form(data, position, tag, vr)
                if start > end:
                    break
            if tag in level.wanted and length != undefined:
                if length > MAX_VALUE:
                    raise CannotUnderstand(f"{_name(tag)} has {length} bytes, at most {MAX_VALUE} are read")
                if end - start < length:
                    break
                position = start + length
                self.values[tag] = bytes(data[start:position])
                if tag == level.last:
                    self.is_complete = True
                    break
            elif not group:  # PS3.5 7.1: of a data set it is no part; zeros would pass for empty elements of it
                raise CannotUnderstand(f"no DICOM data set: {_name(tag)} belongs to a command set")
            elif tag >= level.last or length == undefined:
                if group == 0xFFFE:  # an item's length may look like a VR
                    start, length = self._long_form(data, position, tag, vr)
                length = self._structure(tag, vr, length)
                position = start + length
                passed += length
                if self.is_complete:
                    break
                head, level = self._head, self._level
                glance, unwanted = head.kind.unpack_from, level.unwanted[head]
            else:
                if vr in _EIGHT_BYTE_VRS:  # one in group FFFE may have its length there and a VR that is none
                    if len(unwanted) >= MAX_UNWANTED:
                        unwanted.clear()
                    unwanted.add(kind)
                position = start + length
                passed += length
        self._walked += position - begin - passed
        return position

    def _sniff(self, data: bytes | memoryview, position: int) -> _Head:
        """Read a data set as it is where its first element contradicts the transfer syntax, in byte order or VR.

        Some senders leave File Meta Information, which is always explicit, in front: the next group counts.
        """
        group, _, vr, _ = self._order.explicit.parts.unpack_from(data, position)
        if group == 0x0800:  # group 0008 in the other order
            self._order = _BIG if self._order is _LITTLE else _LITTLE
            self._head = self._order.explicit
        if self._order is _BIG:
            self.found_transfer_syntax = uids.EXPLICIT_VR_BIG_ENDIAN
        self._is_first = group == 0x0002
        if self._order is _LITTLE:
            is_explicit = vr in _SHORT_VRS or vr in _LONG_VRS
            self._head = _LITTLE.explicit if is_explicit else _LITTLE.implicit
            self.found_transfer_syntax = (
                uids.EXPLICIT_VR_LITTLE_ENDIAN if is_explicit else uids.IMPLICIT_VR_LITTLE_ENDIAN
            )
        return self._head

    def _long_form(self, data: bytes | memoryview, position: int, tag: int, vr: bytes) -> tuple[int, int]:
        """Where the value of an element with a 32-bit length starts, behind `data` if its head is not all there."""
        if tag >> 16 == 0xFFFE:  # PS3.5 7.5: an item has no VR, whatever the others have
            return position + 8, self._order.long_length.unpack_from(data, position + 4)[0]
        if len(data) - position < 12:
            return position + 12, 0
        if vr not in _LONG_VRS:
            _check_vr(tag, vr)
        return position + 12, self._order.long_length.unpack_from(data, position + 8)[0]

    def _structure(self, tag: int, vr: bytes, length: int) -> int:
        """Enter or leave a level, or find the header's end; return how many bytes of the value to pass over."""
        if self._level is _TITLE:
            return self._title_structure(tag, length)
        if tag in (_ITEM_DELIMITATION, _SEQUENCE_DELIMITATION):
            if not self._enclosing:
                raise CannotUnderstand(f"{_name(tag)} closes a sequence that was not opened")
            self._level, self._head = self._enclosing.pop()
        elif tag == self._level.last == CONCEPT_NAME_CODE_SEQUENCE:
            self._enter(_TITLE, vr)
        elif not self._enclosing and tag > self._level.last:
            if tag >> 16 == 0xFFFF:
                raise CannotUnderstand(f"no DICOM data set: {_name(tag)} is no tag")
            self.is_complete = True
            return 0 if length == _UNDEFINED_LENGTH else length
        elif length == _UNDEFINED_LENGTH:
            if len(self._enclosing) == MAX_NESTING:
                raise CannotUnderstand(f"sequences are nested more than {MAX_NESTING} deep")
            self._enclosing.append((self._level, self._head))
            self._enter(_NESTED, vr)
        else:
            return length
        return 0

    def _enter(self, level: _Level, vr: bytes) -> None:
        self._level = level
        if vr == b"UN":  # PS3.5 6.2.2 note 2: what it holds is in Implicit VR
            self._head = self._order.implicit

    def _title_structure(self, tag: int, length: int) -> int:
        """Inside the title: its first item is walked like the level it stands on, and its end is the header's end."""
        if tag == _ITEM:
            return 0
        if tag > CODING_SCHEME_DESIGNATOR or length == _UNDEFINED_LENGTH:
            self.is_complete = True
        return 0 if length == _UNDEFINED_LENGTH else length


@functools.cache
def _level_for(tags: frozenset[int]) -> _Level:
    return _Level(tags, max(tags))


def _check_vr(tag: int, vr: bytes) -> None:
    """A VR invented later than this has the long form (PS3.5 7.1.2 note); what is not two letters is none."""
    if not (vr.isalpha() and vr.isupper()):
        raise CannotUnderstand(f"{_name(tag)} has the VR {vr!r}, two capital letters are allowed")


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
