"""File Meta Information: what we write others read, what others write we read, and what breaks off."""

import contextlib
import io
import struct
import subprocess
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dcmstore
from dcmstore import IMPLEMENTATION_CLASS_UID, uids
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta
from tests.support import CT, data_set, element

META = FileMeta(CT, "1.2.3.4", uids.EXPLICIT_VR_LITTLE_ENDIAN, "MODALITY 1")

# A head in hex, an element a line; the value of the group length and what is ours alone are left out.
PREFIX = bytes(128) + bytes.fromhex(
    "4449434d"  # DICM
    "02000000 554c 0400"  # File Meta Information Group Length
)
ELEMENTS = bytes.fromhex(
    "02000100 4f42 0000 02000000 0001"  # File Meta Information Version
    "02000200 5549 1a00"  # Media Storage SOP Class UID: CT Image Storage
    "312e322e3834302e31303030382e352e312e342e312e312e3200"
    "02000300 5549 0800 312e322e332e3400"  # Media Storage SOP Instance UID, padded with NUL
    "02001000 5549 1400"  # Transfer Syntax UID: Explicit VR Little Endian, padded with NUL
    "312e322e3834302e31303030382e312e322e3100"
)


def read(data: bytes) -> tuple[FileMeta, bytes]:
    """The meta information, and what the file then stands at."""
    file = io.BytesIO(data)
    return part10.read(file), file.read()


def test_the_head_is_written_byte_for_byte_as_the_standard_says() -> None:
    head = part10.encode(FileMeta(CT, "1.2.3.4", uids.EXPLICIT_VR_LITTLE_ENDIAN))
    assert head[:140] == PREFIX
    assert head[144 : 144 + len(ELEMENTS)] == ELEMENTS


@pytest.mark.parametrize("ae_title", ["", "A", "CT1 ", "SIXTEEN_LETTERS_"])
def test_the_group_length_counts_what_follows_it(ae_title: str) -> None:
    head = part10.encode(FileMeta(CT, "1.2.3.4", uids.IMPLICIT_VR_LITTLE_ENDIAN, ae_title))
    assert struct.unpack_from("<I", head, 140) == (len(head) - 144,)


@pytest.mark.parametrize("uid", ["1.2.3.4", "1.2.3.45"])
def test_every_element_has_an_even_length(uid: str) -> None:
    assert len(part10.encode(FileMeta(CT, uid, "1.2.840.10008.1.2.4.50", "ODD"))) % 2 == 0


def test_pydicom_reads_all_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(part10.encode(META) + data_set())
    meta = pydicom.dcmread(path).file_meta
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert meta.TransferSyntaxUID == uids.EXPLICIT_VR_LITTLE_ENDIAN
    assert meta.ImplementationClassUID == dcmstore.IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == dcmstore.IMPLEMENTATION_VERSION_NAME
    assert meta.SourceApplicationEntityTitle == "MODALITY 1"
    assert len(meta) == 8


