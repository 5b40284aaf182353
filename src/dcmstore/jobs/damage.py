"""a damaged queue -> a new one in its place: what comes from then on has jobs again.

For the one thread that has the queue open for good: on Windows a file that somebody has open can't be put aside.
"""

import contextlib
import os
from dataclasses import dataclass
from datetime import datetime

from dcmstore.errors import reason_of
from dcmstore.jobs.queue import Queue, QueueTrouble

_BESIDE = ("-wal", "-shm")  # files of SQLite, without which the main one is not whole

# What came shortly before the last write may not have been in it yet. What was, is in the index, and not found anew.
SLACK = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class PutAside:
    """Where a damaged queue is now, what was wrong with it, and since when it may not have had all jobs."""

    path: str
    reason: str
    lacks: float


def put_aside(path: str, like: str, patience: float, now: float) -> PutAside | None:
    """Put the queue aside if it is damaged; return None where it is not, or is of another format.

    One that is made meanwhile belongs to who has the folder `like`. Raises QueueTrouble where nobody can say, or it
    can't be put aside.
    """
    trouble = _trouble_of(path, like, patience)
    if trouble is None:
        return None
    try:
        lacks = min(_last_written(path) - SLACK, now)
        return PutAside(_renamed(path, now), trouble.reason, lacks)
    except OSError as error:
        reason = f"{trouble.reason}, and it can't be put aside: {reason_of(error)}"
        raise QueueTrouble(path, reason, "end what has it open, and let dcmstore write its folder") from error


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


def _last_written(path: str) -> float:
    moments = []
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            moments.append(os.stat(path + suffix).st_mtime)
    return max(moments)


def _renamed(path: str, now: float) -> str:
    """Whoever has it open sees that it is replaced, and opens the new one."""
    aside = first = f"{path}-damaged-{datetime.fromtimestamp(now):%Y%m%d-%H%M%S}"
    number = 2
    while os.path.lexists(aside):
        aside, number = f"{first}-{number}", number + 1
    os.rename(path, aside)
    for suffix in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    return aside
