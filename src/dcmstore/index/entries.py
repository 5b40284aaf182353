"""a stored file -> an entry: its identity, its digest, and the attributes that a person searches for."""

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple

from dcmstore import uids
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import files, header, part10, text
from dcmstore.storage.header import HeaderReader

STEP = 256 * 1024  # bytes read and digested at a time: a file of gigabytes takes no more memory
MAX_TEXT = 1024  # characters kept of one value; the longest that the standard allows, a name, is under 200

_STUDY_DATE = 0x0008_0020
_ACCESSION_NUMBER = 0x0008_0050
_STUDY_DESCRIPTION = 0x0008_1030
_SERIES_DESCRIPTION = 0x0008_103E
_PATIENT_BIRTH_DATE = 0x0010_0030
_SERIES_INSTANCE_UID = 0x0020_000E
_NUMBER_OF_STUDY_RELATED_INSTANCES = 0x0020_1208

# fmt: off
_WANTED = frozenset((
    header.SPECIFIC_CHARACTER_SET, header.SOP_CLASS_UID, header.SOP_INSTANCE_UID, _STUDY_DATE, _ACCESSION_NUMBER,
    header.MODALITY, _STUDY_DESCRIPTION, _SERIES_DESCRIPTION, header.PATIENT_NAME, header.PATIENT_ID,
    _PATIENT_BIRTH_DATE, header.STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID, header.STUDY_ID, header.SERIES_NUMBER,
    header.INSTANCE_NUMBER, _NUMBER_OF_STUDY_RELATED_INSTANCES,
))
# fmt: on


@dataclass(frozen=True, slots=True)
class Root:
    """A root folder: as the ini names it, and as the system wants to be asked for it (long paths of Windows).

    `without` are folders below it that are root folders themselves, as the system wants them.
    """

    name: str
    system: str
    without: tuple[str, ...] = ()

    def path_of(self, path: str) -> str:
        """Where a file is whose path below the root has slashes."""
        return os.path.join(self.system, *path.split("/"))


class Study(NamedTuple):
    """The first two fields tell studies apart: some senders give the studies of two patients one UID."""

    study_instance_uid: str
    patient_id: str
    patient_name: str
    birth_date: str
    study_id: str
    study_date: str
    accession_number: str
    study_description: str


class Series(NamedTuple):
    """Within its study, the first field tells it apart."""

    series_instance_uid: str
    modality: str
    series_number: str
    series_description: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored instance. `size` is that of the file; `sha256` is the digest of its data set, in hexadecimal."""

    root: str
    path: str
    size: int
    modified: int  # nanoseconds, as the file system has them
    sha256: str
    transfer_syntax: str
    calling_ae_title: str
    host: str
    stored_at: str  # UTC, as `moment` writes it
    sop_class_uid: str
    sop_instance_uid: str
    instance_number: str
    study: Study
    series: Series
    is_new: bool  # it came now: what the index knows of how it came is replaced
    announced: str  # how many instances its study has, where a sender says so


def moment(seconds: float) -> str:
    """Seconds of the system's clock as ISO 8601 in UTC; such texts are in the order of time."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


@dataclass(frozen=True, slots=True)
class Came:
    """How an instance came, where somebody was there: from whom, and when."""

    calling_ae_title: str
    host: str
    seconds: float
    is_new: bool


def read(root: Root, path: str, came: Came | None = None) -> Entry:
    """Read one file whole. Without `came`, the file says who sent it and when.

    Raises CannotUnderstand for what is no storable DICOM file, OSError for what can't be read.
    """
    whole = root.path_of(path)
    if not stat.S_ISREG(os.stat(whole).st_mode):
        raise CannotUnderstand("not a regular file")  # a pipe would never answer
    with files.open_to_read(whole) as file:
        status = os.fstat(file.fileno())
        meta = part10.read_if_any(file)
        reader = HeaderReader.for_tags(meta.transfer_syntax_uid, _WANTED)
        sha256 = _digest(file, status.st_size, reader)
    values = _Values(reader)
    sop_class_uid = values.plain(header.SOP_CLASS_UID) or meta.media_storage_sop_class_uid
    sop_instance_uid = values.plain(header.SOP_INSTANCE_UID) or meta.media_storage_sop_instance_uid
    if not sop_class_uid or not uids.is_uid(sop_instance_uid):
        raise CannotUnderstand("no SOP Class UID and SOP Instance UID in it")
    if sop_class_uid == uids.MEDIA_STORAGE_DIRECTORY:
        raise CannotUnderstand("a DICOMDIR, which is no object to store")
    came = came or Came(meta.source_ae_title, "", status.st_mtime, is_new=False)
    return Entry(
        root=root.name,
        path=path,
        size=status.st_size,
        modified=status.st_mtime_ns,
        sha256=sha256,
        transfer_syntax=meta.transfer_syntax_uid or reader.found_transfer_syntax,
        calling_ae_title=came.calling_ae_title or meta.source_ae_title,
        host=came.host,
        stored_at=moment(came.seconds),
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        instance_number=values.plain(header.INSTANCE_NUMBER),
        study=Study(
            values.plain(header.STUDY_INSTANCE_UID),
            values.text(header.PATIENT_ID),
            values.text(header.PATIENT_NAME),
            values.plain(_PATIENT_BIRTH_DATE),
            values.text(header.STUDY_ID),
            values.plain(_STUDY_DATE),
            values.text(_ACCESSION_NUMBER),
            values.text(_STUDY_DESCRIPTION),
        ),
        series=Series(
            values.plain(_SERIES_INSTANCE_UID),
            values.plain(header.MODALITY),
            values.plain(header.SERIES_NUMBER),
            values.text(_SERIES_DESCRIPTION),
        ),
        is_new=came.is_new,
        announced=values.plain(_NUMBER_OF_STUDY_RELATED_INSTANCES),
    )


def _digest(file: BinaryIO, size: int, reader: HeaderReader) -> str:
    """The digest of the rest of a file; the reader sees what it needs of it, and is left where it can't go on."""
    digest = hashlib.sha256()
    is_readable = True
    step = min(STEP, size + 1)  # the system makes room for a whole step
    while piece := file.read(step):
        digest.update(piece)
        if is_readable and not reader.is_complete:
            try:
                reader.receive(memoryview(piece))
            except CannotUnderstand:
                is_readable = False
    with contextlib.suppress(CannotUnderstand):
        reader.end()
    return digest.hexdigest()


class _Values:
    """What a header reader met, as text."""

    def __init__(self, reader: HeaderReader) -> None:
        self._values = reader.values
        self._character_set = reader.values.get(header.SPECIFIC_CHARACTER_SET, b"")

    def plain(self, tag: int) -> str:
        """A UID, code, date or number."""
        return self._kept(self._values.get(tag, b"").decode("latin-1"))

    def text(self, tag: int) -> str:
        return self._kept(text.decode(self._values.get(tag, b""), self._character_set))

    def _kept(self, value: str) -> str:
        return value.replace("\0", "").strip()[:MAX_TEXT]  # databases end a text at NUL, or refuse it
