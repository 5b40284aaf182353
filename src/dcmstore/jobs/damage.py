"""a damaged queue -> a new one in its place: what comes from then on has jobs again.

For the one thread that has the queue open for good: on Windows a file that somebody has open can't be put aside.
"""

import contextlib
import math
import os
from dataclasses import dataclass

from dcmstore.errors import DcmStoreError, reason_of
from dcmstore.jobs import replacing
from dcmstore.jobs.queue import Queue, QueueTrouble
from dcmstore.storage import files

# What came shortly before the last write may not have been in it yet. What was, is in the index, and not found anew.
SLACK = 3600.0  # seconds

_ADVICE = "end what has it open, make room on its disk, and let dcmstore write its folder"


@dataclass(frozen=True, slots=True)
class PutAside:
    """Where a damaged queue is now, and what was wrong with it."""

    path: str
    reason: str


def put_aside(path: str, like: str, patience: float, now: float, written: float = math.inf) -> PutAside | None:
    """Put a new queue in the place of a damaged one; return None where it is not, or is of another format.

    The new one says since when the old one may not have had all jobs, and belongs to who has the folder `like`. The
    old one was `written` last before anything was lost: what this run has written since, says nothing of that. Raises
    QueueTrouble where nobody can say, or it can't be put aside; then all is as it was.
    """
    trouble = _trouble_of(path, like, patience)
    if trouble is None:
        replacing.discard(path)
        return None
    last = replacing.last_written(path)
    since = min(now if last is None else last - SLACK, written - SLACK, now)
    try:
        _make_new(path, like, patience, since)
        aside = replacing.name_aside(path, now)
        is_ours = replacing.replace(path, aside)
    except (OSError, QueueTrouble) as error:
        why = error.reason if isinstance(error, QueueTrouble) else reason_of(error)
        raise QueueTrouble(path, f"{trouble.reason}, and it can't be put aside: {why}", _ADVICE) from error
    if not is_ours:
        with contextlib.suppress(DcmStoreError):  # that it was put aside is to be told in any case
            _say(path, like, patience, since)
        replacing.discard(path)
    return PutAside(aside, trouble.reason)


def _trouble_of(path: str, like: str, patience: float) -> QueueTrouble | None:
    """What makes a file useless, looked for with eyes that have not seen it before: a disk may have read wrongly."""
    try:
        with contextlib.closing(Queue(path, like=like, patience=patience)) as queue:
            queue.examine()
    except QueueTrouble as trouble:
        if not trouble.is_damaged:
            raise
        return None if trouble.is_other_format else trouble
    return None


def _make_new(path: str, like: str, patience: float, since: float) -> None:
    """Whole, and on disk under its own name; one that is left of an attempt before knows of an earlier moment."""
    new = path + replacing.NEW
    try:
        _say(new, like, patience, since)
    except QueueTrouble as trouble:
        if not trouble.is_damaged:
            raise
        replacing.discard(path)
        _say(new, like, patience, since)
    if os.path.lexists(f"{new}-wal"):  # which SQLite removes when all of it is in the main one
        raise QueueTrouble(new, "the new one is not whole without its -wal", _ADVICE)
    files.sync_folder(os.path.dirname(os.path.abspath(path)))


def _say(path: str, like: str, patience: float, since: float) -> None:
    with contextlib.closing(Queue(path, like=like, patience=patience)) as queue:
        queue.lacks(since)
