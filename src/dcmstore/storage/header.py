"""first bytes of a data set -> the few attributes that filing needs (PS3.5 chapter 7).

The reader looks at a data set while it passes and keeps only the values of wanted attributes. It never
decodes what it does not need, and never looks behind the last tag it wants. Bounded in memory whatever comes.
"""

import struct
import zlib

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
STUDY_ID = 0x0020_0010
SERIES_NUMBER = 0x0020_0011
INSTANCE_NUMBER = 0x0020_0013
CONCEPT_NAME_CODE_SEQUENCE = 0x0040_A043

_ITEM = 0xFFFE_E000
_ITEM_DELIMITATION = 0xFFFE_E00D
_SEQUENCE_DELIMITATION = 0xFFFE_E0DD
_UNDEFINED_LENGTH = 0xFFFF_FFFF

_LITTLE = (struct.Struct("<HH2sH"), struct.Struct("<I"))  # group, element, VR, length; a 32-bit length
_BIG = (struct.Struct(">HH2sH"), struct.Struct(">I"))

# fmt: off
_WANTED = frozenset((
    SPECIFIC_CHARACTER_SET, SOP_CLASS_UID, SOP_INSTANCE_UID, MODALITY, PATIENT_NAME, PATIENT_ID,
    STUDY_ID, SERIES_NUMBER, INSTANCE_NUMBER,
))
# fmt: on
_TITLE = frozenset((CODE_VALUE, CODING_SCHEME_DESIGNATOR))
_NOTHING: frozenset[int] = frozenset()

