"""bytes -> files and their names: the few things done to them, each whole or not at all, on Linux and Windows."""

import contextlib
import ctypes
import errno
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

from dcmstore import inheriting
from dcmstore.errors import OutOfResources

Buffer: TypeAlias = bytes | memoryview

if sys.platform == "win32":
    from ctypes import wintypes

IS_WINDOWS = os.name == "nt"
FILE_MODE = 0o666  # less the umask of the process, which `permissions` of the ini sets

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_HAS_WRITEV = hasattr(os, "writev")
_COPY_STEP = 1024 * 1024  # bytes
# A virus scanner holds a new file open for a moment; on Windows it then can't be renamed (winerror 5 and 32).
_RENAME_TRIES = 20
_RENAME_PAUSE = 0.05  # seconds

# What a person can do about it, within the 64 characters of an Error Comment
_ADVICE = {
    errno.ENOSPC: "disk is full",
    errno.EDQUOT: "disk quota is used up",
    errno.EROFS: "disk is mounted read-only",
    errno.EACCES: "no permission to write in it or below it",
    errno.EPERM: "no permission to write in it or below it",
    errno.ENOENT: "folder is missing",
    errno.ENODEV: "another disk than at the start; is it mounted?",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EIO: "disk reports an input/output error",
    errno.ENOTCONN: "share is gone",
    errno.ESTALE: "share is gone, or was replaced",
    errno.ENAMETOOLONG: "path is too long",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.EXDEV: "a folder in the tree is on another disk",
}


def out_of_resources(error: OSError, root: str) -> OutOfResources:
    """The storage error for an OSError below a root folder, which is named by its key in the ini."""
    if error.errno == errno.ENOSPC and _has_no_inodes(error.filename):
        return OutOfResources(f"{root}: disk has space, but holds as many files as it can")
    return OutOfResources(f"{root}: {_ADVICE.get(error.errno or 0, error.strerror or str(error))}")


def _has_no_inodes(path: str | None) -> bool:
    """True where the disk of a file that could not be made has no place for another one, however small."""
    if sys.platform == "win32" or path is None:
        return False
    try:
        disk = os.statvfs(os.path.dirname(path))
    except OSError:
        return False
    return disk.f_files > 0 == disk.f_favail  # some file systems make inodes as they need them, and tell 0 of each


def create(path: str) -> int:
    """A new file for writing; its descriptor is the caller's to close. Raises FileExistsError."""
    return os.open(path, _NEW, FILE_MODE)


def create_for_heir(path: str) -> int:
    """As `create`; what root makes belongs to who has the folder."""
    return inheriting.create(path, _NEW, FILE_MODE)


def write_all(descriptor: int, buffers: Sequence[Buffer]) -> None:  # hot: bench
    """Write the buffers one behind the other, in one call where the system can."""
    written = os.writev(descriptor, buffers) if _HAS_WRITEV else 0
    if written == sum(map(len, buffers)):
        return
    for buffer in buffers:  # a full disk takes a part; the next call says so
        left = memoryview(buffer)[written:]
        written = max(written - len(buffer), 0)
        while left:
            left = left[os.write(descriptor, left) :]


def write_back(descriptor: int, start: int, size: int) -> None:
    """Have the system begin to write a part of a file to disk. A hint: faults of the disk are for the sync to tell."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, start, size, os.POSIX_FADV_DONTNEED)


def sync_folder(path: str) -> None:
    """Make names in a folder survive a power cut. On Windows the renaming itself sees to that."""
    if IS_WINDOWS:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
        os.fstat(descriptor)  # on XFS that died meanwhile, fsync of a folder claims to have worked, and this does not
    finally:
        os.close(descriptor)


def sync_file(path: str) -> None:
    """Make the content of a closed file survive a power cut."""
    # Windows syncs through a writable descriptor only; elsewhere a file that was write-protected since is fine.
    descriptor = os.open(path, os.O_RDWR if IS_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_name(source: str, target: str) -> None:  # hot: bench
    """Give a file its name at once. Raises FileExistsError, and harms nothing, where the name is taken."""
    _insist(_rename_to_free_name, source, target)


def replace(source: str, target: str) -> None:
    """Give a file its name at once, in place of what had it."""
    _insist(_rename_over, source, target)


def is_gone(path: str) -> bool:
    """Whether a file is not there for sure. In a folder that can't be read, nobody knows."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def open_to_read(path: str) -> BinaryIO:
    """Open a file that somebody may be naming or scanning this moment."""
    opened: BinaryIO = _insist(open, path, "rb")
    return opened


