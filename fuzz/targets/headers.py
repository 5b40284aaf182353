"""bytes -> header values: storage/header.py, part10.py and examine.py against PS3.5 and PS3.10 (1, 2, 3, 5)."""

import io
import os
import struct
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcmstore import uids
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import examine, header, part10
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.header import MAX_NESTING, MAX_VALUE, HeaderReader
from dcmstore.storage.part10 import FileMeta
from fuzz import reference
from fuzz.oracle import Source, bytes_held, cuttings, received, require

IMPLICIT, EXPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN
BIG, DEFLATED = uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
SYNTAXES = (EXPLICIT, IMPLICIT, BIG, DEFLATED, "1.2.840.10008.1.2.4.50", "1.2.840.113619.5.2", "1.2.840.10008.1.2.4.95",
            "")  # fmt: skip
TITLE_BIT = 8

# The attributes that filing asks for (docs/filing.md), the check of identity (docs/conformance.md) and the audit trail
WANTED = (0x00080005, 0x00080016, 0x00080018, 0x00080060, 0x00100010, 0x00100020, 0x0020000D, 0x00200010, 0x00200011,
          0x00200013)  # fmt: skip
TITLE, TITLE_VALUES = 0x0040A043, (0x00080100, 0x00080102)
MAX_HELD = (len(WANTED) + len(TITLE_VALUES) + 1) * (MAX_VALUE + 12) + 16 * MAX_NESTING


def data_set_head(data: bytes) -> None:
    """Any bytes give values of wanted attributes or a CannotUnderstand, the same however they are cut."""
    choice, encoded = data[0] if data else 0, data[1:]
    syntax, with_title = SYNTAXES[choice % 8], bool(choice & TITLE_BIT)
    first = None
    for pieces in cuttings(encoded):
        result = _read(HeaderReader(syntax, with_title=with_title), pieces, len(encoded))
        first = first or result
        require(result == first, "another result when cut otherwise", result, first)


def _read(reader: HeaderReader, pieces: list[memoryview], size: int) -> tuple[Any, ...]:
    try:
        for piece in received(pieces):
            reader.receive(piece)
            require(bytes_held(reader) <= MAX_HELD, "holds more than the wanted values", bytes_held(reader))
        reader.end()
        reader.check_size(size)
    except CannotUnderstand as error:
        return (str(error),)
    allowed = {*WANTED, *TITLE_VALUES}
    require(set(reader.values) <= allowed, "keeps what nobody asked for", reader.values)
    require(all(len(value) <= MAX_VALUE for value in reader.values.values()), "keeps a value over its limit")
    return reader.values, reader.found_transfer_syntax


# --- data sets that are right ------------------------------------------------------------------------


@dataclass
class Element:
    """An element with a value, or with items."""

    tag: int
    vr: str
    value: bytes = b""
    items: list[list["Element"]] = field(default_factory=list)
    shape: int = 0  # bit 0: the sequence has a length, bit 1: its items have one


_LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")  # PS3.5 table 7.1-1
_VRS = (*_LONG, "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FL", "FD", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST",
        "TM", "UI", "UL", "US")  # fmt: skip
_TAGS = (
    *WANTED, *TITLE_VALUES, 0x00080008, 0x00081111, 0x00081140, 0x00090010, 0x00091001, 0x00101002, 0x00180015,
    0x00200012, 0x00200052, 0x00280010, 0x00400275, TITLE, 0x0040A730, 0x7FE00010, 0xFFFCFFFC,
)  # fmt: skip
_VR_OF = dict(zip(WANTED, ("CS", "UI", "UI", "CS", "PN", "LO", "UI", "SH", "IS", "IS"), strict=True))
_VR_OF |= {0x00080100: "SH", 0x00080102: "SH", TITLE: "SQ"}
_DEEPEST = 5


def data_set(data: bytes) -> None:
    """A well-formed data set gives the values that stand on its first level, in any syntax, also one not announced."""
    source = Source(data)
    choice = source.byte()
    elements = _elements(source, 0)
    if not elements or elements[0].tag >> 16 != 0x0008 or elements[0].vr in ("SQ", "UN"):
        elements.insert(0, Element(0x00080001, "UL", b"\4\0\0\0"))
    with_title = bool(choice & TITLE_BIT)
    expected = _expected(elements, with_title)
    plain = {syntax: _encode(elements, syntax) for syntax in (EXPLICIT, IMPLICIT, BIG)}
    announced = SYNTAXES[choice % 4]
    for syntax, encoded in plain.items():
        # What is announced as big endian or deflated is not tried in the others: a deflated one can't be sniffed.
        name = syntax if announced == DEFLATED else announced
        _check(HeaderReader(name, with_title=with_title), encoded, expected, syntax)
    squeezed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = squeezed.compress(plain[EXPLICIT]) + squeezed.flush()
    _check(HeaderReader(DEFLATED, with_title=with_title), deflated, expected, "")


def _check(reader: HeaderReader, encoded: bytes, expected: dict[int, bytes], syntax: str) -> None:
    *_, pieces = cuttings(encoded)
    try:
        for piece in received(pieces):
            reader.receive(piece)
        reader.end()
        reader.check_size(len(encoded))
    except CannotUnderstand as error:
        require(False, "a well-formed data set is not understood", str(error), syntax, encoded)
    require(reader.values == expected, "other values than were written", reader.values, expected, syntax, encoded)
    require(not syntax or reader.found_transfer_syntax == syntax, "found another syntax", reader.found_transfer_syntax)


