"""The folder of temporary files in a root: objects under way, on the same disk as their destination.

Each running process marks its files with a token whose lock file it holds locked. What lies there without a
locked token was left by a process that is gone, and is removed.
"""

import contextlib
import errno
import itertools
import os
import secrets
import sys
import threading

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


_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # some network shares; there nothing is ever removed


class IncomingFolder:
    """`root/.incoming`, at `path`; `open` before use, `close` at the end."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._device = 0
        self.path = os.path.join(root, INCOMING)
        self._token = ""
        self._lock_file = ""
        self._numbers = itertools.count()  # next() is atomic
        self._descriptor = -1
        self._making = threading.Lock()

    def open(self) -> int:
        """Make the folder, lock our token, remove what dead processes left; return how many objects that were."""
        self._device = os.stat(self._root).st_dev
        self._make()
        return self._clear()

    def close(self) -> None:
        """Unlock, and leave nothing behind when nobody else is at work here."""
        self._unlock()
        for remove, path in ((os.unlink, self._lock_file), (os.rmdir, self.path)):
            with contextlib.suppress(OSError):  # gone already, or in use by others: both are as they should be
                remove(path)

    def create(self) -> tuple[str, int]:
        """A new temporary file: its path and its descriptor, both the caller's."""
        path = self._new_path()
        try:
            return path, files.create(path)
        except FileNotFoundError:  # somebody removed the folder under our feet
            self._make()
            path = self._new_path()
            return path, files.create(path)

    def take_over(self, path: str, *, durable: bool) -> str:
        """Move a temporary file of another root here; return its new path."""
        moved = self._new_path()
        try:
            files.move_between_disks(path, moved, durable=durable)
        except FileNotFoundError:  # as above
            self._make()
            moved = self._new_path()
            files.move_between_disks(path, moved, durable=durable)
        return moved

    def _new_path(self) -> str:
        """A path in this folder that nobody uses."""
        return os.path.join(self.path, f"{self._token}-{next(self._numbers):x}.part")

    def _make(self) -> None:
        """Make the folder and lock a token in it; also again, when somebody removed it under our feet.

        Raises OSError when the root is on another disk than at the start: its own is not mounted, and what was
        stored below the empty mount point would be hidden when it is again.
        """
        with self._making:
            if os.stat(self._root).st_dev != self._device:
                raise OSError(errno.ENODEV, "another disk than at the start", self._root)
            while not os.path.exists(self._lock_file) and not self._lock_token():
                pass

    def _lock_token(self) -> bool:
        """Make and lock a lock file; false when another process came between, which starts or stops here too."""
        self._unlock()
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path)
        self._token = secrets.token_hex(6)
        self._lock_file = os.path.join(self.path, self._token + ".lock")
        try:
            self._descriptor = files.create(self._lock_file)
            _lock(self._descriptor)
            os.stat(self._lock_file)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            if os.path.isfile(self.path):  # in the folder's place; Windows only says that there is no such folder
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._lock_file) from None
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def _unlock(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _clear(self) -> int:
        names = os.listdir(self.path)
        alive = {name[: -len(".lock")] for name in names if name.endswith(".lock") and not self._is_abandoned(name)}
        removed = 0
        for name in names:
            if name.endswith(".part") and name.partition("-")[0] not in alive:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))
                    removed += 1
        return removed

    def _is_abandoned(self, lock_name: str) -> bool:
        """True when nobody holds this lock; it is then removed. Where a lock can't be tried, its owner may live."""
        if lock_name == os.path.basename(self._lock_file):
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
