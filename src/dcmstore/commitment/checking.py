"""references -> which of them are kept for good: the file is there, is what was received, and is synced now."""

import itertools
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dcmstore.commitment.action import Reference
from dcmstore.commitment.event import FailureReason
from dcmstore.errors import CannotUnderstand, DcmStoreError
from dcmstore.index import entries
from dcmstore.index.entries import Root
from dcmstore.jobs.work import JobFailed
from dcmstore.storage import examine, files

if TYPE_CHECKING:
    from dcmstore.commitment.lookup import Kept
    from dcmstore.index.database import Database

# (Study Instance UID, Patient ID) -> SOP Instance UIDs; the two together tell studies apart, as the index has it
Studies: TypeAlias = Mapping[tuple[str, str], Collection[str]]

# What a file has to have as it had when it was entered
_SAME = ("size", "sha256", "transfer_syntax", "sop_class_uid", "sop_instance_uid")
PAUSE = 0.5  # seconds between two looks for what the index may not have yet
LOOKS = 3  # at an index that is current, until what it lacks counts as not there: it may be writing just now
PATIENCE = 60.0  # seconds for an index that is behind, until the job is tried again later


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `studies` are the instances that the index has, kept or not, by study."""

    kept: tuple[Reference, ...]
    failed: tuple[tuple[Reference, FailureReason], ...]
    studies: Studies


@dataclass(frozen=True, slots=True)
class Checker:
    """Checks whole requests, for several threads at once.

    `open_index` opens the index for the calling thread; `is_current` says whether it has all that was stored.
    `roots` gives the root folders in force, and `supports` whether a SOP class is stored here.
    """

    open_index: Callable[[], AbstractContextManager["Database"]]
    roots: Callable[[], Sequence[Root]]
    is_current: Callable[[], bool]
    supports: Callable[[str], bool]
    stopping: threading.Event

    def check(self, references: Sequence[Reference]) -> Verdict:
        """Raises JobFailed when it can't be said now, and what Database does."""
        found = self._find({reference.sop_instance_uid for reference in references})
        known = {root.name: root for root in self.roots()}
        synced: set[str] = set()
        kept, failed = [], []
        for reference in references:
            reason = self._reason(reference, found.get(reference.sop_instance_uid, ()), known, synced)
            if reason is None:
                kept.append(reference)
            else:
                failed.append((reference, reason))
        studies: dict[tuple[str, str], set[str]] = {}
        for one in itertools.chain.from_iterable(found.values()):
            studies.setdefault((one.study_instance_uid, one.patient_id), set()).add(one.sop_instance_uid)
        return Verdict(tuple(kept), tuple(failed), studies)

    def _find(self, wanted: Collection[str]) -> "Mapping[str, Sequence[Kept]]":
        """What the index has of them, once it has had the time to enter what came just before the request."""
        from dcmstore.commitment import lookup  # and with it SQLAlchemy

        found: dict[str, list[Kept]] = {}
        looks, waited = 0, 0.0
        while True:
            is_current = self.is_current()
            try:
                with self.open_index() as database:
                    found |= lookup.find(database, [uid for uid in wanted if uid not in found])
                looks += is_current
            except DcmStoreError:  # it is made, or made anew, this moment
                if waited >= PATIENCE:
                    raise
            if len(found) == len(wanted) or looks == LOOKS:
                return found
            if waited >= PATIENCE:
                raise JobFailed("the index does not have all that was stored yet; it is asked again later")
            self._wait(PAUSE)
            waited += PAUSE

    def _wait(self, seconds: float) -> None:
        if self.stopping.wait(seconds):
            raise JobFailed("the receiver stops; it goes on at the next start")

    def _reason(
        self, reference: Reference, found: "Sequence[Kept]", roots: Mapping[str, Root], synced: set[str]
    ) -> FailureReason | None:
        """Why an instance is not kept; None where one of its files is."""
        self._wait(0)
        if not found:
            if self.supports(reference.sop_class_uid):
                return FailureReason.NO_SUCH_OBJECT_INSTANCE
            return FailureReason.REFERENCED_SOP_CLASS_NOT_SUPPORTED
        of_class = [one for one in found if one.sop_class_uid == reference.sop_class_uid]
        if not of_class:
            return FailureReason.CLASS_INSTANCE_CONFLICT
        reason: FailureReason | None = None
        for one in of_class:
            reason = _look(one, roots.get(one.root) or Root(one.root, one.root), synced)
            if reason is None:
                break
        return reason


def _look(kept: "Kept", root: Root, synced: set[str]) -> FailureReason | None:
    """Read a file whole, compare, and sync it with the folders that lead to it; `synced` are those that were.

    Raises JobFailed where the whole root is away: that says nothing about the file.
    """
    try:
        entry = entries.read(root, kept.path)
    except FileNotFoundError:
        if examine.is_away(root.system, root.without):
            raise JobFailed(f"{root.name}: nothing is in it; see to that disk or share") from None
        return FailureReason.NO_SUCH_OBJECT_INSTANCE
    except (CannotUnderstand, OSError):
        return FailureReason.PROCESSING_FAILURE
    if any(getattr(entry, name) != getattr(kept, name) for name in _SAME):
        return FailureReason.PROCESSING_FAILURE
    try:
        _sync(root, kept.path, synced)
    except OSError:
        return FailureReason.RESOURCE_LIMITATION
    return None


def _sync(root: Root, path: str, synced: set[str]) -> None:
    """Also where it was synced when it was stored: nobody knows who has copied it since, and from where."""
    whole = root.path_of(path)
    files.sync_file(whole)
    folder = os.path.dirname(whole)
    while folder not in synced and len(folder) >= len(root.system):
        files.sync_folder(folder)
        synced.add(folder)
        folder = os.path.dirname(folder)
