"""a root -> its folder of temporary files: objects under way, on the same disk as their destination.

Each running process marks its files with a token whose lock file it holds locked. What lies there without a
locked token was left by a process that is gone, and is removed.

A disk may fill, vanish and come back while we run. A lost disk is let go, for while a file on it is open it can't be
repaired; when it is back, it is told by our token from whatever else may be mounted there.
"""

import contextlib
import errno
import itertools
import os
import secrets
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from dcmstore import inheriting
from dcmstore.inheriting import Heir
from dcmstore.storage import files
from dcmstore.storage.names import INCOMING

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        """Lock a file for this process. Raises BlockingIOError when another one holds it."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from None
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_T = TypeVar("_T")

CLAIM = ".claim"  # at the end of the name of a claim (claims.py); it begins with the token of its process

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # some network shares; there nothing is ever removed
_LOST = (errno.EIO, errno.EROFS, errno.ENOTCONN, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ESHUTDOWN)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class IncomingFolder:
    """`root/.incoming`, at `path`; `open` before use, `close` at the end."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._device = 0
        self._heir: Heir | None = None
        self.path = os.path.join(root, INCOMING)
        self._token = ""
        self._lock_file = ""
        self._numbers = itertools.count()  # next() is atomic
        self._descriptor = -1
        self._making = threading.Lock()

    def open(self) -> int:
        """Remove what dead processes left, and get ready; return how many objects that were.

        A full disk is none of our business yet: there may be room when the first object comes.
        """
        self._device = os.stat(self._root).st_dev
        removed = self._clear()
        try:
            self._make()
        except OSError as error:
            if error.errno not in _FULL:
                raise
        return removed

    def close(self) -> None:
        """Unlock, and leave nothing behind when nobody else is at work here."""
        self._unlock()
        for remove, path in ((os.unlink, self._lock_file), (os.rmdir, self.path)):
            with contextlib.suppress(OSError):  # gone already, or in use by others: both are as they should be
                remove(path)

    def create(self) -> tuple[str, int]:
        """A new temporary file: its path and its descriptor, both the caller's."""
        return self._at_new_path(self._create)

    def claim_of(self, owner: str) -> bytes:
        """What stands in a claim of this process; a claim of a process that is gone is removed."""
        return f"{self._token} {owner}".encode()

    def take_over(self, path: str, *, durable: bool) -> str:
        """Move a temporary file of another root here; return its new path."""
        moved, _ = self._at_new_path(lambda target: files.move_between_disks(path, target, durable=durable))
        if self._heir is not None:  # who may be another one than that of the other root
            descriptor = os.open(moved, os.O_WRONLY | os.O_NOFOLLOW)
            inheriting.give(descriptor, self._heir)
            os.close(descriptor)
        return moved

    def _at_new_path(self, make: Callable[[str], _T]) -> tuple[str, _T]:
        """Make a file at a path in this folder that nobody uses: the path, and what `make` returned."""
        try:
            if self._descriptor < 0:
                self._make()
            try:
                path = self._new_path()
                return path, make(path)
            except FileNotFoundError:  # somebody removed the folder under our feet
                self._make()
                path = self._new_path()
                return path, make(path)
        except OSError as error:
            if error.errno in _LOST:
                self._let_go()
            raise

    def _create(self, path: str) -> int:
        return files.create(path) if self._heir is None else files.create_for_heir(path)

    def _new_path(self) -> str:
        return os.path.join(self.path, f"{self._token}-{next(self._numbers):x}.part")

    def _make(self) -> None:
        """Make the folder and lock a token in it; also again, when somebody removed it, or the disk was let go.

        Raises OSError when the root is on another disk than at the start: its own is not mounted, and what was
        stored below the empty mount point would be hidden when it is again.
        """
        with self._making:
            device = os.stat(self._root).st_dev
            if device != self._device and not os.path.exists(self._lock_file):
                raise OSError(errno.ENODEV, "another disk than at the start", self._root)
            self._heir = inheriting.heir_of(self._root)
            self._device = device  # a share or a drive that comes back may have got another number
            if self._descriptor < 0:
                self._clear()
            while not (self._descriptor >= 0 and os.path.exists(self._lock_file)) and not self._lock_token():
                pass

    def _lock_token(self) -> bool:
        """Make and lock a lock file; false when another process came between, which starts or stops here too."""
        self._unlock()
        with contextlib.suppress(FileExistsError):
            inheriting.make_folder(self.path)
        token = secrets.token_hex(6)
        lock_file = os.path.join(self.path, token + ".lock")
        try:
            descriptor = self._create(lock_file)
        except FileNotFoundError:
            if os.path.islink(self.path):  # to a folder that is not there
                raise
            return False
        try:
            _lock(descriptor)
            os.stat(lock_file)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                if isinstance(error, BlockingIOError | FileNotFoundError):
                    return False
                raise
        self._token, self._lock_file, self._descriptor = token, lock_file, descriptor
        return True

    def _let_go(self) -> None:
        """Close what we hold open on a lost disk. The next object tries to make it ours again."""
        with self._making, contextlib.suppress(OSError):
            self._unlock()

    def _unlock(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _clear(self) -> int:
        """Remove what lies here without a locked token; return how many objects that were."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        alive = {name[: -len(".lock")] for name in names if name.endswith(".lock") and not self._is_abandoned(name)}
        removed = 0
        for name in names:
            if name.endswith(".part") and name.partition("-")[0] not in alive:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))
                    removed += 1
            elif name.endswith(CLAIM) and self._claimant(name) not in alive:
                with contextlib.suppress(OSError):  # somebody else clears here too; it harms nobody
                    os.unlink(os.path.join(self.path, name))
        return removed

    def _claimant(self, name: str) -> str:
        """The token of who left a claim; nobody's where it can't be read, for then it would never go."""
        with contextlib.suppress(OSError), files.open_to_read(os.path.join(self.path, name)) as file:
            return file.read().decode("ascii", "replace").partition(" ")[0]
        return ""

    def _is_abandoned(self, lock_name: str) -> bool:
        """True when nobody holds this lock; it is then removed. Where a lock can't be tried, its owner may live."""
        if self._descriptor >= 0 and lock_name == os.path.basename(self._lock_file):
            return False
        path = os.path.join(self.path, lock_name)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            _lock(descriptor)
            if not files.IS_WINDOWS:  # where a file that is open can't be removed
                os.unlink(path)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        if files.IS_WINDOWS:
            with contextlib.suppress(OSError):
                os.unlink(path)
        return True
