"""folders -> stored: DICOM files that lie on disk, filed through the very same path as those that are received."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dcmstore.errors import CannotUnderstand, StorageError
from dcmstore.storage import names
from dcmstore.storage.examine import Examined, examine
from dcmstore.storage.store import IncomingInstance, Instance, Outcome, Store, Stored

_STEP = 1024 * 1024  # bytes of a data set handed on at a time
_OUR_FOLDERS = (names.INCOMING, names.QUARANTINE)


class Verdict(Enum):
    """What became of one file."""

    FILED = "filed"
    THERE = "already there"
    IN_PLACE = "in its place"  # the file itself is the stored one
    NOT_DICOM = "not DICOM"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Imported:
    """One file, what became of it, where it is now or why it is not."""

    source: Path
    verdict: Verdict
    stored: Stored | None = None
    reason: str = ""


def find_files(folders: Iterable[Path]) -> list[Path]:
    """Every file below the given folders, and every given file, in a fixed order; our own working folders aside."""
    found = []
    for folder in folders:
        if not folder.is_dir():
            found.append(folder)
            continue
        for parent, below, files in os.walk(folder):
            below[:] = sorted(name for name in below if name not in _OUR_FOLDERS)
            found += [Path(parent, name) for name in sorted(files)]
    return found


def import_files(sources: Iterable[Path], store: Store, *, move: bool) -> Iterator[Imported]:
    """File each source. With `move`, a source is removed once it is safe, and only then.

    May be broken off at any point and begun again: what is there already is found to be, and not written twice.
    """
    for source in sources:
        try:
            examined = examine(source)
            stored = _store(source, examined, store)
        except CannotUnderstand as error:
            yield Imported(source, _verdict_on(source), reason=str(error))
            continue
        except (StorageError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            yield Imported(source, Verdict.FAILED, reason=str(reason))
            continue
        target = Path(store.roots[stored.root], *stored.folders, stored.file_name)
        if source.samefile(target):
            yield Imported(source, Verdict.IN_PLACE, stored)
            continue
        if move:
            source.unlink()
        verdict = Verdict.THERE if stored.outcome is Outcome.IDENTICAL else Verdict.FILED
        yield Imported(source, verdict, stored)


def _store(source: Path, examined: Examined, store: Store) -> Stored:
    instance = Instance(
        examined.sop_class_uid, examined.sop_instance_uid, examined.transfer_syntax, examined.source_ae_title
    )
    incoming: IncomingInstance = store.begin(instance)
    try:
        with source.open("rb") as file:
            file.seek(examined.start)
            while piece := file.read(_STEP):
                incoming.receive(memoryview(piece))
        return incoming.finish()
    finally:
        incoming.discard()


def _verdict_on(source: Path) -> Verdict:
    """A file that claims to be DICOM and can't be filed has failed; anything else is just another file."""
    try:
        with source.open("rb") as file:
            return (
                Verdict.FAILED if file.read(132)[128:] == b"DICM" and source.name != "DICOMDIR" else Verdict.NOT_DICOM
            )
    except OSError:
        return Verdict.FAILED
