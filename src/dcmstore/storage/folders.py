"""names -> folders on disk: made where they are missing, synced, and told apart where the disk can't tell them."""

import errno
import os

from dcmstore import inheriting
from dcmstore.storage import files, names
from dcmstore.storage.claims import Claims
from dcmstore.storage.filing import Owner
from dcmstore.storage.owners import Owners

MAX_KNOWN = 10_000  # folders remembered as existing, about 4 MB


class FolderTree:
    """The folders below one root; the root itself is never made here. `open` before use.

    On a disk that ignores upper and lower case, as Windows' do, `abc` and `ABC` would be one folder. The first one
    keeps its name; the other gets a suffix, and the same one each time. Folders that two studies or patients ask for
    are told apart by `owners`, which all trees share.
    """

    def __init__(self, root: str, *, durable: bool, owners: Owners, claims: Claims) -> None:
        self._root = root
        self._claims = claims
        self._durable = durable
        self._owners = owners
        self._tells_case = True
        self._ours = ""
        self._known: dict[tuple[str | Owner | None, ...], tuple[str, tuple[str, ...]]] = {}

    def open(self, existing: str) -> None:
        """Find out whether the disk tells case, by something of ours in the root whose name has letters."""
        self._ours = existing
        folder, name = os.path.split(existing)
        if os.path.exists(existing):
            self._tells_case = not os.path.exists(os.path.join(folder, name.swapcase()))
        else:  # the disk is full
            self._tells_case = not files.IS_WINDOWS

    def folder(self, wanted: tuple[str, ...], owners: tuple[Owner | None, ...] = ()) -> tuple[str, tuple[str, ...]]:
        """The path of these folders, and the names that they really have; `owners` as Destination has them."""
        key = wanted + owners
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[key] = self._make(wanted, owners)
        return known

    def settle(self, folder: str) -> None:  # hot: bench
        """A file is in this folder: whose it and those above it are is plain to see from now on."""
        if not self._claims.held:
            return
        settled = [held for held in list(self._claims.held) if folder == held or folder.startswith(held + os.sep)]
        if settled:
            with self._owners.lock:
                for claimed in settled:
                    self._claims.let_go(claimed)

    def close(self) -> None:
        with self._owners.lock:
            self._claims.close()

    def forget(self) -> None:
        """Somebody removed a folder: look again next time."""
        self._known.clear()

    def _make(self, wanted: tuple[str, ...], owners: tuple[Owner | None, ...]) -> tuple[str, tuple[str, ...]]:
        if not wanted:
            return self._root, ()
        parent, above = self.folder(wanted[:-1], owners[:-1])
        if not above:
            os.stat(self._ours)  # else the root's disk was unmounted; folders of the empty mount point would be hidden
        owner = owners[-1] if owners else None
        name = self._make_in(parent, wanted[-1]) if owner is None else self._make_for(owner, parent, wanted[-1])
        if self._durable:
            files.sync_folder(parent)  # also when another association made it, which may not be that far yet
        return os.path.join(parent, name), (*above, name)

    def _make_for(self, owner: Owner, parent: str, wanted: str) -> str:
        """The same as `_make_in`, but where the folder is somebody else's, it is another one."""
        with self._owners.lock:  # until it is made: who then finds it missing knows that somebody removed it
            wanted = self._free_of_case(parent, wanted)
            path = os.path.join(parent, wanted)
            if not os.path.lexists(path) and self._owners.forget(path):
                self._claims.let_go(path)
                self.forget()
            return self._make_in(parent, self._owners.name_for(owner, parent, wanted, self._claims))

    def _make_in(self, parent: str, wanted: str) -> str:
        """Make a folder, unless it is there; return the name that it really has."""
        name = self._free_of_case(parent, wanted)
        path = os.path.join(parent, name)
        try:
            inheriting.make_folder(path)
        except FileExistsError:
            if self._free_of_case(parent, wanted) != name:  # another association has made one like it since we looked
                return self._make_in(parent, wanted)
            if not os.path.isdir(path):
                raise NotADirectoryError(errno.ENOTDIR, "a file stands where a folder is needed", path) from None
        return name

    def _free_of_case(self, parent: str, name: str) -> str:
        """The name; where the disk ignores case and another folder has the same letters, the one with a suffix."""
        if self._tells_case:
            return name
        taken = {entry.upper(): entry for entry in os.listdir(parent)}
        return name if taken.get(name.upper(), name) == name else names.told_apart(name)
