"""file -> what a store would see of it: for looking at DICOM files that lie on disk."""

import os
from dataclasses import dataclass

from dcmstore.errors import CannotUnderstand
from dcmstore.storage import filing, header, part10
from dcmstore.storage.filing import Destination, FilingPolicy
from dcmstore.storage.header import HeaderReader

_STEP = 64 * 1024  # bytes read at a time; most headers end within the first


@dataclass(frozen=True, slots=True)
class Examined:
    """A DICOM file: its identity and the raw header values by tag."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    values: dict[int, bytes]

    def destination(self, policy: FilingPolicy) -> Destination:
        """Where this instance belongs."""
        return filing.destination(self.sop_class_uid, self.sop_instance_uid, self.values, policy)


def examine(path: str | os.PathLike[str]) -> Examined:
    """Read the head of a DICOM file, with or without File Meta Information.

    Raises CannotUnderstand for what is not a storable DICOM file, OSError for what can't be read.
    """
    with open(path, "rb") as file:
        try:
            transfer_syntax = part10.read(file).transfer_syntax_uid
        except CannotUnderstand as error:
            if file.seek(0) == 0 and file.read(132)[128:] == b"DICM":
                raise error from None
            file.seek(0)
            transfer_syntax = ""
        reader = HeaderReader(transfer_syntax, with_title=True)
        while not reader.is_complete and (piece := file.read(_STEP)):
            reader.receive(memoryview(piece))
        reader.end()
    sop_class_uid, sop_instance_uid = (
        reader.values.get(tag, b"").decode("latin-1").strip(" \0")
        for tag in (header.SOP_CLASS_UID, header.SOP_INSTANCE_UID)
    )
    if not sop_class_uid or not filing.is_uid(sop_instance_uid):
        raise CannotUnderstand("no SOP Class UID and SOP Instance UID in it")
    return Examined(sop_class_uid, sop_instance_uid, transfer_syntax, reader.values)
