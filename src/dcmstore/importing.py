"""folders -> stored: DICOM files that lie on disk, filed through the very same path as those that are received."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dcmstore.errors import CannotUnderstand, StorageError, reason_of
from dcmstore.storage import names
from dcmstore.storage.examine import Examined, NoInstance, examine
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.owners import Owners, planned
from dcmstore.storage.store import IncomingInstance, Instance, Outcome, Store, Stored

_STEP = 1024 * 1024  # bytes of a data set handed on at a time


class Verdict(Enum):
    """What became of one file."""

    FILED = "filed"
    THERE = "already there"
    IN_PLACE = "in its place"  # the file itself is the stored one
    NOT_DICOM = "not objects"  # other files, and DICOMDIRs
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Imported:
    """One file, what became of it, where it is now or why it is not; and why it is kept where it was to be moved."""

    source: Path
    verdict: Verdict
    stored: Stored | None = None
    reason: str = ""
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """One file, and where it would be filed, or None and why it would not."""

    source: str | Path
    target: Path | None
    reason: str = ""


def places(sources: Iterable[str | Path], roots: Mapping[Root, Path], policy: FilingPolicy) -> Iterator[Place]:
    """Where each source would be filed; nothing is touched."""
    owners = Owners()
    for source in sources:
        try:
            destination = examine(source).destination(policy)
        except (CannotUnderstand, OSError) as error:
            yield Place(source, None, reason_of(error))
            continue
        root = roots[destination.root]
        folders = planned(owners, os.fspath(root), destination.folders, destination.owners)
        yield Place(source, root.joinpath(*folders, destination.file_name))


def find_files(folders: Iterable[Path], roots: Iterable[Path], unreadable: Callable[[OSError], None]) -> list[Path]:
    """Every file below the given folders, and every given file, in a fixed order; working folders of `roots` aside.

    `unreadable` is told of each folder that can't be looked into, and of links to folders elsewhere, which may lead
    anywhere and are not followed.
    """
    found = []
    folders = list(folders)
    walked, resolved_roots = [folder.resolve() for folder in folders], {root.resolve() for root in roots}
    for folder in folders:
        if not os.path.isdir(folder):
            found.append(folder)
            continue
        for parent, below, files in os.walk(folder, onerror=unreadable):
            below[:] = sorted(name for name in below if name != names.INCOMING)  # under way, whoever receives it
            if names.QUARANTINE in below and Path(parent).resolve() in resolved_roots:
                below.remove(names.QUARANTINE)
            for path in (Path(parent, name) for name in below):
                if path.is_symlink() and not any(path.resolve().is_relative_to(one) for one in walked):
                    unreadable(OSError(errno.ELOOP, "a link to a folder; import that by its own name", str(path)))
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
        except NoInstance as error:
            yield Imported(source, Verdict.NOT_DICOM, reason=str(error))
            continue
        except CannotUnderstand as error:
            yield Imported(source, _verdict_on(source), reason=str(error))
            continue
        except (StorageError, OSError) as error:
            yield Imported(source, Verdict.FAILED, reason=reason_of(error))
            continue
        yield _settle(source, stored, store, move=move)


def _settle(source: Path, stored: Stored, store: Store, *, move: bool) -> Imported:
    """The instance is safe: leave its source, or remove it, unless it is the stored file or can't be told from it."""
    verdict = Verdict.THERE if stored.outcome is Outcome.IDENTICAL else Verdict.FILED
    try:
        if source.samefile(Path(store.roots[stored.root], *stored.folders, stored.file_name)):
            return Imported(source, Verdict.IN_PLACE, stored)
        if move:
            source.unlink(missing_ok=True)
    except OSError as error:
        return Imported(source, verdict, stored, kept=reason_of(error) if move else "")
    return Imported(source, verdict, stored)


def _store(source: Path, examined: Examined, store: Store) -> Stored:
    instance = Instance(
        examined.sop_class_uid, examined.sop_instance_uid, examined.transfer_syntax, examined.source_ae_title
    )
    incoming: IncomingInstance = store.begin(instance)
    try:
        with source.open("rb") as file:
            file.seek(examined.start)
            while not incoming.has_failed and (piece := file.read(_STEP)):
                incoming.receive(memoryview(piece))
        return incoming.finish()
    finally:
        incoming.discard()


def _verdict_on(source: Path) -> Verdict:
    """A file that claims to be DICOM and can't be filed has failed; anything else is just another file."""
    try:
        with source.open("rb") as file:
            return Verdict.FAILED if file.read(132)[128:] == b"DICM" else Verdict.NOT_DICOM
    except OSError:
        return Verdict.FAILED
