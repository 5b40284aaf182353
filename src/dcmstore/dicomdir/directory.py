"""bytes <-> directory: the records of a DICOMDIR as a tree, and as entities that offsets link (PS3.3 F.2)."""

from __future__ import annotations

import io
import itertools
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from dcmstore import uids
from dcmstore.dicomdir.data_sets import encode, guarded, pydicom
from dcmstore.dicomdir.kinds import KINDS, UPPER
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta

# The first elements of a record, which alone change when others come and go: item tag and length, then
# (0004,1400) next, (0004,1410) in use, (0004,1420) lower. Explicit VR Little Endian (PS3.10 8.6).
_RECORD_HEAD = struct.Struct("<HHI HH2sHI HH2sHH HH2sHI")
# (0004,1200) first, (0004,1202) last, (0004,1212) consistency, (0004,1220) sequence of records
_ROOT_HEAD = struct.Struct("<HH2sHI HH2sHI HH2sHH HH2s2xI")
_OFFSETS = (0x00041400, 0x00041410, 0x00041420, 0x00041504)  # the last one is retired
_IDENTIFICATION = (0x00041130, 0x00041141, 0x00041142)  # PS3.3 table F.3-2
_NO_FILE_SET_ID = struct.pack("<HH2sH", 4, 0x1130, b"CS", 0)  # (0004,1130), type 2


@dataclass(slots=True, eq=False)
class Record:
    """A directory record: its encoded elements from Directory Record Type on, and the records below it by key."""

    kind: str
    key: str
    body: bytes
    lower: dict[str, Record] = field(default_factory=dict)
    offset: int = 0
    next: int = 0

    def encode(self) -> bytes:
        lower = next(iter(self.lower.values())).offset if self.lower else 0
        length = _RECORD_HEAD.size - 8 + len(self.body)  # an item's length leaves out its tag and length
        links = (4, 0x1400, b"UL", 4, self.next, 4, 0x1410, b"US", 2, 0xFFFF, 4, 0x1420, b"UL", 4, lower)
        return _RECORD_HEAD.pack(0xFFFE, 0xE000, length, *links) + self.body

    def below(self) -> Iterator[Record]:
        for record in self.lower.values():
            yield record
            yield from record.below()


class Directory:
    """The content of a DICOMDIR. `places` has each listed File ID with the records above it, from the root down."""

    def __init__(self, uid: str, identification: bytes) -> None:
        self.root = Record("", "", b"")
        self.places: dict[str, list[Record]] = {}
        self._uid = uid
        self._identification = identification

    def add(self, file_id: str, records: list[Record]) -> None:
        """Put a file's record (the last one) below those of its series, study and patient, which may be there."""
        if [above.key for above in self.places.get(file_id, [])[1:]] != [record.key for record in records[:-1]]:
            self.remove(file_id)
        above = [self.root]
        for record in records[:-1]:
            above.append(above[-1].lower.setdefault(record.key, record))
        above[-1].lower[file_id] = records[-1]
        self.places[file_id] = above

    def remove(self, file_id: str) -> None:
        """Take a file out, and what is empty without it; harmless when it is not listed."""
        above = self.places.pop(file_id, [])
        key = file_id
        for record in reversed(above):
            del record.lower[key]
            if record.lower:
                break
            key = record.key

    def encode(self) -> bytes:
        meta = FileMeta(uids.MEDIA_STORAGE_DIRECTORY, self._uid, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        start = part10.encode(meta) + self._identification
        records = list(self.root.below())
        offset = first = len(start) + _ROOT_HEAD.size
        for record in records:
            record.offset, record.next = offset, 0
            offset += _RECORD_HEAD.size + len(record.body)
        for upper in (self.root, *records):
            for record, following in itertools.pairwise(upper.lower.values()):
                record.next = following.offset
        last = next(reversed(self.root.lower.values())).offset if records else 0
        entity = (4, 0x1200, b"UL", 4, first if records else 0, 4, 0x1202, b"UL", 4, last)
        head = _ROOT_HEAD.pack(*entity, 4, 0x1212, b"US", 2, 0, 4, 0x1220, b"SQ", offset - first)
        return b"".join((start, head, *(record.encode() for record in records)))


def new_directory() -> Directory:
    """An empty directory of a file-set that has a UID of its own, and no name."""
    return Directory(f"2.25.{uuid.uuid4().int}", _NO_FILE_SET_ID)


@guarded()
def decode(raw: bytes) -> Directory:
    """Follow the offsets of a DICOMDIR, whoever wrote it. Raises CannotUnderstand for what is none."""
    data_set = pydicom.dcmread(io.BytesIO(raw))
    meta = data_set.file_meta
    if meta.MediaStorageSOPClassUID != uids.MEDIA_STORAGE_DIRECTORY:
        raise ValueError(f"Media Storage SOP Class UID is {meta.MediaStorageSOPClassUID}")
    sequence = data_set.get_item("DirectoryRecordSequence")
    if isinstance(sequence, pydicom.dataelem.RawDataElement) and sequence.length != len(sequence.value or b""):
        raise ValueError("the file ends in the middle of a record")
    identification = pydicom.Dataset()
    for tag in _IDENTIFICATION:
        if tag in data_set:
            identification.add(data_set[tag])
    directory = Directory(str(meta.MediaStorageSOPInstanceUID), encode(identification))
    items = {item.seq_item_tell: item for item in data_set.DirectoryRecordSequence or ()}

    def follow(offset: int | None, above: list[Record]) -> None:
        while offset:
            item = items.pop(offset)  # an offset that leads nowhere, or twice to the same record, is a KeyError
            lower = item.get("OffsetOfReferencedLowerLevelDirectoryEntity")
            following = item.get("OffsetOfTheNextDirectoryRecord")
            record = _decode_record(item, offset)
            if item.get("RecordInUseFlag") != 0:
                above[-1].lower[record.key] = record
                if record.kind not in UPPER and "ReferencedFileID" in item:
                    directory.places[record.key] = above
                follow(lower, [*above, record])
            offset = following

    follow(data_set.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity, [directory.root])
    return directory


def _decode_record(item: pydicom.Dataset, offset: int) -> Record:
    kind = item.DirectoryRecordType
    if not kind or (kind not in pydicom.fileset.DIRECTORY_RECORDERS and kind not in KINDS.values()):
        raise ValueError(f"{kind!r} is no type of record")
    file_id = item.get("ReferencedFileID")
    if kind in UPPER:
        key = key_of(item[UPPER[kind]].value)
    elif file_id:
        key = file_id if isinstance(file_id, str) else "\\".join(file_id)
    elif kind == "PRIVATE":
        key = str(offset)
    else:
        raise ValueError(f"the {kind} record at {offset} refers to no file")
    for tag in _OFFSETS:
        item.pop(tag, None)
    return Record(kind, key, encode(item))


def key_of(value: object) -> str:
    """What tells two patients, studies or series apart; the same before and after it was written."""
    return str(value).replace("\ufffd", "?")  # characters that can't be decoded are written as question marks
