"""The header reader against pydicom: on every file it ships, on real dose reports, on data sets made to be hard."""

import functools
import importlib.util
import io
import itertools
import random
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pydicom.filereader
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dcmstore import uids
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import header
from dcmstore.storage.header import HeaderReader
from tests.support import XRAY_DOSE_SR, data_set, element
from tests.wire import bytes_held

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom on the odd files it ships

IMPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN
EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN
BIG_ENDIAN = uids.EXPLICIT_VR_BIG_ENDIAN
DEFLATED = uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
ENCODINGS = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
JPEG = "1.2.840.10008.1.2.4.50"

WANTED = (
    header.SPECIFIC_CHARACTER_SET,
    header.SOP_CLASS_UID,
    header.SOP_INSTANCE_UID,
    header.MODALITY,
    header.PATIENT_NAME,
    header.PATIENT_ID,
    header.STUDY_INSTANCE_UID,
    header.STUDY_ID,
    header.SERIES_NUMBER,
    header.INSTANCE_NUMBER,
)
TITLE = (header.CODE_VALUE, header.CODING_SCHEME_DESIGNATOR)

Values = dict[int, bytes]


def read(
    encoded: bytes, transfer_syntax: str, *, with_title: bool = True, pieces: Iterator[int] | None = None
) -> Values:
    """What the reader finds, fed whole or in pieces of the given sizes."""
    reader = HeaderReader(transfer_syntax, with_title=with_title)
    position = 0
    while position < len(encoded) and not reader.is_complete:
        size = next(pieces) if pieces else len(encoded)
        reader.receive(memoryview(encoded)[position : position + size])
        position += size
    reader.end()
    return reader.values


def outcome(encoded: bytes, transfer_syntax: str, **how: object) -> Values | str:
    """The values, or that there was an error: which one may depend on where a piece ended."""
    try:
        return read(encoded, transfer_syntax, **how)  # type: ignore[arg-type]
    except CannotUnderstand:
        return "CannotUnderstand"


def one_byte_each() -> Iterator[int]:
    while True:
        yield 1


def random_sizes(seed: int) -> Iterator[int]:
    source = random.Random(seed)
    while True:
        yield source.choice((1, 2, 3, 7, 8, 11, 12, 13, 64, 500, 4096))


def stripped(values: Values) -> Values:
    return {tag: value.strip(b" \0") for tag, value in values.items()}


# What pydicom sees -------------------------------------------------------------------------------------------------


def raw_value(value: object) -> bytes:
    """A value that pydicom holds raw, or has converted while reading, as its bytes without padding."""
    if value is None:
        return b""
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        value = "\\".join(value)
    return (value if isinstance(value, bytes) else str(value).encode("latin-1")).strip(b" \0")


def expected_values(ds: Dataset) -> Values:
    return {tag: raw_value(ds.get_item(tag).value) for tag in WANTED if tag in ds}


def expected_title(ds: Dataset) -> Values:
    items = ds.get("ConceptNameCodeSequence") or ()
    return {tag: raw_value(items[0].get_item(tag).value) for tag in TITLE if tag in items[0]} if items else {}


@functools.cache
def file_seen_by_pydicom(path: Path) -> tuple[bytes, str, Values, Values]:
    """Data set, transfer syntax, values and title of a file; all of it found with pydicom alone."""
    ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=True)
        meta = pydicom.filereader._read_file_meta_info(file)
        encoded = file.read()
    guessed = {(True, True): IMPLICIT, (False, True): EXPLICIT, (False, False): BIG_ENDIAN}[ds.original_encoding]
    return encoded, str(meta.get("TransferSyntaxUID", guessed)), expected_values(ds), expected_title(ds)


def shipped_files() -> list[Path]:
    """Every file of pydicom's own collections that is a data set, with or without File Meta Information."""
    root = Path(pydicom.__file__).parent / "data"
    files = [path for name in ("test_files", "charset_files") for path in (root / name).rglob("*") if path.is_file()]
    return sorted(path for path in files if path.suffix not in (".txt", ".json", ".icc", ".gz", ".dump", ".py"))


def real_dose_reports() -> list[Path]:
    package = importlib.util.find_spec("pyskindose")
    if package is None or package.origin is None:
        return []
    return sorted((Path(package.origin).parent / "example_data" / "RDSR").glob("*.dcm"))


