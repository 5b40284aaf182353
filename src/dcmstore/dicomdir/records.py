"""a file's head -> directory records: those of its patient, study and series, and its own."""

from __future__ import annotations

import io
import uuid
import zlib
from dataclasses import replace

from dcmstore import uids
from dcmstore.dicomdir.data_sets import encode, fill, guarded, pydicom, text
from dcmstore.dicomdir.directory import Record, key_of
from dcmstore.dicomdir.kinds import NO_PATIENT, UPPER, kind_of
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import part10
from dcmstore.storage.header import DEFLATED
from dcmstore.storage.part10 import FileMeta

# A UUID-derived UID (PS3.5 B.2): the Private Record UID of objects for which PS3.3 annex F has no record
PRIVATE_RECORD_UID = "2.25.15009012013705011622859577403457586699"

MAX_IN_MEMORY = 64 * 1024  # bytes of one element; longer ones are read only if a record needs them
MAX_INFLATED = 64 * 1024 * 1024  # bytes of a deflated data set; a few kB could otherwise become many GB
LAST_KEY = 0x30100034  # User Content Long Label: no record has a key behind it, and pixels and waveforms are

# Same keys as a record that pydicom knows (PS3.3 F.5)
_SAME_KEYS = {"ANNOTATION": "FIDUCIAL", "WF PRESENTATION": "PRESENTATION"}

# What stands in a record where the object lacks a key of type 1: unmistakable rather than plausible.
_NO_DATE, _NO_TIME = "19000101", "000000"
_SUBSTITUTES = {
    "StudyDate": _NO_DATE,
    "StudyTime": _NO_TIME,
    "StudyID": "NO_STUDY_ID",
    "Modality": "OT",
    "SeriesNumber": "0",
    "InstanceNumber": "0",
    "ContentDate": _NO_DATE,
    "ContentTime": _NO_TIME,
    "ContentLabel": "NO_LABEL",
    "CompletionFlag": "PARTIAL",
    "VerificationFlag": "UNVERIFIED",
    "PresentationCreationDate": _NO_DATE,
    "PresentationCreationTime": _NO_TIME,
    "InstanceCreationDate": _NO_DATE,
    "StructureSetLabel": "NO_LABEL",
    "RTPlanLabel": "NO_LABEL",
}
_MAY_BE_EMPTY = {"ENCAP DOC": ("ContentDate", "ContentTime")}  # type 2 there


@guarded()
def read(path: str, file_id: str) -> list[Record]:
    """The records of a file from its patient down. Raises OSError, and CannotUnderstand for what can't be listed."""
    meta, head = _read_head(path)
    kind = kind_of(meta.media_storage_sop_class_uid)
    if kind == NO_PATIENT:
        raise CannotUnderstand("an object of its SOP class belongs to no patient")
    _complete(head, kind)
    upper = [
        _record(level, key_of(head[keyword].value), pydicom.fileset.DIRECTORY_RECORDERS[level](head), head)
        for level, keyword in UPPER.items()
    ]
    try:
        return [*upper, _leaf(kind, file_id, meta, head)]
    except CannotUnderstand:  # a key of type 1 is missing for which nothing can stand in: a dose without its type
        return [*upper, _leaf("PRIVATE", file_id, meta, head)]


def _read_head(path: str) -> tuple[FileMeta, pydicom.Dataset]:
    """The File Meta Information of a file, and its data set up to what records are made of."""
    with open(path, "rb") as file:
        meta = part10.read(file)
        if not meta.media_storage_sop_class_uid or not meta.media_storage_sop_instance_uid:
            raise CannotUnderstand("no SOP Class UID and SOP Instance UID in its File Meta Information")
        if meta.transfer_syntax_uid not in DEFLATED:
            file.seek(0)
            return meta, pydicom.filereader.read_partial(file, lambda tag, vr, length: tag > LAST_KEY, MAX_IN_MEMORY)
        inflated, inflater = bytearray(), zlib.decompressobj(-zlib.MAX_WBITS)
        while len(inflated) < MAX_INFLATED and (piece := file.read(MAX_IN_MEMORY)):
            inflated += inflater.decompress(piece, MAX_INFLATED - len(inflated))
    plain = part10.encode(replace(meta, transfer_syntax_uid=uids.EXPLICIT_VR_LITTLE_ENDIAN))
    return meta, pydicom.filereader.read_partial(io.BytesIO(plain + inflated), lambda tag, vr, length: tag > LAST_KEY)


def _complete(head: pydicom.Dataset, kind: str) -> None:
    """Put substitutes where keys of type 1 are missing, and reduce content to what a record may have of it."""
    name = text(head, "PatientName")
    suffix = f"~{uuid.uuid5(uuid.NAMESPACE_OID, name).hex[:8]}" if name else ""
    fill(head, "PatientID", "NO_PATIENT_ID" + suffix)
    for keyword, substitute in _SUBSTITUTES.items():
        if keyword not in _MAY_BE_EMPTY.get(kind, ()):
            fill(head, keyword, substitute)
    study = (head.PatientID, head.StudyID, head.StudyDate)
    fill(head, "StudyInstanceUID", _uid_of(*study))
    fill(head, "SeriesInstanceUID", _uid_of(*study, head.Modality, head.SeriesNumber))
    if kind in ("SR DOCUMENT", "KEY OBJECT DOC"):
        _reduce_content(head)


def _uid_of(*known: object) -> str:
    """A UID that is the same each time for what is known of a study or series."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, repr([*map(str, known)])).int}"


def _reduce_content(head: pydicom.Dataset) -> None:
    """Of a report, a record has only what modifies its title, and when it was verified (PS3.3 F.5.22 and F.5.23)."""
    content = head.get("ContentSequence") or ()
    modifiers = [item for item in content if item.get("RelationshipType") == "HAS CONCEPT MOD"]
    head.pop("ContentSequence", None)
    if modifiers:
        head.ContentSequence = modifiers
    observers = head.get("VerifyingObserverSequence") or ()
    verified = max((str(item.get("VerificationDateTime") or "") for item in observers), default="")
    if verified and head.VerificationFlag == "VERIFIED":
        head.VerificationDateTime = verified


@guarded()
def _leaf(kind: str, file_id: str, meta: FileMeta, head: pydicom.Dataset) -> Record:
    if kind == "PRIVATE":
        record = pydicom.Dataset()
        record.PrivateRecordUID = PRIVATE_RECORD_UID
    else:
        record = pydicom.fileset.DIRECTORY_RECORDERS[_SAME_KEYS.get(kind, kind)](head)
    record.ReferencedFileID = file_id.split("\\")
    record.ReferencedSOPClassUIDInFile = meta.media_storage_sop_class_uid
    record.ReferencedSOPInstanceUIDInFile = meta.media_storage_sop_instance_uid
    record.ReferencedTransferSyntaxUIDInFile = meta.transfer_syntax_uid
    return _record(kind, file_id, record, head)


def _record(kind: str, key: str, record: pydicom.Dataset, head: pydicom.Dataset) -> Record:
    record.DirectoryRecordType = kind
    if "SpecificCharacterSet" in head:
        record.SpecificCharacterSet = head.SpecificCharacterSet
    return Record(kind, key, encode(record))
