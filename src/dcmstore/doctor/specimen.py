"""a moment -> a small Secondary Capture Image that nobody can mistake for a patient's (PS3.3 A.8.1)."""

import secrets
import struct
import time
import uuid
from dataclasses import dataclass

from dcmstore import uids
from dcmstore.storage import filing, header
from dcmstore.storage.filing import Destination, FilingPolicy
from dcmstore.storage.header import HeaderReader

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture Image Storage
TRANSFER_SYNTAXES = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)
PATIENT_ID, PATIENT_NAME = "DCMSTORE-DOCTOR-", "DCMSTORE^DOCTOR-"  # how they begin, and the folder of each specimen

_SIDE = 64  # pixels
_LONG_VRS = ("OB", "OW")  # those in use here that have a 32-bit length in Explicit VR (PS3.5 7.1.2)


@dataclass(frozen=True, slots=True)
class Specimen:
    """One object. Its patient is new, so that no folder that it is filed in has anything else in it."""

    sop_instance_uid: str
    patient_id: str
    patient_name: str
    study_instance_uid: str
    series_instance_uid: str
    made: time.struct_time

    def data_set(self, transfer_syntax: str) -> bytes:
        """The object in one of TRANSFER_SYNTAXES."""
        is_explicit = transfer_syntax == uids.EXPLICIT_VR_LITTLE_ENDIAN
        return b"".join(_element(tag, vr, value, is_explicit=is_explicit) for tag, vr, value in self._elements())

    def destination(self, policy: FilingPolicy) -> Destination:
        """Where a receiver under this policy files it."""
        reader = HeaderReader(uids.EXPLICIT_VR_LITTLE_ENDIAN)
        reader.receive(memoryview(self.data_set(uids.EXPLICIT_VR_LITTLE_ENDIAN)))
        reader.end()
        return filing.destination(SOP_CLASS, self.sop_instance_uid, reader.values, policy)

    def _elements(self) -> list[tuple[int, str, str | int | bytes]]:
        """All that the IOD asks for, in the order of their tags."""
        return [
            (0x0008_0008, "CS", "DERIVED\\SECONDARY"),  # Image Type
            (header.SOP_CLASS_UID, "UI", SOP_CLASS),
            (header.SOP_INSTANCE_UID, "UI", self.sop_instance_uid),
            (0x0008_0020, "DA", time.strftime("%Y%m%d", self.made)),  # Study Date
            (0x0008_0030, "TM", time.strftime("%H%M%S", self.made)),  # Study Time
            (0x0008_0050, "SH", ""),  # Accession Number
            (header.MODALITY, "CS", "OT"),
            (0x0008_0064, "CS", "SYN"),  # Conversion Type: synthetic image
            (0x0008_0090, "PN", ""),  # Referring Physician's Name
            (0x0008_1030, "LO", "Test object of dcmstore doctor"),  # Study Description
            (header.PATIENT_NAME, "PN", self.patient_name),
            (header.PATIENT_ID, "LO", self.patient_id),
            (0x0010_0030, "DA", ""),  # Patient's Birth Date
            (0x0010_0040, "CS", ""),  # Patient's Sex
            (0x0020_000D, "UI", self.study_instance_uid),
            (0x0020_000E, "UI", self.series_instance_uid),
            (header.STUDY_ID, "SH", "DOCTOR"),
            (header.SERIES_NUMBER, "IS", "1"),
            (header.INSTANCE_NUMBER, "IS", "1"),
            (0x0020_0020, "CS", ""),  # Patient Orientation
            (0x0020_0060, "CS", ""),  # Laterality
            (0x0028_0002, "US", 1),  # Samples per Pixel
            (0x0028_0004, "CS", "MONOCHROME2"),  # Photometric Interpretation
            (0x0028_0010, "US", _SIDE),  # Rows
            (0x0028_0011, "US", _SIDE),  # Columns
            (0x0028_0100, "US", 8),  # Bits Allocated
            (0x0028_0101, "US", 8),  # Bits Stored
            (0x0028_0102, "US", 7),  # High Bit
            (0x0028_0103, "US", 0),  # Pixel Representation
            (0x7FE0_0010, "OW", bytes(2 * (row + column) for row in range(_SIDE) for column in range(_SIDE))),
        ]


def specimen() -> Specimen:
    token = secrets.token_hex(4).upper()
    return Specimen(_uid(), PATIENT_ID + token, PATIENT_NAME + token, _uid(), _uid(), time.localtime())


def _uid() -> str:
    """A new UID that is derived from a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def _element(tag: int, vr: str, value: str | int | bytes, *, is_explicit: bool) -> bytes:
    """One element (PS3.5 7.1), padded to even length: UI with NUL, other text with a space."""
    if isinstance(value, int):
        raw = struct.pack("<H", value)
    else:
        raw = value.encode("ascii") if isinstance(value, str) else value
        raw += (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)
    group, number = tag >> 16, tag & 0xFFFF
    if not is_explicit:
        return struct.pack("<HHI", group, number, len(raw)) + raw
    if vr in _LONG_VRS:
        return struct.pack("<HH2s2xI", group, number, vr.encode(), len(raw)) + raw
    return struct.pack("<HH2sH", group, number, vr.encode(), len(raw)) + raw