FILES = [pytest.param(path, id=f"{path.parent.name}/{path.name}") for path in shipped_files() + real_dose_reports()]


def test_the_collections_of_pydicom_are_found() -> None:
    assert len(shipped_files()) > 150


@pytest.mark.parametrize("path", FILES)
def test_a_file_fed_whole_gives_the_values_that_pydicom_reads(path: Path) -> None:
    encoded, transfer_syntax, values, _ = file_seen_by_pydicom(path)
    assert stripped(read(encoded, transfer_syntax, with_title=False)) == values


@pytest.mark.parametrize("path", FILES)
def test_a_file_read_up_to_its_title_gives_values_and_title_that_pydicom_reads(path: Path) -> None:
    encoded, transfer_syntax, values, title = file_seen_by_pydicom(path)
    assert stripped(read(encoded, transfer_syntax)) == values | title


@pytest.mark.parametrize("path", FILES)
def test_a_file_fed_byte_by_byte_gives_the_same(path: Path) -> None:
    encoded, transfer_syntax, values, title = file_seen_by_pydicom(path)
    assert stripped(read(encoded, transfer_syntax, pieces=one_byte_each())) == values | title


@pytest.mark.parametrize("path", FILES)
def test_a_file_fed_in_random_pieces_gives_the_same(path: Path) -> None:
    encoded, transfer_syntax, values, title = file_seen_by_pydicom(path)
    for seed in range(3):
        assert stripped(read(encoded, transfer_syntax, pieces=random_sizes(seed))) == values | title


@pytest.mark.skipif(not real_dose_reports(), reason="pyskindose, which brings real dose reports, is not installed")
def test_real_dose_reports_bear_the_title_of_a_dose_report() -> None:
    for path in real_dose_reports():
        encoded, transfer_syntax, _, _ = file_seen_by_pydicom(path)
        values = stripped(read(encoded, transfer_syntax))
        assert (values[header.CODE_VALUE], values[header.CODING_SCHEME_DESIGNATOR]) == (b"113701", b"DCM")


# Data sets made to be hard -----------------------------------------------------------------------------------------


