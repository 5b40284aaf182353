"""a job -> an open file and what has to be said of it: the object as it lies there now."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from dcmstore import uids
from dcmstore.errors import CannotUnderstand, reason_of
from dcmstore.jobs.gone import gone
from dcmstore.jobs.work import Facts, JobFailed
from dcmstore.storage import files, header, part10
from dcmstore.storage.header import HeaderReader

_IDENTITY = frozenset((header.SOP_CLASS_UID, header.SOP_INSTANCE_UID))
_STEP = 16 * 1024  # bytes read at a time; both stand at the beginning


class Context(NamedTuple):
    """What is proposed for an object: its SOP class, in its transfer syntax and no other."""

    abstract_syntax: str
    transfer_syntax: str

    def __str__(self) -> str:
        name = uids.name_of(self.abstract_syntax).removesuffix(" SOP Class")
        return f"{name} in {uids.name_of(self.transfer_syntax)}"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An object to send: `size` bytes of the file from `start` are its data set."""

    file: BinaryIO
    start: int
    size: int
    context: Context
    sop_instance_uid: str


@contextlib.contextmanager
def opened(facts: Facts, system_path: Callable[[str], str] = str) -> Iterator[Outgoing]:
    """The object of a job, as long as the context lasts. Raises JobFailed; its text has no path, which names people.

    What the file does not say, the facts do.
    """
    try:
        file = files.open_to_read(system_path(str(facts["path"])))
    except FileNotFoundError:
        raise gone(system_path(str(facts["root"])), "its file", "it was sent") from None
    except OSError as error:
        raise JobFailed(f"its file can't be opened: {reason_of(error)}", is_about_one=True) from None
    with file:
        yield _outgoing(file, facts)


def _outgoing(file: BinaryIO, facts: Facts) -> Outgoing:
    try:
        meta = part10.read_if_any(file)
        start, end = file.tell(), os.fstat(file.fileno()).st_size
        transfer_syntax = meta.transfer_syntax_uid or str(facts["transfer_syntax"])
        reader = _read_identity(file, transfer_syntax)
    except CannotUnderstand as error:
        raise JobFailed(f"its file is damaged: {error}", is_final=True) from None
    except OSError as error:
        raise JobFailed(f"its file can't be read: {reason_of(error)}", is_about_one=True) from None
    # What the data set says of itself counts, for a peer compares it. The head of a file of others may contradict it.
    sop_class_uid = reader.text_of(header.SOP_CLASS_UID) or meta.media_storage_sop_class_uid
    sop_instance_uid = reader.text_of(header.SOP_INSTANCE_UID) or meta.media_storage_sop_instance_uid
    context = Context(sop_class_uid or str(facts["sop_class_uid"]), transfer_syntax)
    sop_instance_uid = sop_instance_uid or str(facts["sop_instance_uid"])
    if not all(map(uids.is_uid, (*context, sop_instance_uid))):
        raise JobFailed("its file has no usable SOP Class, SOP Instance and Transfer Syntax UID", is_final=True)
    if start == end:
        raise JobFailed("its file has no data set", is_final=True)
    return Outgoing(file, start, end - start, context, sop_instance_uid)


def _read_identity(file: BinaryIO, transfer_syntax: str) -> HeaderReader:
    """A reader that has the UIDs of the data set, as far as it can be read."""
    reader = HeaderReader.for_tags(transfer_syntax, _IDENTITY)
    with contextlib.suppress(CannotUnderstand):
        while not reader.is_complete and (piece := file.read(_STEP)):
            reader.receive(memoryview(piece))
    return reader