def _insist(call: Callable[..., Any], *arguments: str) -> Any:
    """Call until nobody else holds the file, for a second at most; only on Windows is that a matter of time."""
    for tries_left in reversed(range(_RENAME_TRIES)):
        try:
            return call(*arguments)
        except PermissionError:
            if not IS_WINDOWS or not tries_left:
                raise
            time.sleep(_RENAME_PAUSE)
    raise AssertionError("no tries")


if sys.platform == "win32":
    _MoveFileEx = ctypes.WinDLL("kernel32", use_last_error=True).MoveFileExW
    _MoveFileEx.argtypes = (wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD)
    _REPLACE_EXISTING, _WRITE_THROUGH = 0x1, 0x8

    def _move(source: str, target: str, flags: int) -> None:
        """Return only when the new name is on disk: os.rename leaves that to the system, which may be lazy."""
        if not _MoveFileEx(source, target, flags | _WRITE_THROUGH):
            raise ctypes.WinError(ctypes.get_last_error())

    def _rename_to_free_name(source: str, target: str) -> None:
        _move(source, target, 0)

    def _rename_over(source: str, target: str) -> None:
        _move(source, target, _REPLACE_EXISTING)
else:
    # Python has no call that renames and never replaces. Network and other file systems refuse the flag (EINVAL).
    _renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    _AT_FDCWD, _RENAME_NOREPLACE = -100, 1
    _NO_SUCH_CALL = (errno.ENOSYS, errno.EINVAL)
    _NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)
    _naming = threading.Lock()

    def _rename_to_free_name(source: str, target: str) -> None:
        code = errno.ENOSYS
        if _renameat2 is not None:
            names = os.fsencode(source), os.fsencode(target)
            if _renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE) == 0:
                return
            code = ctypes.get_errno()
        if code not in _NO_SUCH_CALL:
            raise OSError(code, os.strerror(code), source, None, target)
        _link_to_free_name(source, target)

    def _link_to_free_name(source: str, target: str) -> None:
        """The same in two steps: link(2) never replaces either."""
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            _look_and_rename(source, target)
        else:
            os.unlink(source)

    def _look_and_rename(source: str, target: str) -> None:
        """Where there are no hard links (FAT, some shares), a name is kept for one thread, but not for one process."""
        with _naming:
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            os.rename(source, target)

    def _rename_over(source: str, target: str) -> None:
        os.replace(source, target)


def move_between_disks(source: str, target: str, *, durable: bool) -> None:
    """Move a file to a new name that may be on another file system; where that fails, it stays where it was."""
    try:
        os.rename(source, target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV and getattr(error, "winerror", 0) != 17:  # 17: not the same device
            raise
    descriptor = create(target)
    try:
        try:
            with open(source, "rb") as original:
                while piece := original.read(_COPY_STEP):
                    write_all(descriptor, [piece])
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.unlink(source)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(target)
        raise


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose a file is, and who may do what to it. On Windows the folder says that."""

    owner: int
    group: int
    mode: int

    @classmethod
    def of(cls, path: str) -> "Ownership":
        status = os.stat(path)
        return cls(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))

    def give(self, descriptor: int) -> None:
        """Raises PermissionError where only root may."""
        if sys.platform == "win32":
            return
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_gid) != (self.owner, self.group):
            os.fchown(descriptor, self.owner, self.group)
        os.fchmod(descriptor, self.mode)


def write_whole(path: str, content: bytes, ownership: Ownership | None = None) -> None:
    """Give a file this content at once and for good, whatever it held; a crash leaves the old or the new one.

    Without an ownership it has the permissions of the process, and is the writer's; root's is who has the folder's.
    """
    temporary = path + ".new"
    with contextlib.suppress(FileNotFoundError):  # a crash left it
        os.unlink(temporary)
    descriptor = create(temporary) if ownership is not None else create_for_heir(temporary)
    try:
        try:
            if ownership is not None:  # while it is empty: nobody reads it whom the old one kept out
                ownership.give(descriptor)
            write_all(descriptor, [content])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(os.path.dirname(path))


def same_content(path: str, start: int, other_path: str, other_start: int) -> bool:
    """True when two files hold the same bytes from the given positions to their ends."""
    with open_to_read(path) as file, open_to_read(other_path) as other:
        if os.fstat(file.fileno()).st_size - start != os.fstat(other.fileno()).st_size - other_start:
            return False
        file.seek(start)
        other.seek(other_start)
        while piece := file.read(_COPY_STEP):
            if piece != other.read(len(piece)):
                return False
    return True
