"""a folder without objects -> its first owner's, among all processes that store here: until his first file is in it.

Two processes may come to one new folder in the same instant, with objects of two studies, and no file says yet whose
it is. So who takes it leaves a claim beside the temporary files, named by the folder, which only one can have. A claim
that a killed process left keeps nobody from storing: the folder counts as somebody else's until the next start of any
process removes it.
"""

import contextlib
import hashlib
import os

from dcmstore.storage import files
from dcmstore.storage.incoming import CLAIM, IncomingFolder

TRIES = 10  # to take a claim that others take and let go in the same moments


class Claims:
    """Those on folders below one root. Not for several threads at once, but for `held` and what only looks at it."""

    def __init__(self, root: str, incoming: IncomingFolder) -> None:
        self._root = root
        self._incoming = incoming
        self.held: dict[str, str] = {}  # by the folder's path, the claim's

    def take(self, folder: str, identity: str) -> bool:
        """Whether the folder is this owner's; look at it again then. Raises OSError.

        Who had it until a moment ago has brought his first file.
        """
        path = os.path.join(self._incoming.path, _digest(os.path.relpath(folder, self._root)) + CLAIM)
        owner = _digest(identity)
        written, descriptor = self._incoming.create()
        try:
            try:
                files.write_all(descriptor, (self._incoming.claim_of(owner),))
            finally:
                os.close(descriptor)
            for _ in range(TRIES):
                taken_by = _owner_of(path)
                if taken_by is not None:
                    return taken_by == owner
                with contextlib.suppress(FileExistsError):
                    files.give_name(written, path)
                    written = ""
                    self.held[folder] = path
                    return True
        finally:
            if written:
                os.unlink(written)
        return False

    def let_go(self, folder: str) -> None:
        """A file is in it, or it is not wanted any more. Harmless where it is not held."""
        path = self.held.pop(folder, None)
        if path is not None:
            with contextlib.suppress(OSError):  # the next start removes what remains
                os.unlink(path)

    def close(self) -> None:
        for folder in list(self.held):
            self.let_go(folder)


def _owner_of(path: str) -> str | None:
    """Who has a claim, None where there is no such claim. One that can't be read is somebody else's."""
    try:
        with files.open_to_read(path) as file:
            return file.read().decode("ascii", "replace").rpartition(" ")[2]
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
