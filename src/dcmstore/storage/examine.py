"""file -> what a store would see of it, root -> whether its disk is away: for looking at what lies on disk."""

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass

from dcmstore import uids
from dcmstore.errors import CannotUnderstand
from dcmstore.storage import filing, header, names, part10
from dcmstore.storage.filing import Destination, FilingPolicy
from dcmstore.storage.header import HeaderReader

_STEP = 64 * 1024  # bytes read at a time; most headers end within the first


class NoInstance(CannotUnderstand):
    """Something that nobody means to store: a DICOMDIR, a pipe, a device."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A DICOM file: its identity, where its data set starts, and the raw header values by tag."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    source_ae_title: str
    start: int
    values: dict[int, bytes]

    def destination(self, policy: FilingPolicy) -> Destination:
        """Where this instance belongs."""
        return filing.destination(self.sop_class_uid, self.sop_instance_uid, self.values, policy)


def examine(path: str | os.PathLike[str]) -> Examined:
    """Read the head of a DICOM file, with or without File Meta Information.

    Its identity is that of the data set, else that of the File Meta Information. Raises CannotUnderstand for what
    is no storable DICOM file, OSError for what can't be read.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise NoInstance("not a regular file")  # a pipe would never answer
    with open(path, "rb") as file:
        meta = part10.read_if_any(file)
        start = file.tell()
        # Without File Meta Information it may be a structured report.
        with_title = filing.is_structured_report(meta.media_storage_sop_class_uid) or meta == part10.NO_META
        reader = HeaderReader(meta.transfer_syntax_uid, with_title=with_title)
        while not reader.is_complete and (piece := file.read(_STEP)):
            reader.receive(memoryview(piece))
        reader.end()
        reader.check_size(os.fstat(file.fileno()).st_size - start)
    sop_class_uid = reader.text_of(header.SOP_CLASS_UID) or meta.media_storage_sop_class_uid
    sop_instance_uid = reader.text_of(header.SOP_INSTANCE_UID) or meta.media_storage_sop_instance_uid
    if not sop_class_uid or not uids.is_uid(sop_instance_uid):
        raise CannotUnderstand("no SOP Class UID and SOP Instance UID in it")
    if sop_class_uid == uids.MEDIA_STORAGE_DIRECTORY:
        raise NoInstance("a DICOMDIR, which is no object to store")
    transfer_syntax = meta.transfer_syntax_uid or reader.found_transfer_syntax
    return Examined(sop_class_uid, sop_instance_uid, transfer_syntax, meta.source_ae_title, start, reader.values)


def is_away(root: str, without: Collection[str] = ()) -> bool:
    """Whether a root folder is missing or has no file, as one whose disk is not mounted: then nothing of it is gone.

    `without` are folders in it that are root folders themselves. A receiver makes its own folders in a mount point.
    """
    for parent, below, file_names in os.walk(root):
        ours = names.OUR_FOLDERS if parent == root else ()
        below[:] = [name for name in below if name not in ours and os.path.join(parent, name) not in without]
        if file_names:
            return False
    return True
