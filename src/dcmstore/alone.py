"""a folder -> one process at a time: the folder of an ini has one receiver, a DICOMDIR one writer.

What holds a folder is the system's and ends with the process, however that ends; nothing is written.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from dcmstore.errors import DcmStoreError

PATIENCE = 10.0  # seconds for a turn; a DICOMDIR takes under one
PAUSE = 0.02  # seconds between two looks whether it has come


class NotAlone(DcmStoreError):
    """Another receiver works with this folder; the text says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another receiver works with the folder {folder}, where its log, index and queue are")


if sys.platform == "win32":
    import ctypes
    import hashlib

    _ALREADY_EXISTS, _ACCESS_DENIED = 183, 5
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.CreateMutexW.restype = ctypes.c_void_p
    _kernel32.CreateMutexW.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_wchar_p)
    _kernel32.CloseHandle.argtypes = (ctypes.c_void_p,)

    @contextlib.contextmanager
    def held(folder: Path) -> Iterator[None]:
        """Keep other receivers out of the folder. Raises NotAlone."""
        digest = hashlib.sha256(os.path.normcase(folder.resolve()).encode("utf-8", "surrogatepass")).hexdigest()
        mutex = _kernel32.CreateMutexW(None, 0, f"Global\\dcmstore-{digest}")  # Global: also among services
        error = ctypes.get_last_error()
        try:
            if error == _ALREADY_EXISTS or (mutex is None and error == _ACCESS_DENIED):  # somebody else's
                raise NotAlone(folder)
            yield
        finally:
            if mutex is not None:
                _kernel32.CloseHandle(mutex)

    @contextlib.contextmanager
    def in_turn(folder: Path) -> Iterator[None]:
        """Here a file that one process has open keeps others from replacing it, and they try again."""
        yield
else:
    import fcntl

    @contextlib.contextmanager
    def held(folder: Path) -> Iterator[None]:
        """Keep other receivers out of the folder. Raises NotAlone."""
        with _opened(folder) as descriptor:
            if not _lock(descriptor):
                raise NotAlone(folder)
            yield

    @contextlib.contextmanager
    def in_turn(folder: Path) -> Iterator[None]:
        """What several processes do in one folder, one after the other, where its disk can lock folders.

        Raises OSError where another one does not come to an end.
        """
        end = time.monotonic() + PATIENCE
        with _opened(folder) as descriptor:
            while not _lock(descriptor):
                if time.monotonic() > end:
                    raise OSError(errno.EAGAIN, "another program has locked it", str(folder))
                time.sleep(PAUSE)
            yield

    @contextlib.contextmanager
    def _opened(folder: Path) -> Iterator[int]:
        """-1 where it may not be listed."""
        descriptor = -1
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _lock(descriptor: int) -> bool:
        """Lock a folder until it is closed; false where another has, true where nobody can."""
        if descriptor >= 0:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # a share that locks no folders
                pass
        return True