def _expected(elements: list[Element], with_title: bool) -> dict[int, bytes]:
    expected = {element.tag: element.value for element in elements if element.tag in WANTED}
    for element in elements:
        if with_title and element.tag == TITLE and element.items:
            expected |= {inner.tag: inner.value for inner in element.items[0] if inner.tag in TITLE_VALUES}
    return expected


def _elements(source: Source, depth: int) -> list[Element]:
    """Elements in the order of their tags, each tag once (PS3.5 7.1)."""
    found: dict[int, Element] = {}
    for _ in range(source.byte() % 16):
        tag = source.choice(_TAGS)
        vr = _VR_OF.get(tag) or source.choice(_VRS)
        element = Element(tag, vr)
        if vr == "SQ" or (vr == "UN" and source.byte() % 2):
            element.shape = source.byte()
            count = min(element.shape >> 2 & 3, 1 if tag == TITLE else 3) if depth < _DEEPEST else 0
            element.items = [_elements(source, depth + 1) for _ in range(count)]
            # UN with items has no length: with one it is bytes that nobody looks into (PS3.5 6.2.2)
            element.shape &= 2 if vr == "UN" else 3
        else:
            value = source.some(0xFFF0 if vr not in _VR_OF.values() else MAX_VALUE)
            element.value = value + b" " * (len(value) % 2)
        if vr == "UN" and not element.items:
            element.shape = 1
        found[tag] = element
    return [found[tag] for tag in sorted(found)]


def _encode(elements: list[Element], syntax: str) -> bytes:
    return b"".join(_encode_element(element, syntax) for element in elements)


def _encode_element(element: Element, syntax: str) -> bytes:
    has_items = element.vr == "SQ" or bool(element.items)
    if has_items:
        inner = IMPLICIT if element.vr == "UN" and syntax == EXPLICIT else syntax
        value = b"".join(_encode_item(item, inner, has_length=bool(element.shape & 2)) for item in element.items)
        has_length = bool(element.shape & 1)
        if not has_length:
            value += _head(0xFFFEE0DD, "", 0, IMPLICIT if inner == IMPLICIT else syntax)
    else:
        value, has_length = element.value, True
    vr = "SQ" if element.vr == "UN" and has_items and syntax == BIG else element.vr  # UN's items would be little endian
    return _head(element.tag, vr, len(value) if has_length else 0xFFFFFFFF, syntax) + value


def _encode_item(elements: list[Element], syntax: str, *, has_length: bool) -> bytes:
    value = _encode(elements, syntax)
    if has_length:
        return _head(0xFFFEE000, "", len(value), syntax) + value
    return _head(0xFFFEE000, "", 0xFFFFFFFF, syntax) + value + _head(0xFFFEE00D, "", 0, syntax)


def _head(tag: int, vr: str, length: int, syntax: str) -> bytes:
    """PS3.5 tables 7.1-1 to 7.1-3; items have no VR (7.5)."""
    order = ">" if syntax == BIG else "<"
    group, number = tag >> 16, tag & 0xFFFF
    if syntax == IMPLICIT or not vr:
        return struct.pack(order + "HHI", group, number, length)
    if vr in _LONG:
        return struct.pack(order + "HH2s2xI", group, number, vr.encode(), length)
    return struct.pack(order + "HH2sH", group, number, vr.encode(), length)


# --- files -----------------------------------------------------------------------------------------


def memory_folder() -> str | None:
    """A folder in memory, for these files are written and read thousands of times a second."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


_folder = tempfile.TemporaryDirectory(dir=memory_folder(), prefix="dcmstore-fuzz-")
_path = Path(_folder.name) / "input.dcm"


def file(data: bytes) -> None:
    """Any file is examined or refused; what is written in front of a data set is read back, whatever follows it."""
    try:
        stream = io.BytesIO(data)
        part10.read(stream)
        require(stream.tell() <= len(data), "stands behind the end of the file")
    except CannotUnderstand:
        pass
    _path.write_bytes(data)
    try:
        found = examine.examine(_path)
    except CannotUnderstand:
        found = None
    if found is not None:
        require(reference.is_uid(found.sop_instance_uid), "a file under what is no UID", found.sop_instance_uid)
        require(0 <= found.start <= len(data), "a data set that begins outside of the file", found.start)
        require(found.destination(FilingPolicy()).root in Root, "a file without a root")
    _check_head(data)


def _check_head(data: bytes) -> None:
    """The head of a file of ours, with the input as its data set."""
    choice = data[:4].ljust(4, b"1")
    texts = ["1.2.840." + "".join(str(byte) for byte in choice[:count]) for count in (1, 2, 3)]
    meta = FileMeta(texts[0], texts[1], texts[2], "AE" * (choice[3] % 9))
    head = part10.encode(meta)
    stream = io.BytesIO(head + data)
    require(part10.read(stream) == meta, "the head of our file is read as another", meta)
    require(stream.tell() == len(head), "the data set begins elsewhere", stream.tell(), len(head))
    require(len(head) % 2 == 0 and head[128:132] == b"DICM", "a head that PS3.10 has not", head)


assert header.CONCEPT_NAME_CODE_SEQUENCE == TITLE
