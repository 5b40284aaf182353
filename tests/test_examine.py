"""Looking at files on disk: what a store would see of them, and where it would put them."""

import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcmstore import uids
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import header, part10
from dcmstore.storage.examine import examine
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.part10 import FileMeta
from dcmstore.storage.store import Instance, Store
from dcmstore.uids import is_uid
from tests.support import CT, ENHANCED_SR, XRAY_DOSE_SR, data_set, element

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
TITLE = element(0x0008, 0x0100, "SH", b"113701") + element(0x0008, 0x0102, "SH", b"DCM")
TITLED = data_set(sop_class=ENHANCED_SR)[:-16] + element(
    0x0040, 0xA043, "SQ", b"\xfe\xff\x00\xe0" + len(TITLE).to_bytes(4, "little") + TITLE
)


def instances() -> list[Path]:
    """The files of pydicom that have a meta header and are instances, not directories."""
    found = []
    for path in sorted(TEST_FILES.rglob("*")):
        if path.is_file() and path.read_bytes()[128:132] == b"DICM":
            with warnings.catch_warnings(action="ignore"):
                ds = pydicom.dcmread(path, stop_before_pixels=True)
            if ds.get("SOPClassUID") and is_uid(str(ds.get("SOPInstanceUID", ""))):
                found.append(path)
    return found


def written(folder: Path, encoded: bytes, sop_class: str = CT) -> Path:
    path = folder / "file.dcm"
    path.write_bytes(part10.encode(FileMeta(sop_class, "1.2.3.4", uids.EXPLICIT_VR_LITTLE_ENDIAN)) + encoded)
    return path


@pytest.mark.parametrize("path", instances(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_has_the_identity_that_pydicom_reads(path: Path) -> None:
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    seen = examine(path)
    assert (seen.sop_class_uid, seen.sop_instance_uid) == (ds.SOPClassUID, ds.SOPInstanceUID)
    assert seen.transfer_syntax == ds.file_meta.get("TransferSyntaxUID", "")


@pytest.mark.parametrize("encoded, sop_class", [(data_set(), CT), (data_set(sop_class=XRAY_DOSE_SR), XRAY_DOSE_SR)])
@pytest.mark.parametrize("policy", [FilingPolicy(), FilingPolicy(folder_tree=False), FilingPolicy(rdsr_tree=True)])
def test_a_stored_file_belongs_where_it_was_stored(
    tmp_path: Path, encoded: bytes, sop_class: str, policy: FilingPolicy
) -> None:
    store = Store({root: str(tmp_path) for root in Root}, policy, durable=False)
    store.open()
    incoming = store.begin(Instance(sop_class, "1.2.3.4", uids.EXPLICIT_VR_LITTLE_ENDIAN, "CT1"))
    incoming.receive(memoryview(encoded))
    stored = incoming.finish()
    found = examine(tmp_path.joinpath(*stored.folders, stored.file_name)).destination(policy)
    assert (found.root, found.folders, found.file_name) == (stored.root, stored.folders, stored.file_name)
    store.close()


def test_a_dose_report_is_known_by_its_title(tmp_path: Path) -> None:
    assert examine(written(tmp_path, TITLED, ENHANCED_SR)).destination(FilingPolicy()).root is Root.DOSE_REPORTS


def test_the_raw_values_of_the_header_are_there(tmp_path: Path) -> None:
    assert examine(written(tmp_path, data_set(patient_id=b"PAT 7"))).values[header.PATIENT_ID] == b"PAT 7 "


def test_a_header_over_many_steps_is_read(tmp_path: Path) -> None:
    encoded = data_set()
    start = encoded.index(b"\x10\x00\x10\x00")
    encoded = encoded[:start] + element(0x0009, 0x1001, "OB", bytes(300_000)) + encoded[start:]
    assert examine(written(tmp_path, encoded)).values[header.PATIENT_ID] == b"PAT1"


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "rtplan.dcm", "MR_small_bigendian.dcm"])
def test_a_file_without_file_meta_information_is_read(tmp_path: Path, name: str) -> None:
    ds = pydicom.dcmread(TEST_FILES / name)
    whole = (TEST_FILES / name).read_bytes()
    (tmp_path / name).write_bytes(whole[144 + ds.file_meta.FileMetaInformationGroupLength :])
    seen = examine(tmp_path / name)
    assert (seen.sop_class_uid, seen.sop_instance_uid) == (ds.SOPClassUID, ds.SOPInstanceUID)
    assert seen.transfer_syntax == ds.file_meta.TransferSyntaxUID  # found in the data set itself
    assert seen.start == 0


def test_a_directory_of_a_medium_is_no_instance() -> None:
    with pytest.raises(CannotUnderstand, match="a DICOMDIR"):
        examine(TEST_FILES / "dicomdirtests" / "DICOMDIR")


@pytest.mark.parametrize("content", [b"", b"x", b"Dear Sir or Madam, " * 50, bytes(128) + b"DICM", bytes(1000)])
def test_what_is_no_instance_cannot_be_understood(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CannotUnderstand):
        examine(tmp_path / "file")


def test_an_instance_uid_that_is_none_cannot_be_understood(tmp_path: Path) -> None:
    with pytest.raises(CannotUnderstand, match="no SOP Class UID and SOP Instance UID"):
        examine(written(tmp_path, data_set("../../etc")))


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        examine(tmp_path / "missing")


def test_a_file_that_breaks_off_never_has_a_wrong_identity(tmp_path: Path) -> None:
    path = written(tmp_path, data_set())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            seen = examine(path)
        except CannotUnderstand:
            continue
        assert (seen.sop_class_uid, seen.sop_instance_uid) == (CT, "1.2.3.4")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=300), st.binary(max_size=100).map(lambda end: bytes(128) + b"DICM" + end)))
def test_any_file_is_examined_or_cannot_be_understood(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    try:
        assert is_uid(examine(tmp_path / "file").sop_instance_uid)
    except CannotUnderstand as error:
        assert str(error)
