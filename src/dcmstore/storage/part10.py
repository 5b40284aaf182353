"""command -> File Meta Information: the head of a PS3.10 file, written and read (PS3.10 chapter 7)."""

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from dcmstore import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dcmstore.errors import CannotUnderstand

_PREAMBLE = bytes(128) + b"DICM"
_SHORT = struct.Struct("<HH2sH")  # group, element, VR, length
_LONG = struct.Struct("<HH2s2xI")
_U32 = struct.Struct("<I")
_GROUP_LENGTH = struct.Struct("<HH2sHI")

MAX_FILE_META = 64 * 1024  # bytes; a head with every optional element is under 2 kB
_MOST_READ = len(_PREAMBLE) + 2 * MAX_FILE_META + 2 * _LONG.size  # bytes; so a last element is there whole
_LONG_VRS = (b"OB", b"UN", b"UT", b"OW", b"SQ")  # of those that may stand in group 0002
_BREAKS_OFF = "File Meta Information ends in the middle of an element"


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the File Meta Information says of the data set behind it (PS3.10 table 7.1-1)."""

    media_storage_sop_class_uid: str
    media_storage_sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str = ""


NO_META = FileMeta("", "", "")  # of a bare data set


def encode(meta: FileMeta) -> bytes:  # hot: bench
    """Preamble, prefix and group 0002 in Explicit VR Little Endian, ready to be followed by the data set."""
    before, behind = _around_instance_uid(
        meta.media_storage_sop_class_uid, meta.transfer_syntax_uid, meta.source_ae_title
    )
    instance = _element(0x0003, b"UI", meta.media_storage_sop_instance_uid)
    length = _GROUP_LENGTH.pack(0x0002, 0x0000, b"UL", 4, len(before) + len(instance) + len(behind))
    return b"".join((_PREAMBLE, length, before, instance, behind))


@functools.lru_cache(maxsize=256)
def _around_instance_uid(sop_class_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> tuple[bytes, bytes]:
    """The elements in front of and behind the one that differs from instance to instance."""
    before = _LONG.pack(0x0002, 0x0001, b"OB", 2) + b"\x00\x01"  # File Meta Information Version
    behind = _element(0x0010, b"UI", transfer_syntax_uid)
    behind += _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID)
    behind += _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME)
    if source_ae_title:
        behind += _element(0x0016, b"AE", source_ae_title)
    return before + _element(0x0002, b"UI", sop_class_uid), behind


def _element(number: int, vr: bytes, text: str) -> bytes:
    """One short element, padded to even length: UI with NUL, text with a space (PS3.5 6.2)."""
    value = text.encode("ascii", "replace")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return _SHORT.pack(0x0002, number, vr, len(value)) + value


def read(file: BinaryIO) -> FileMeta:
    """Read the head of an open PS3.10 file; the file then stands at the first byte of its data set.

    Raises CannotUnderstand when the file does not begin with a preamble and a complete group 0002.
    """
    meta = read_if_any(file)
    if meta is NO_META:
        raise CannotUnderstand("no DICM prefix behind 128 bytes of preamble")
    return meta


def read_if_any(file: BinaryIO) -> FileMeta:
    """What `read` does, or NO_META for a file that is a bare data set, which the file then stands at."""
    start = file.tell()
    head = file.read(_MOST_READ)
    if head[128 : len(_PREAMBLE)] != b"DICM":
        file.seek(start)
        return NO_META
    meta, size = _decode(head)
    file.seek(start + size)
    return meta


def _decode(head: bytes) -> tuple[FileMeta, int]:
    """What the beginning of a file says, and how many bytes say it."""
    values: dict[int, bytes] = {}
    position, end = len(_PREAMBLE), -1
    # The group ends with its tags, for some writers get its length wrong. Ours is right, and counts: the data set
    # behind it may begin with a group 0002 of its own, which some senders leave in.
    while not (position == end and _is_ours(values)) and (element := _element_at(head, position)) is not None:
        number, value, position = element
        values[number] = value
        if number == 0x0000 and len(value) == _U32.size:
            end = position + _U32.unpack(value)[0]
        if position - len(_PREAMBLE) > MAX_FILE_META:
            raise CannotUnderstand(f"File Meta Information is longer than {MAX_FILE_META} bytes")
    texts = (values.get(number, b"").decode("latin-1").strip(" \0") for number in (0x0002, 0x0003, 0x0010, 0x0016))
    return FileMeta(*texts), position


def _is_ours(values: Mapping[int, bytes]) -> bool:
    return values.get(0x0012, b"").strip(b" \0") == IMPLEMENTATION_CLASS_UID.encode("ascii")


def _element_at(head: bytes, position: int) -> tuple[int, bytes, int] | None:
    """Number, value and end of the element at a position, or None where group 0002 ends there, or the file."""
    left = len(head) - position
    if not left:
        return None
    if left < _SHORT.size:
        raise CannotUnderstand(_BREAKS_OFF)
    group, number, vr, length = _SHORT.unpack_from(head, position)
    if group != 0x0002:
        return None
    start = position + _SHORT.size
    if vr in _LONG_VRS:
        if left < _LONG.size:
            raise CannotUnderstand(_BREAKS_OFF)
        length = _LONG.unpack_from(head, position)[3]
        start = position + _LONG.size
    if length > MAX_FILE_META:
        raise CannotUnderstand(f"element (0002,{number:04X}) is longer than {MAX_FILE_META} bytes")
    value = head[start : start + length]
    if len(value) < length:
        raise CannotUnderstand(_BREAKS_OFF)
    return number, value, start + length