def test_pydicom_finds_the_data_set_behind_the_head(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(part10.encode(META) + data_set())
    assert pydicom.dcmread(path).PatientID == "PAT1"


def test_without_a_calling_ae_title_there_is_no_source_ae_title() -> None:
    meta, _ = read(part10.encode(FileMeta(CT, "1.2.3", uids.IMPLICIT_VR_LITTLE_ENDIAN)))
    assert meta.source_ae_title == ""


@pytest.mark.interop("dcmftest")
def test_dcmftest_takes_the_file_for_a_dicom_file(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(part10.encode(META) + data_set())
    answer = subprocess.run(["dcmftest", str(path)], capture_output=True, text=True, timeout=30)
    assert (answer.returncode, answer.stdout.partition(":")[0]) == (0, "yes")


@pytest.mark.interop("dcmdump")
def test_dcmdump_reads_the_file_without_a_complaint(tmp_path: Path) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(part10.encode(META) + data_set())
    answer = subprocess.run(["dcmdump", "-E", str(path)], capture_output=True, text=True, timeout=30)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "[MODALITY 1]" in answer.stdout


AE_TITLES = st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=16)
UIDS = st.from_regex(r"[0-9]([0-9.]{0,62}[0-9])?", fullmatch=True)


@given(st.builds(FileMeta, UIDS, UIDS, UIDS, AE_TITLES), st.binary(max_size=20))
def test_what_is_encoded_is_read_again_up_to_the_data_set(meta: FileMeta, behind: bytes) -> None:
    encoded = b"\x08\x00\x05\x00CS\x02\x00  " + behind
    assert read(part10.encode(meta) + encoded) == (meta, encoded)


@given(st.text(max_size=20))
def test_any_calling_ae_title_leaves_the_head_readable(ae_title: str) -> None:
    meta, behind = read(part10.encode(FileMeta(CT, "1.2.3", "1.2", ae_title)) + data_set())
    assert (meta.media_storage_sop_instance_uid, meta.transfer_syntax_uid, behind) == ("1.2.3", "1.2", data_set())


def shipped_files() -> list[Path]:
    root = Path(pydicom.__file__).parent / "data" / "test_files"
    return sorted(path for path in root.rglob("*") if path.is_file() and path.read_bytes()[128:132] == b"DICM")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("path", shipped_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_head_of_somebody_elses_file_is_read_as_pydicom_reads_it(path: Path) -> None:
    meta = pydicom.dcmread(path, force=True, stop_before_pixels=True).file_meta
    expected = (
        meta.get("MediaStorageSOPClassUID", ""),
        meta.get("MediaStorageSOPInstanceUID", ""),
        meta.get("TransferSyntaxUID", ""),
        meta.get("SourceApplicationEntityTitle", ""),
    )
    with path.open("rb") as file:
        assert part10.read(file) == FileMeta(*map(str, expected))


def test_a_wrong_group_length_does_not_matter() -> None:
    head = bytearray(part10.encode(META))
    head[140:144] = struct.pack("<I", 4)
    assert read(bytes(head) + data_set()) == (META, data_set())


def test_a_head_without_group_length_is_read() -> None:
    head = part10.encode(META)
    assert read(head[:132] + head[144:] + data_set()) == (META, data_set())


def of_another_writer(head: bytes) -> bytes:
    """The same head, with another Implementation Class UID."""
    return head.replace(IMPLEMENTATION_CLASS_UID.encode(), b"9" * len(IMPLEMENTATION_CLASS_UID))


def test_a_data_set_that_begins_with_a_group_0002_begins_where_our_head_ends() -> None:
    encoded = element(0x0002, 0x0010, "UI", b"1.2.840.10008.1.2") + data_set()
    assert read(part10.encode(META) + encoded) == (META, encoded)


def test_private_information_in_the_head_is_passed_over() -> None:
    private = element(0x0002, 0x0100, "UI", b"1.2.3") + element(0x0002, 0x0102, "OB", bytes(300))
    assert read(of_another_writer(part10.encode(META)) + private + data_set()) == (META, data_set())


def test_a_head_without_any_element_says_nothing() -> None:
    assert read(bytes(128) + b"DICM" + data_set()) == (FileMeta("", "", ""), data_set())


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(128), bytes(128) + b"DIC", bytes(128) + b"dicm", bytes(500)])
def test_what_has_no_dicm_prefix_cannot_be_understood(content: bytes) -> None:
    with pytest.raises(CannotUnderstand, match="no DICM prefix"):
        read(content)


def test_an_endless_head_cannot_be_understood() -> None:
    with pytest.raises(CannotUnderstand, match="longer than 65536 bytes"):
        read(of_another_writer(part10.encode(META)) + element(0x0002, 0x0102, "OB", bytes(1000)) * 70)


def test_an_element_of_undefined_length_in_the_head_cannot_be_understood() -> None:
    with pytest.raises(CannotUnderstand, match=r"\(0002,0102\) is longer than"):
        read(of_another_writer(part10.encode(META)) + struct.pack("<HH2s2xI", 0x0002, 0x0102, b"OB", 0xFFFF_FFFF))


def test_a_head_that_breaks_off_never_gives_a_wrong_value() -> None:
    head = part10.encode(META)
    whole = {META.media_storage_sop_class_uid, META.media_storage_sop_instance_uid, META.transfer_syntax_uid}
    whole |= {META.source_ae_title, ""}
    for length in range(len(head)):
        try:
            meta, _ = read(head[:length])
        except CannotUnderstand:
            continue
        found = {meta.media_storage_sop_class_uid, meta.media_storage_sop_instance_uid}
        assert found | {meta.transfer_syntax_uid, meta.source_ae_title} <= whole


def test_a_head_that_breaks_off_in_an_element_cannot_be_understood() -> None:
    head = part10.encode(META)
    starts = {head.index(struct.pack("<HH", 0x0002, n), 132) for n in (0, 1, 2, 3, 0x10, 0x12, 0x13, 0x16)}
    for length in set(range(132, len(head))) - starts:
        with pytest.raises(CannotUnderstand, match="middle of an element"):
            read(head[:length])


@given(st.binary(max_size=300))
def test_any_bytes_give_meta_information_or_cannot_understand_and_nothing_else(content: bytes) -> None:
    with contextlib.suppress(CannotUnderstand):
        read(bytes(128) + b"DICM" + content)