def plain(**more: object) -> Dataset:
    """A small structured report that has all wanted attributes; `more` by keyword."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = XRAY_DOSE_SR
    ds.SOPInstanceUID = "1.2.3.4"
    ds.PatientName = "Doe^Jane"
    ds.PatientID = "PAT1"
    ds.StudyID = "7"
    ds.SeriesNumber = 3
    ds.ConceptNameCodeSequence = [coded("113701", "DCM", "X-Ray Radiation Dose Report")]
    ds.ContentSequence = [coded("1", "X", "after the title")]
    for name, value in more.items():
        setattr(ds, name, value)
    return ds


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def encode(ds: Dataset, transfer_syntax: str, *, undefined_lengths: bool = False) -> bytes:
    """Write a data set with pydicom."""
    if undefined_lengths:
        set_undefined_lengths(ds)
    file = DicomBytesIO()
    file.is_little_endian = transfer_syntax != BIG_ENDIAN
    file.is_implicit_VR = transfer_syntax == IMPLICIT
    write_dataset(file, ds)
    encoded = file.getvalue()
    if transfer_syntax == DEFLATED:
        encoded = deflate(encoded)
    return encoded


def deflate(encoded: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(encoded) + packer.flush()


def set_undefined_lengths(ds: Dataset) -> None:
    for part in ds:
        if part.VR == "SQ":
            part.is_undefined_length = True
            for item in part.value:
                item.is_undefined_length_sequence_item = True
                set_undefined_lengths(item)


def all_of(ds: Dataset) -> Values:
    return expected_values(ds) | expected_title(ds)


def decoy(depth: int) -> Dataset:
    """A sequence that holds wanted attributes on levels where they are not wanted."""
    item = Dataset()
    item.SOPClassUID, item.PatientID, item.StudyID, item.SeriesNumber = "9.9", "DECOY", "DECOY", 99
    item.ConceptNameCodeSequence = [coded("9", "DECOY", "DECOY")]
    if depth:
        item.ReferencedSeriesSequence = [decoy(depth - 1), decoy(0)]
    return item


@pytest.mark.parametrize("transfer_syntax", ENCODINGS)
def test_each_encoding_is_read(transfer_syntax: str) -> None:
    ds = plain()
    assert stripped(read(encode(ds, transfer_syntax), transfer_syntax)) == all_of(ds)


@pytest.mark.parametrize("undefined_lengths", [False, True])
@pytest.mark.parametrize("transfer_syntax", ENCODINGS)
def test_what_stands_in_nested_sequences_is_not_taken_for_the_real_thing(
    transfer_syntax: str, undefined_lengths: bool
) -> None:
    ds = plain(ReferencedStudySequence=[decoy(5), decoy(0)], RequestAttributesSequence=[decoy(3)])
    encoded = encode(ds, transfer_syntax, undefined_lengths=undefined_lengths)
    assert stripped(read(encoded, transfer_syntax)) == all_of(ds)
    assert stripped(read(encoded, transfer_syntax, pieces=one_byte_each())) == all_of(ds)


@pytest.mark.parametrize("transfer_syntax", ENCODINGS)
def test_a_title_of_undefined_length_is_read(transfer_syntax: str) -> None:
    ds = plain()
    encoded = encode(ds, transfer_syntax, undefined_lengths=True)
    assert stripped(read(encoded, transfer_syntax)) == all_of(ds)


def test_an_empty_title_is_absent() -> None:
    ds = plain(ConceptNameCodeSequence=[])
    assert not read(encode(ds, EXPLICIT), EXPLICIT).keys() & set(TITLE)


def test_a_code_behind_an_empty_title_is_not_the_title() -> None:
    ds = plain(ConceptNameCodeSequence=[])
    encoded = encode(ds, EXPLICIT, undefined_lengths=True)
    assert not read(encoded, EXPLICIT).keys() & set(TITLE)


def test_a_title_sequence_without_items_at_the_end_is_a_complete_header() -> None:
    ds = plain(ConceptNameCodeSequence=[])
    del ds.ContentSequence
    assert stripped(read(encode(ds, EXPLICIT), EXPLICIT)) == all_of(ds)


def test_only_the_first_item_of_a_title_counts() -> None:
    ds = plain(ConceptNameCodeSequence=[coded("113701", "DCM", "first"), coded("9", "Z", "second")])
    assert stripped(read(encode(ds, EXPLICIT), EXPLICIT))[header.CODE_VALUE] == b"113701"


def test_a_title_written_as_un_is_read() -> None:
    """PS3.5 6.2.2 note 2: what a sender did not know went out as UN, its content in Implicit VR Little Endian."""
    ds = plain()
    content = encode(ds, IMPLICIT)
    start = content.index(struct.pack("<HH", 0x0040, 0xA043))
    (length,) = struct.unpack_from("<I", content, start + 4)
    title = content[start + 8 : start + 8 + length]
    del ds.ConceptNameCodeSequence, ds.ContentSequence
    as_un = struct.pack("<HH2s2xI", 0x0040, 0xA043, b"UN", len(title)) + title
    encoded = encode(ds, EXPLICIT) + as_un + element(0x0040, 0xA491, "CS", b"COMPLETE")
    assert stripped(read(encoded, EXPLICIT)) == all_of(plain())


def test_un_of_undefined_length_has_implicit_content() -> None:
    head = element(0x0008, 0x0018, "UI", b"1.2.3.4")
    inner = struct.pack("<HHI", 0x0010, 0x0020, 6) + b"DECOY "  # Implicit VR: it has no VR
    nested = struct.pack("<HHI", 0x0009, 0x1002, 0xFFFF_FFFF) + _item(inner) + _sequence_end()
    unknown = struct.pack("<HH2s2xI", 0x0009, 0x1001, b"UN", 0xFFFF_FFFF) + _item(inner + nested) + _sequence_end()
    encoded = head + unknown + element(0x0010, 0x0020, "LO", b"PAT1") + element(0x0020, 0x0011, "IS", b"3")
    for pieces in (None, one_byte_each()):
        assert stripped(read(encoded, EXPLICIT, with_title=False, pieces=pieces)) == {
            header.SOP_INSTANCE_UID: b"1.2.3.4",
            header.PATIENT_ID: b"PAT1",
            header.SERIES_NUMBER: b"3",
        }


def test_the_length_of_an_item_is_not_taken_for_a_vr() -> None:
    """PS3.5 7.5: an item has no VR. The first two bytes of this one's length are `AE`."""
    length = int.from_bytes(b"AE\0\0", "little")
    item = struct.pack("<HHI", 0xFFFE, 0xE000, length) + bytes(length)
    sequence = struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFF_FFFF) + item + _sequence_end()
    encoded = sequence + element(0x0010, 0x0020, "LO", b"PAT1")
    assert stripped(read(encoded, EXPLICIT)) == {header.PATIENT_ID: b"PAT1"}


