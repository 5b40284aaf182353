"""stored -> the rest of the world: what is derived from instances, told after they have been acknowledged.

Nothing here may delay or fail a store: who is told only takes a note.
"""

import os
from typing import Protocol

from dcmstore.storage.filing import Root
from dcmstore.storage.store import Store, Stored


class FolderUpdater(Protocol):
    """Keeps something about a master folder; `add` takes a note of a new file below it and never raises."""

    def add(self, folder: str, path: str) -> None: ...


class AssociationEvents:
    """What one association stores, until it ends."""

    def __init__(self, store: Store, updater: FolderUpdater | None) -> None:
        self._store = store
        self._updater = updater
        self._newest: dict[str, str] = {}  # master folder -> its newest file

    def stored(self, stored: Stored) -> None:
        """An instance was acknowledged. A folder is noted with its first one, in case the program is killed."""
        if self._updater is None or stored.root is not Root.IMAGES or not stored.folders:
            return
        root = self._store.roots[stored.root]
        folder = os.path.join(root, stored.folders[0])
        path = os.path.join(root, *stored.folders, stored.file_name)
        if folder not in self._newest:
            self._updater.add(folder, path)
        self._newest[folder] = path

    def ended(self) -> None:
        """The association is over: its folders are complete for now."""
        if self._updater is not None:
            for folder, path in self._newest.items():
                self._updater.add(folder, path)