# PS3.5 7.1.2: these have two reserved bytes and a 32-bit length in Explicit VR.
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(  # the others, with a 16-bit length; ?? is how old writers mark a VR they do not know
    b"?? AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)

MAX_VALUE = 16 * 1024  # bytes of one wanted value; the longest that the standard allows, a PN, is under 2 kB
MAX_NESTING = 128  # open sequences and items of undefined length; real data sets stay under 16
MAX_HEADER = 64 * 1024 * 1024  # bytes looked at before giving up; private elements before group 0010 can be large
_INFLATE_STEP = 64 * 1024  # bytes of a deflated data set unpacked at a time

_DEFLATED = frozenset((uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"))
# Besides the standard's own: GE's private syntax whose pixels alone are big endian, and Papyrus 3.
_IMPLICIT = frozenset((uids.IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.113619.5.2", "1.2.840.10008.1.20"))


class HeaderReader:
    """Takes a data set in pieces; `values` holds the raw bytes of what it met, by tag.

    `transfer_syntax` is a UID; a private one is read as Explicit VR Little Endian, which all newer ones are.
    With `with_title` the reader goes on to the code of a structured report's title (Concept Name Code Sequence).
    A data set that plainly has the other VR than its transfer syntax says is read as it is.
    """

    def __init__(self, transfer_syntax: str, *, with_title: bool = False) -> None:
        self.values: dict[int, bytes] = {}
        self.is_complete = False
        self._wanted = _WANTED  # what is kept on the present level
        self._final = CODING_SCHEME_DESIGNATOR if with_title else INSTANCE_NUMBER  # of what is wanted, the last
        self._boundary = (
            CONCEPT_NAME_CODE_SEQUENCE if with_title else INSTANCE_NUMBER
        )  # in front of it, leaves are passed over
        self._in_title = False
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if transfer_syntax in _DEFLATED else None
        self._element, self._u32 = _BIG if transfer_syntax == uids.EXPLICIT_VR_BIG_ENDIAN else _LITTLE
        self._explicit = transfer_syntax not in _IMPLICIT
        self._is_first = True
        self._enclosing: list[bool] = []  # a level per open sequence or item: was it explicit outside?
        self._kept = b""  # an element that is not complete yet
        self._skip = 0  # bytes of an unwanted value still to come
        self._seen = 0

    @property
    def found_transfer_syntax(self) -> str:
        """Of a little endian data set that nobody described: which of the two VRs it is in."""
        return uids.EXPLICIT_VR_LITTLE_ENDIAN if self._explicit else uids.IMPLICIT_VR_LITTLE_ENDIAN

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
            # What follows the deflated stream is not given to zlib, which would keep all of it.
            while not (self.is_complete or self._inflater.eof):
                unpacked = self._inflater.decompress(piece, _INFLATE_STEP)
                self._look(memoryview(unpacked))
                if len(unpacked) < _INFLATE_STEP:  # else zlib may hold output back, even with all input taken
                    return
                piece = memoryview(self._inflater.unconsumed_tail)
        except zlib.error as error:
            raise CannotUnderstand(f"the deflated data set can't be unpacked: {error}") from None

    def end(self) -> None:
        """The data set is over: what was not met is absent. Raises CannotUnderstand if it broke off in an element."""
        if not self.is_complete and (self._kept or self._skip or self._enclosing or self._is_first):
            raise CannotUnderstand("the data set breaks off before its header ends")
        self.is_complete = True

    def _look(self, piece: memoryview) -> None:  # hot: bench
        self._seen += len(piece)
        if self._seen > MAX_HEADER:
            raise CannotUnderstand(f"no header ends within the first {MAX_HEADER} bytes")
        data = self._kept + piece if self._kept else piece
        position, end = self._skip, len(data)
        unpack, wanted, boundary, explicit = self._element.unpack_from, self._wanted, self._boundary, self._explicit
        while end - position >= 8:
            group, number, vr, length = unpack(data, position)
            tag = group << 16 | number
            start = position + 8
            if self._is_first:
                self._sniff(group, vr)
                explicit = self._explicit
            if group == 0xFFFE or not explicit:
                (length,) = self._u32.unpack_from(data, position + 4)
            elif vr not in _SHORT_VRS:
                if end - position < 12:
                    break
                start = position + 12
                (length,) = self._u32.unpack_from(data, position + 8)
                if vr not in _LONG_VRS:
                    _check_vr(tag, vr)
            if tag in wanted and length != _UNDEFINED_LENGTH:
                if length > MAX_VALUE:
                    raise CannotUnderstand(f"{_name(tag)} has {length} bytes, at most {MAX_VALUE} are read")
                if end - start < length:
                    break
                position = start + length
                self.values[tag] = bytes(data[start:position])
                if tag == self._final:
                    self.is_complete = True
                    return
            elif tag >= boundary or length == _UNDEFINED_LENGTH:
                position = start + self._structure(tag, vr, length)
                if self.is_complete:
                    return
                wanted, boundary, explicit = self._wanted, self._boundary, self._explicit
            else:
                position = start + length
        self._skip = max(position - end, 0)
        self._kept = bytes(data[position:])

    def _structure(self, tag: int, vr: bytes, length: int) -> int:
        """Enter or leave a level, or find the header's end; return how many bytes of the value to pass over."""
        if self._in_title:
            return self._title_structure(tag, length)
        if tag in (_ITEM_DELIMITATION, _SEQUENCE_DELIMITATION):
            if not self._enclosing:
                raise CannotUnderstand(f"{_name(tag)} closes a sequence that was not opened")
            self._explicit = self._enclosing.pop()
        elif not self._enclosing and tag == CONCEPT_NAME_CODE_SEQUENCE == self._boundary:
            self._in_title, self._boundary, self._wanted = True, 0, _TITLE
            self._explicit = self._explicit and vr != b"UN"  # PS3.5 6.2.2 note 2, as below
            return 0
        elif not self._enclosing and tag > self._boundary:
            self.is_complete = True
        elif length == _UNDEFINED_LENGTH:
            if len(self._enclosing) == MAX_NESTING:
                raise CannotUnderstand(f"sequences are nested more than {MAX_NESTING} deep")
            self._enclosing.append(self._explicit)
            # PS3.5 6.2.2 note 2: the content of an UN of undefined length is in Implicit VR.
            self._explicit = self._explicit and not (vr == b"UN" and tag != _ITEM)
        else:
            return length
        self._wanted = _NOTHING if self._enclosing else _WANTED
        return 0

    def _title_structure(self, tag: int, length: int) -> int:
        """Inside the title: its first item is walked like the level it stands on, and its end is the header's end."""
        if tag == _ITEM:
            return 0
        if tag > CODING_SCHEME_DESIGNATOR or length == _UNDEFINED_LENGTH:
            self.is_complete = True
        return length

    def _sniff(self, group: int, vr: bytes) -> None:
        """Read a data set as it is where the VR of its first element contradicts the transfer syntax.

        Some senders leave File Meta Information, which is always explicit, in front: the next group counts.
        """
        self._is_first = group == 0x0002
        if self._element is _LITTLE[0]:
            self._explicit = vr in _SHORT_VRS or vr in _LONG_VRS


def _check_vr(tag: int, vr: bytes) -> None:
    """A VR invented later than this has the long form (PS3.5 7.1.2 note); what is not two letters is none."""
    if not (vr.isalpha() and vr.isupper()):
        raise CannotUnderstand(f"{_name(tag)} has the VR {vr!r}, two capital letters are allowed")


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
