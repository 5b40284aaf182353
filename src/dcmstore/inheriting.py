"""what root makes -> who has the folder that it is made in: else a receiver that is not root can't go on with it.

`sudo dcmstore import`, or a receiver that was tried as root, would leave folders that the service can't write to. Who
has the folder may change it at any moment, so it is opened once, and nothing is given away but what was made in that.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple


class Heir(NamedTuple):
    owner: int
    group: int


def heir_of(folder: str | int) -> Heir | None:
    """Who has a folder, or an open one; None where what is made in it is the right one's anyway. Raises OSError."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    status = os.stat(folder)
    return Heir(status.st_uid, status.st_gid) if status.st_uid != 0 else None


def give(descriptor: int, heir: Heir | None) -> None:
    """Give an open file or folder to an heir. A share that knows no owners, or not root, keeps it as it is."""
    if sys.platform != "win32" and heir is not None:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, *heir)


def create(path: str, flags: int, mode: int) -> int:
    """As os.open with flags that make a new file; it belongs to who has the folder that it is in."""
    if not _is_anothers(path):
        return os.open(path, flags, mode)
    with _folder_of(path) as (folder, name):
        descriptor = os.open(name, flags, mode, dir_fd=folder)
        give(descriptor, heir_of(folder))
    return descriptor


def append(path: str, flags: int, mode: int) -> int:
    """As os.open with flags for a file that is made where it is not there; a new one belongs as in `create`.

    Whoever else has the folder could make root write elsewhere by a link, so none is followed there.
    """
    if not _is_anothers(path):
        return os.open(path, flags, mode)
    try:
        return create(path, flags | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return os.open(path, (flags & ~os.O_CREAT) | os.O_NOFOLLOW)


def make_folder(path: str) -> None:
    """As os.mkdir; it belongs to who has the folder that it is in."""
    if not _is_anothers(path):
        os.mkdir(path)
        return
    with _folder_of(path) as (folder, name):
        os.mkdir(name, dir_fd=folder)
        heir = heir_of(folder)
        if heir is not None:
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            give(made, heir)
            os.close(made)


def _is_anothers(path: str) -> bool:
    """Whether what root makes at a path is somebody else's. Raises OSError."""
    return heir_of(os.path.dirname(path) or ".") is not None


@contextlib.contextmanager
def _folder_of(path: str) -> Iterator[tuple[int, str]]:
    """The folder that a path lies in, open, and its name in there. What is raised names the path."""
    parent, name = os.path.split(path)
    try:
        folder = os.open(parent or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield folder, name
        finally:
            os.close(folder)
    except OSError as error:
        error.filename = path
        raise