def _item(content: bytes) -> bytes:
    """An item of undefined length."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFF_FFFF) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)


def _sequence_end() -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


@pytest.mark.parametrize("transfer_syntax", ENCODINGS)
def test_private_elements_in_front_of_the_patient_are_passed_over(transfer_syntax: str) -> None:
    ds = plain()
    block = ds.private_block(0x0009, "SOMEBODY", create=True)
    block.add_new(0x01, "LO", "PRIVATE")
    block.add_new(0x02, "OB", bytes(200_001 + 1))
    block.add_new(0x03, "SQ", Sequence([decoy(1)]))
    encoded = encode(ds, transfer_syntax)
    assert stripped(read(encoded, transfer_syntax)) == all_of(ds)
    assert stripped(read(encoded, transfer_syntax, pieces=random_sizes(1))) == all_of(ds)


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("sizes", [[70 * 1024 * 1024], [1024 * 1024] * 70, [7000] * 10_000], ids=["1", "70", "10000"])
def test_private_elements_longer_than_a_header_may_be_are_passed_over(transfer_syntax: str, sizes: list[int]) -> None:
    reader = HeaderReader(transfer_syntax)
    for size in sizes:
        pass_private_element(reader, transfer_syntax, size)
    reader.receive(memoryview(encode(plain(InstanceNumber=1), transfer_syntax)))
    assert reader.is_complete
    assert stripped(reader.values) == expected_values(plain(InstanceNumber=1))
    assert sum(sizes) > header.MAX_HEADER


def pass_private_element(reader: HeaderReader, transfer_syntax: str, size: int, piece_size: int = 100_000) -> None:
    """Give a reader an element (0009,1001) of so many bytes, a piece at a time."""
    form = {EXPLICIT: "<HH2s2xI", BIG_ENDIAN: ">HH2s2xI"}.get(transfer_syntax)
    head = struct.pack(form, 0x0009, 0x1001, b"OB", size) if form else struct.pack("<HHI", 0x0009, 0x1001, size)
    piece = head + bytes(min(size, piece_size))
    reader.receive(memoryview(piece))
    left = size + len(head) - len(piece)
    while left:
        piece = bytes(min(left, piece_size))
        reader.receive(memoryview(piece))
        left -= len(piece)


@pytest.mark.parametrize("size", [16, 1600])
@pytest.mark.parametrize("transfer_syntax", ENCODINGS)
def test_a_header_that_does_not_end_is_given_up(
    transfer_syntax: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header, "MAX_HEADER", 64 * 1024)
    ds = Dataset()
    ds.PatientID = "PAT1"
    encoded = encode(ds, IMPLICIT if transfer_syntax == DEFLATED else transfer_syntax)
    endless = encoded * (header.MAX_HEADER // len(encoded) + 2)
    if transfer_syntax == DEFLATED:
        endless = deflate(endless)
    with pytest.raises(CannotUnderstand, match=r"no header ends within the first 65536 bytes$"):
        read(endless, transfer_syntax, pieces=itertools.repeat(size))


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, DEFLATED])
def test_a_header_of_five_megabytes_is_given_up(transfer_syntax: str) -> None:
    pair = struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFF_FFFF) + _sequence_end()
    endless = pair * (5 * 1024 * 1024 // len(pair))
    with pytest.raises(CannotUnderstand, match="no header ends within"):
        read(deflate(endless) if transfer_syntax == DEFLATED else endless, transfer_syntax)


def test_a_reader_that_met_very_many_heads_steps_aside_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    aside: list[float] = []
    monkeypatch.setattr(time, "sleep", aside.append)
    pair = struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFF_FFFF) + _sequence_end()
    many = pair * (1024 * 1024 // len(pair))
    for from_a_peer in (False, True):
        assert not aside
        reader = HeaderReader(EXPLICIT, from_a_peer=from_a_peer)
        for start in range(0, len(many), 10_000):
            reader.receive(memoryview(many[start : start + 10_000]))
    assert sum(aside) == pytest.approx(header.ASIDE * len(many), rel=0.02)


def test_a_reader_never_steps_aside_for_a_real_file(monkeypatch: pytest.MonkeyPatch) -> None:
    aside: list[float] = []
    monkeypatch.setattr(time, "sleep", aside.append)
    for path in shipped_files() + real_dose_reports():
        encoded, transfer_syntax, _, _ = file_seen_by_pydicom(path)
        HeaderReader(transfer_syntax, from_a_peer=True).receive(memoryview(encoded))
    assert not aside


def test_the_headers_of_real_files_are_a_thousandth_of_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MAX_HEADER", header.MAX_HEADER // 1000)
    for path in shipped_files() + real_dose_reports():
        encoded, transfer_syntax, values, title = file_seen_by_pydicom(path)
        assert stripped(read(encoded, transfer_syntax)) == values | title


def test_a_deflated_header_that_does_not_end_is_given_up_even_while_a_value_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(header, "MAX_INFLATED", 200_000)
    ds = plain()
    ds.private_block(0x0009, "SOMEBODY", create=True).add_new(0x01, "OB", bytes(200_000))
    with pytest.raises(CannotUnderstand, match="no header ends within the first 200000 bytes unpacked"):
        read(encode(ds, DEFLATED), DEFLATED)


def test_kinds_of_elements_that_are_passed_over_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MAX_UNWANTED", 100)
    wanted = frozenset((header.INSTANCE_NUMBER,))
    for first in range(0, 1000, 50):  # private elements, always others
        encoded = b"".join(struct.pack("<HHI", 0x0009, 0x1000 + first + number, 0) for number in range(50))
        reader = HeaderReader.for_tags(uids.IMPLICIT_VR_LITTLE_ENDIAN, wanted)
        reader.receive(memoryview(encoded + struct.pack("<HHI2s", 0x0020, 0x0013, 2, b"7 ")))
        assert reader.values == {header.INSTANCE_NUMBER: b"7 "}
        assert all(len(kinds) <= 100 for kinds in reader._level.unwanted.values())


def test_what_stands_behind_the_header_is_not_kept() -> None:
    reader = HeaderReader(EXPLICIT)
    reader.receive(memoryview(data_set() + bytes(100_000)))
    assert reader.is_complete
    assert bytes_held(reader) < 1000


@pytest.mark.parametrize("written", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("vr", [b"SQ", b"UN"])
def test_a_bare_data_set_says_what_it_is_written_in(written: str, vr: bytes) -> None:
    """Even where its title, which a sender did not know, is in Implicit VR."""
    encoded = encode(plain(), IMPLICIT)
    if written == EXPLICIT:
        head = element(0x0008, 0x0018, "UI", b"1.2.3.4")
        title = encode(coded("113701", "DCM", "title"), IMPLICIT if vr == b"UN" else EXPLICIT)
        encoded = head + struct.pack("<HH2s2xI", 0x0040, 0xA043, vr, 0xFFFF_FFFF) + _item(title) + _sequence_end()
    reader = HeaderReader("", with_title=True)
    reader.receive(memoryview(encoded))
    assert reader.is_complete
    assert stripped(reader.values)[header.CODE_VALUE] == b"113701"
    assert reader.found_transfer_syntax == written


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_group_lengths_are_passed_over(transfer_syntax: str) -> None:
    order = ">" if transfer_syntax == BIG_ENDIAN else "<"

    def group_length(group: int) -> bytes:
        if transfer_syntax == IMPLICIT:
            return struct.pack("<HHII", group, 0, 4, 1234)
        return struct.pack(f"{order}HH2sHI", group, 0, b"UL", 4, 1234)

    first, second = Dataset(), Dataset()
    first.SOPClassUID, first.SOPInstanceUID = "1.2.3", "1.2.3.4"
    second.PatientID, second.SeriesNumber = "PAT1", 3
    encoded = (
        group_length(0x0008) + encode(first, transfer_syntax) + group_length(0x0010) + encode(second, transfer_syntax)
    )
    assert stripped(read(encoded, transfer_syntax, with_title=False)) == {
        header.SOP_CLASS_UID: b"1.2.3",
        header.SOP_INSTANCE_UID: b"1.2.3.4",
        header.PATIENT_ID: b"PAT1",
        header.SERIES_NUMBER: b"3",
    }


def test_odd_lengths_are_read_as_they_are() -> None:
    encoded = (
        struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", 7)
        + b"GB18030"
        + struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 3)
        + b"CT\0"
        + struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 1)
        + b"P"
        + struct.pack("<HH2sH", 0x0020, 0x0011, b"IS", 1)
        + b"3"
    )
    expected = {
        header.SPECIFIC_CHARACTER_SET: b"GB18030",
        header.MODALITY: b"CT\0",
        header.PATIENT_ID: b"P",
        header.SERIES_NUMBER: b"3",
    }
    assert read(encoded, EXPLICIT, with_title=False) == expected
    assert read(encoded, EXPLICIT, with_title=False, pieces=one_byte_each()) == expected


@pytest.mark.parametrize("declared", [EXPLICIT, JPEG, "1.2.3.4.5", ""])
def test_implicit_data_in_an_explicit_syntax_is_read_as_it_is(declared: str) -> None:
    ds = plain(ReferencedStudySequence=[decoy(2)])
    encoded = encode(ds, IMPLICIT, undefined_lengths=True)
    assert stripped(read(encoded, declared)) == all_of(ds)


def test_explicit_data_in_the_implicit_syntax_is_read_as_it_is() -> None:
    ds = plain(ReferencedStudySequence=[decoy(2)])
    encoded = encode(ds, EXPLICIT, undefined_lengths=True)
    assert stripped(read(encoded, IMPLICIT)) == all_of(ds)


@pytest.mark.parametrize("declared", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("behind", [EXPLICIT, IMPLICIT])
def test_file_meta_information_in_the_data_set_is_passed_over(declared: str, behind: str) -> None:
    meta = element(0x0002, 0x0000, "UL", b"\x14\0\0\0") + element(0x0002, 0x0010, "UI", b"1.2.840.10008")
    assert stripped(read(meta + encode(plain(), behind), declared)) == all_of(plain())


def test_a_private_transfer_syntax_is_read_as_explicit_little_endian() -> None:
    assert stripped(read(encode(plain(), EXPLICIT), "1.3.46.670589.33.1.4.1")) == all_of(plain())


def test_a_vr_invented_later_has_the_long_form() -> None:
    later = struct.pack("<HH2s2xI", 0x0009, 0x1001, b"ZZ", 4) + b"1234"
    encoded = element(0x0008, 0x0018, "UI", b"1.2") + later + element(0x0020, 0x0011, "IS", b"3")
    assert stripped(read(encoded, EXPLICIT, with_title=False))[header.SERIES_NUMBER] == b"3"


@pytest.mark.parametrize("vr", [b"\0\0", b"l0", b"  ", b"u\xff", b"lo"])
def test_what_is_no_vr_cannot_be_understood(vr: bytes) -> None:
    encoded = element(0x0008, 0x0018, "UI", b"1.2") + struct.pack("<HH2sHI", 0x0009, 0x1001, vr, 0, 0)
    with pytest.raises(CannotUnderstand, match="two capital letters are allowed"):
        read(encoded, EXPLICIT)


def test_absent_attributes_are_absent() -> None:
    ds = Dataset()
    ds.SOPInstanceUID = "1.2.3.4"
    ds.Rows = 1
    assert stripped(read(encode(ds, EXPLICIT), EXPLICIT)) == {header.SOP_INSTANCE_UID: b"1.2.3.4"}


def test_nothing_is_looked_at_behind_the_last_wanted_attribute() -> None:
    reader = HeaderReader(EXPLICIT)
    reader.receive(memoryview(data_set()))
    assert reader.is_complete
    before = dict(reader.values)
    reader.receive(memoryview(element(0x0010, 0x0020, "LO", b"LATER")))
    assert reader.values == before


def test_an_empty_data_set_cannot_be_understood() -> None:
    with pytest.raises(CannotUnderstand, match="breaks off"):
        HeaderReader(EXPLICIT).end()


def test_a_wanted_value_that_is_too_long_cannot_be_understood() -> None:
    encoded = struct.pack("<HHI", 0x0010, 0x0020, header.MAX_VALUE + 2)
    with pytest.raises(CannotUnderstand, match=r"\(0010,0020\) has 16386 bytes, at most 16384 are read"):
        read(encoded, IMPLICIT)


def test_the_longest_wanted_value_is_read() -> None:
    value = b"x" * header.MAX_VALUE
    encoded = struct.pack("<HHI", 0x0010, 0x0020, len(value)) + value
    assert read(encoded, IMPLICIT, pieces=random_sizes(2))[header.PATIENT_ID] == value


def test_endless_nesting_cannot_be_understood() -> None:
    level = struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFF_FFFF)
    level += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFF_FFFF)
    with pytest.raises(CannotUnderstand, match="nested more than 128 deep"):
        read(level * 200, EXPLICIT)


def test_the_end_of_a_sequence_that_was_not_opened_cannot_be_understood() -> None:
    encoded = element(0x0008, 0x0018, "UI", b"1.2") + _sequence_end()
    with pytest.raises(CannotUnderstand, match="was not opened"):
        read(encoded, EXPLICIT)


def test_what_cannot_be_unpacked_cannot_be_understood() -> None:
    with pytest.raises(CannotUnderstand, match="can't be unpacked"):
        read(b"\xff" * 40, DEFLATED)


@pytest.mark.parametrize("size", [0, 1, 200, 65_000, 65_500, 65_536, 66_000, 131_072, 200_000])
def test_a_deflated_data_set_is_looked_at_to_its_last_byte(size: int) -> None:
    """zlib may have taken all of its input and still hold output back."""
    ds = Dataset()
    ds.SOPInstanceUID = "1.2.3.4"
    ds.private_block(0x0011, "SOMEBODY", create=True).add_new(0x01, "OB", bytes(size + size % 2))
    assert stripped(read(encode(ds, DEFLATED), DEFLATED)) == {header.SOP_INSTANCE_UID: b"1.2.3.4"}


def test_what_follows_a_deflated_data_set_is_not_held_in_memory() -> None:
    reader = HeaderReader(DEFLATED)
    reader.receive(memoryview(deflate(element(0x0008, 0x0018, "UI", b"1.2"))))
    for _ in range(20):
        reader.receive(memoryview(bytes(100_000)))
    assert reader._inflater is not None
    assert len(reader._inflater.unused_data) <= 100_000


# Broken off, and anything at all -----------------------------------------------------------------------------------


@pytest.mark.parametrize("with_title", [False, True])
@pytest.mark.parametrize("undefined_lengths", [False, True])
@pytest.mark.parametrize("transfer_syntax", ENCODINGS)
def test_a_data_set_that_breaks_off_never_gives_a_wrong_value(
    transfer_syntax: str, undefined_lengths: bool, with_title: bool
) -> None:
    ds = plain(ReferencedStudySequence=[decoy(1)])
    encoded = encode(ds, transfer_syntax, undefined_lengths=undefined_lengths)
    whole = read(encoded, transfer_syntax, with_title=with_title)
    for length in range(len(encoded)):
        found = outcome(encoded[:length], transfer_syntax, with_title=with_title)
        assert isinstance(found, str) or found.items() <= whole.items()


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_a_data_set_that_breaks_off_in_an_element_of_its_header_cannot_be_understood(transfer_syntax: str) -> None:
    ds = plain(ReferencedStudySequence=[decoy(1)])
    encoded = encode(ds, transfer_syntax)
    tags = [tag for tag in sorted(ds.keys()) if tag <= Tag(header.INSTANCE_NUMBER)]
    ends = {len(encode(ds[: tag + 1], transfer_syntax)) for tag in tags}
    for length in range(1, max(ends)):
        is_understood = outcome(encoded[:length], transfer_syntax, with_title=False) != "CannotUnderstand"
        assert is_understood == (length in ends)


@pytest.mark.parametrize("opened", [b"", struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFF_FFFF)])
def test_a_data_set_that_breaks_off_in_an_open_sequence_cannot_be_understood(opened: bytes) -> None:
    encoded = struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFF_FFFF) + opened
    with pytest.raises(CannotUnderstand, match="breaks off"):
        read(encoded, EXPLICIT)


PIECES = st.sampled_from(
    [
        element(0x0008, 0x0005, "CS", b"ISO_IR 192"),
        element(0x0008, 0x0018, "UI", b"1.2.3"),
        element(0x0010, 0x0020, "LO", b"PAT1"),
        element(0x0020, 0x0011, "IS", b"3"),
        element(0x0009, 0x1001, "OB", bytes(40)),
        struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFF_FFFF),
        struct.pack("<HH2s2xI", 0x0009, 0x1001, b"UN", 0xFFFF_FFFF),
        struct.pack("<HH2s2xI", 0x0040, 0xA043, b"SQ", 0xFFFF_FFFF),
        struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFF_FFFF),
        struct.pack("<HHI", 0xFFFE, 0xE000, 12),
        struct.pack("<HHI", 0xFFFE, 0xE00D, 0),
        struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
        struct.pack("<HHI", 0x0010, 0x0020, 4),
        element(0x0008, 0x0100, "SH", b"113701"),
        element(0x0008, 0x0102, "SH", b"DCM"),
    ]
)
ANYTHING = st.lists(st.one_of(PIECES, st.binary(max_size=24)), max_size=14).map(b"".join)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(encoded=ANYTHING, transfer_syntax=st.sampled_from(ENCODINGS), with_title=st.booleans())
def test_any_bytes_give_values_or_cannot_understand_and_nothing_else(
    encoded: bytes, transfer_syntax: str, with_title: bool
) -> None:
    found = outcome(encoded, transfer_syntax, with_title=with_title)
    if isinstance(found, dict):
        assert found.keys() <= set(WANTED + TITLE)
        assert all(len(value) <= header.MAX_VALUE for value in found.values())


@given(encoded=ANYTHING, transfer_syntax=st.sampled_from(ENCODINGS), with_title=st.booleans(), sizes=SIZES)
def test_any_chunking_gives_the_same(encoded: bytes, transfer_syntax: str, with_title: bool, sizes: list[int]) -> None:
    # Intact deflated streams only: what a corrupt one still gives in front of its error depends on the pieces.
    if transfer_syntax == DEFLATED:
        encoded = deflate(encoded)
    whole = outcome(encoded, transfer_syntax, with_title=with_title)
    assert outcome(encoded, transfer_syntax, with_title=with_title, pieces=iter(sizes * len(encoded))) == whole


@given(encoded=ANYTHING)
def test_a_deflated_data_set_gives_what_its_content_gives(encoded: bytes) -> None:
    assert outcome(deflate(encoded), DEFLATED) == outcome(encoded, EXPLICIT)


RUBBISH = {"all ones": b"\xff" * 100, "counting": bytes(range(256)) * 10, "text": b"Dear Sir or Madam, " * 20}


@pytest.mark.parametrize("encoded", RUBBISH.values(), ids=RUBBISH)
@pytest.mark.parametrize("syntax", [EXPLICIT, uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN])
def test_rubbish_is_no_data_set_that_lacks_everything(encoded: bytes, syntax: str) -> None:
    reader = HeaderReader(syntax)
    with pytest.raises(CannotUnderstand):
        reader.receive(memoryview(encoded))
        reader.end()
        reader.check_size(len(encoded))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG])
@pytest.mark.parametrize("size", [8, 16, 1000])
def test_zeros_are_no_data_set_of_empty_elements(syntax: str, size: int) -> None:
    with pytest.raises(CannotUnderstand):
        read(bytes(size), syntax)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_an_element_of_a_command_set_is_no_part_of_a_data_set(syntax: str) -> None:
    """PS3.5 7.1."""
    ds = Dataset()
    ds.SOPInstanceUID = "1.2.3"
    of_command = element(0x0000, 0x0900, "US", b"\0\0") if syntax == EXPLICIT else struct.pack("<HHIH", 0, 0x900, 2, 0)
    with pytest.raises(CannotUnderstand, match=r"\(0000,0900\) belongs to a command set"):
        read(encode(ds, syntax) + of_command, syntax)


@pytest.mark.parametrize("syntax", [EXPLICIT, uids.EXPLICIT_VR_BIG_ENDIAN])
def test_the_other_byte_order_than_was_agreed_is_read(syntax: str) -> None:
    ds = pydicom.Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID = "1.2", "1.2.3", "PAT7"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "S", 4, 5
    other = io.BytesIO()
    pydicom.dcmwrite(other, ds, implicit_vr=False, little_endian=syntax != EXPLICIT)
    assert read(other.getvalue(), syntax, with_title=False)[header.PATIENT_ID] == b"PAT7"
