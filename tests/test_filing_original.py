"""The keys of releases 1.3 and 1.4: SRsub, image-name-index, dicomdir."""

from pathlib import Path

import pytest

from dcmstore.settings import Settings
from dcmstore.storage import filing, header
from dcmstore.storage.filing import FilingPolicy, Root
from tests.support import CT, ENHANCED_SR, XRAY_DOSE_SR, Peer, data_set, element, running, stored_data_set

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
VALUES = {header.PATIENT_ID: b"P", header.STUDY_ID: b"S", header.SERIES_NUMBER: b"9"}
DOSE_TITLE = {header.CODE_VALUE: b"113701", header.CODING_SCHEME_DESIGNATOR: b"DCM"}
REPORTS = [XRAY_DOSE_SR, ENHANCED_SR, COMPREHENSIVE_SR]


@pytest.mark.parametrize("sop_class", REPORTS)
def test_srsub_0_puts_every_report_flat_into_its_root(sop_class: str) -> None:
    found = filing.destination(sop_class, "1.2", VALUES, FilingPolicy(sr_sub=False))
    assert (found.root, found.folders, found.file_name) == (Root.DOSE_REPORTS, (), "1.2.dcm")


@pytest.mark.parametrize("sop_class", REPORTS)
@pytest.mark.parametrize("title", [{}, DOSE_TITLE], ids=["no title", "dose title"])
def test_srsub_1_puts_every_report_into_the_folder_of_its_series(sop_class: str, title: dict[int, bytes]) -> None:
    found = filing.destination(sop_class, "1.2", VALUES | title, FilingPolicy(sr_sub=True))
    assert (found.root, found.folders) == (Root.IMAGES, ("P", "S", "9"))


@pytest.mark.parametrize("sr_sub", [False, True])
def test_with_srsub_no_title_needs_to_be_read(sr_sub: bool) -> None:
    assert not filing.needs_title(ENHANCED_SR, FilingPolicy(sr_sub=sr_sub))


@pytest.mark.parametrize("sr_sub", [False, True, None])
def test_srsub_does_not_concern_images(sr_sub: bool | None) -> None:
    assert filing.destination(CT, "1.2", VALUES, FilingPolicy(sr_sub=sr_sub)).root is Root.IMAGES


def numbered_data_set(uid: str, number: bytes, *, pixels: bytes = b"1234", study_id: bytes = b"7") -> bytes:
    encoded = data_set(uid, pixels=pixels, study_id=study_id)
    at = encoded.index(b"\xe0\x7f\x10\x00")
    encoded = encoded[:at] + element(0x0020, 0x0013, "IS", number) + encoded[at:]
    at = encoded.index(b"\x10\x00\x10\x00PN")
    return encoded[:at] + element(0x0008, 0x0060, "CS", b"CT") + encoded[at:]


def names_of(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())


def test_files_are_named_by_number_and_none_overwrites_another(tmp_path: Path) -> None:
    with running(tmp_path, Settings(image_name_index=True)) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        for uid, number in (("1.1", b"1"), ("1.2", b"2"), ("1.3", b"2"), ("1.4", b"2")):
            assert peer.store(numbered_data_set(uid, number), uid).status == 0
        folder = receiver.images / "PAT1/7/3"
        assert sorted(path.name for path in folder.iterdir()) == ["CT_00001", "CT_00002", "CT_2_2", "CT_2_3"]
        assert stored_data_set(folder / "CT_2_2") == numbered_data_set("1.3", b"2")


def test_a_resend_is_found_under_its_number(tmp_path: Path) -> None:
    with running(tmp_path, Settings(image_name_index=True)) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        for uid in ("1.1", "1.2", "1.1", "1.2", "1.2"):
            assert peer.store(numbered_data_set(uid, b"5"), uid).status == 0
        assert [path.name for path in receiver.files()] == ["CT_00005", "CT_5_2"]


def test_replace_replaces_the_same_instance_only(tmp_path: Path) -> None:
    settings = Settings(image_name_index=True, duplicates="replace")
    with running(tmp_path, settings) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        for uid, pixels in (("1.1", b"old!"), ("1.2", b"old!"), ("1.2", b"new!")):
            assert peer.store(numbered_data_set(uid, b"5", pixels=pixels), uid).status == 0
        first, second = receiver.files()
        assert stored_data_set(first) == numbered_data_set("1.1", b"5", pixels=b"old!")
        assert stored_data_set(second) == numbered_data_set("1.2", b"5", pixels=b"new!")


def test_dicomdir_gives_folders_names_for_a_medium_below_the_patients(tmp_path: Path) -> None:
    policy = FilingPolicy(image_name_index=True, media_names=True)
    values = VALUES | {header.PATIENT_ID: b"a long patient id", header.STUDY_ID: b"study 12345", header.MODALITY: b"CT"}
    found = filing.destination(CT, "1.2", values | {header.INSTANCE_NUMBER: b"4"}, policy)
    assert found.folders[0] == "a long patient id"
    assert found.folders[1].startswith("ST_")
    assert (found.folders[2], found.file_name) == ("9", "CT_00004")


def test_without_a_tree_files_keep_their_uids(tmp_path: Path) -> None:
    policy = FilingPolicy(folder_tree=False, image_name_index=True)
    assert filing.destination(CT, "1.2", VALUES, policy).file_name == "1.2.dcm"
