"""a queue, and a new one beside it -> the new one in its place; a crash in between loses neither.

Without SQLAlchemy, for the start of a receiver.
"""

import contextlib
import glob
import os
from datetime import datetime

from dcmstore.storage import files

NEW = "-new"  # behind the name of the queue: the one that is to take its place
_ASIDE = "-damaged-"  # behind the name of the queue, and the time behind that
BESIDE = ("-wal", "-shm")  # files of SQLite, without which the main one is not whole


def last_written(path: str) -> float | None:
    """When, in seconds of time.time; None where there is no queue."""
    moments = []
    for suffix in ("", "-wal"):
        with contextlib.suppress(OSError):
            moments.append(os.stat(path + suffix).st_mtime)
    return max(moments, default=None)


def finish(path: str) -> str:
    """Go on where a crash came between; return where the old one lies now, empty where none came between.

    For a moment when nobody has the queue open.
    """
    if not os.path.lexists(path + NEW):
        return ""
    aside = max(_names_aside(path), default="")
    try:
        if os.path.lexists(path):
            if not _is_without_wal(path, aside):
                return ""
            files.give_name(path, aside)
        files.give_name(path + NEW, path)
    except OSError:  # then whoever opens it finds the old one, or makes one
        return ""
    return aside


def _names_aside(path: str) -> set[str]:
    """What was moved aside, whole or in part, by the name of its main file."""
    found = glob.glob(f"{glob.escape(path)}{_ASIDE}*")
    return {name.removesuffix("-wal").removesuffix("-shm") for name in found}


def _is_without_wal(path: str, aside: str) -> bool:
    """Whether the queue's -wal was moved already: alone, the queue would pass for an older one."""
    return os.path.lexists(f"{aside}-wal") and not (os.path.lexists(aside) or os.path.lexists(f"{path}-wal"))


def discard(path: str) -> None:
    """Remove a new one that is not needed, or not whole."""
    for suffix in ("", *BESIDE):
        with contextlib.suppress(OSError):
            os.remove(path + NEW + suffix)


def name_aside(path: str, now: float) -> str:
    """A name that is free."""
    aside = first = f"{path}{_ASIDE}{datetime.fromtimestamp(now):%Y%m%d-%H%M%S}"
    number = 2
    while os.path.lexists(aside):
        aside, number = f"{first}-{number}", number + 1
    return aside


def replace(path: str, aside: str) -> bool:
    """Move the old one to `aside`, and the new one in its place; false where somebody made another meanwhile.

    Whoever has the old one open sees that, and opens the new one. Raises OSError; then all is where it was.
    """
    moved: list[str] = []
    try:
        # The main one last: who opens it without its -wal makes an empty one, but without it a -wal is deleted.
        for suffix in (*BESIDE, ""):
            if not suffix or os.path.lexists(path + suffix):
                files.give_name(path + suffix, aside + suffix)
                moved.append(suffix)
        is_free = not os.path.lexists(path)
        if is_free:
            _remove_what_was_made_beside(path)
            is_free = _took_place(path)
    except OSError:
        for suffix in reversed(moved):
            with contextlib.suppress(OSError):
                files.give_name(aside + suffix, path + suffix)
        raise
    with contextlib.suppress(OSError):  # it is done, and to be told
        files.sync_folder(os.path.dirname(os.path.abspath(path)))
    return is_free


def _remove_what_was_made_beside(path: str) -> None:
    """By who opened the old one without them: read together with the new one, they would damage it."""
    for suffix in BESIDE:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path + suffix)


def _took_place(path: str) -> bool:
    try:
        files.give_name(path + NEW, path)
    except FileExistsError:
        return False
    return True
