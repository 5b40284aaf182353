"""what root makes -> who has the folder that it is made in: else a receiver that is not root can't go on with it.

`sudo dcmstore import`, or a receiver that was tried as root, would leave folders that the service can't write to.
"""

import contextlib
import os
import sys
from typing import NamedTuple


class Heir(NamedTuple):
    owner: int
    group: int


def heir_of(folder: str) -> Heir | None:
    """Who has a folder; None where what is made in it belongs to the right one anyway. Raises OSError."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    status = os.stat(folder)
    return Heir(status.st_uid, status.st_gid) if status.st_uid != 0 else None


def give(descriptor: int, heir: Heir | None) -> None:
    """Give an open file or folder to an heir. A share that knows no owners, or not root, keeps it as it is."""
    if sys.platform != "win32" and heir is not None:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, *heir)


def make_folder(path: str) -> None:
    """As os.mkdir; it belongs to who has the folder that it is in."""
    os.mkdir(path)
    heir = heir_of(os.path.dirname(path) or ".")
    if sys.platform == "win32" or heir is None:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        give(descriptor, heir)
    finally:
        os.close(descriptor)
