"""stored -> the rest of the world: what is derived from instances, told after they have been acknowledged.

Nothing here may delay or fail a store: who is told only takes a note.
"""

import itertools
import os
import time
from typing import Protocol

from dcmstore.audit.messages import Action, Indicator, Peer
from dcmstore.audit.trail import Trail
from dcmstore.audit.transfers import Recipient, Transfers
from dcmstore.index.notes import Note
from dcmstore.seldom import Tell
from dcmstore.services import operation
from dcmstore.storage.filing import Root
from dcmstore.storage.store import Outcome, Store, Stored

# What A.5.3.7 calls it; one that gets a number beside another is new here too.
_ACTIONS = {
    Outcome.STORED: Action.CREATE,
    Outcome.NUMBERED: Action.CREATE,
    Outcome.IDENTICAL: Action.READ,
    Outcome.REPLACED: Action.UPDATE,
}
MAX_FOLDERS = 100  # master folders that an association remembers; a migration has one for every patient
_NOBODY = Peer("")  # whose files are imported
_OUR_LIMITS = "local-limit-exceeded"  # the reason of a refusal that says nothing of the sender


class FolderUpdater(Protocol):
    """Keeps something about a master folder; `add` takes a note of a new file below it and never raises."""

    def add(self, folder: str, path: str) -> None: ...


class FileIndex(Protocol):
    """Keeps an index of files; `add` takes a note of one. Nothing of it ever raises.

    An association has a number, and has begun before its first file; 0 is none.
    """

    def began(self, association: int) -> None: ...

    def add(self, note: Note) -> None: ...

    def ended(self, association: int) -> None: ...


_PROCESS_BIT = 32  # of the number of an association; below it they are counted
_numbers = itertools.count((os.getpid() << _PROCESS_BIT) + 1)  # next() is atomic


def process_of(association: int) -> int:
    """Which process has the association with this number."""
    return association >> _PROCESS_BIT


class AssociationEvents:
    """What one association brings, until it ends."""

    def __init__(
        self,
        store: Store,
        updater: FolderUpdater | None,
        trail: Recipient | None = None,
        index: FileIndex | None = None,
    ) -> None:
        self._store = store
        self._updater = updater
        self._trail = trail
        self._index = index
        self._peer = _NOBODY
        self._number = 0  # of the association, for the index, once it brought something
        self._transfers: Transfers | None = None
        self._newest: dict[str, str] = {}  # master folder -> its newest file, the last one used at the end

    def began(self, peer: Peer) -> None:
        """The association was accepted."""
        self._peer = peer
        if self._trail is not None and self._trail.is_on:
            self._transfers = Transfers(self._trail, peer)

    def performed(self, outcome: operation.Outcome) -> None:
        """A message was answered."""
        if outcome.stored is not None:
            self.stored(outcome.stored)
        if outcome.subject is None or self._transfers is None:
            return
        instance, values = outcome.subject
        if outcome.stored is not None:
            self._transfers.add(instance.sop_class_uid, values, _ACTIONS[outcome.stored.outcome])
            return
        is_kept = outcome.event == "instance.quarantined"
        indicator = Indicator.MINOR_FAILURE if is_kept else Indicator.SERIOUS_FAILURE
        reason = f"status {outcome.facts['status']}: {outcome.facts['reason']}"
        self._transfers.add(instance.sop_class_uid, values, Action.CREATE, indicator, reason)

    def stored(self, stored: Stored) -> None:
        """An instance was acknowledged. A folder is noted with its first one, in case the program is killed."""
        if self._index is not None:
            if not self._number and self._peer is not _NOBODY:
                self._number = next(_numbers)
                self._index.began(self._number)
            self._index.add(self._note_of(stored))
        if self._updater is None or stored.root is not Root.IMAGES or not stored.folders:
            return
        root = self._store.roots[stored.root]
        folder = os.path.join(root, stored.folders[0])
        path = os.path.join(root, *stored.folders, stored.file_name)
        if self._newest.pop(folder, None) is None:
            self._updater.add(folder, path)
        self._newest[folder] = path
        if len(self._newest) > MAX_FOLDERS:
            oldest = next(iter(self._newest))
            self._updater.add(oldest, self._newest.pop(oldest))

    def _note_of(self, stored: Stored) -> Note:
        return Note(
            root=self._store.roots[stored.root],
            folders=stored.folders,
            file_name=stored.file_name,
            calling_ae_title=self._peer.calling_ae_title,
            host=self._peer.address,
            came=time.time(),
            is_new=stored.outcome is not Outcome.IDENTICAL,
            association=self._number,
            at=time.monotonic(),
        )

    def ended(self) -> None:
        """The association is over: its folders are complete for now."""
        if self._index is not None and self._number:
            self._index.ended(self._number)
        if self._updater is not None:
            for folder, path in self._newest.items():
                self._updater.add(folder, path)
        if self._transfers is not None:
            self._transfers.tell()


def refusals_audited(warn: Tell, trail: Trail | None) -> Tell:
    """What passes Seldom: a warning in the log, and where it tells of a sender refused, an alert in the trail.

    The fact `host` is for the alert only: the line has it in `peer`.
    """

    def tell(event: str, *, host: str = "", **facts: object) -> None:
        warn(event, **facts)
        is_refusal = event in ("association.rejected", "tls.failed") and facts["reason"] != _OUR_LIMITS
        if trail is not None and is_refusal:
            peer = Peer(host, str(facts.get("calling", "")))
            because = facts.get("because")
            reason = f"{facts['reason']}: {because}" if because else str(facts["reason"])
            times = facts.get("times", 1)
            trail.refused(peer, reason, times if isinstance(times, int) else 1)

    return tell
