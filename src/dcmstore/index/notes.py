"""an acknowledged instance -> a note: what the index's thread has to know before it looks at the file."""

import time
from collections import deque
from collections.abc import Callable, Collection
from typing import NamedTuple

MAX_NOTES = 50_000  # waiting at once, about 25 MB; what comes beyond is found by a walk over the folders

# Seconds until a file that could not be read is tried again, each time: who scans it or backs it up is done by then.
AGAIN = (1.0, 5.0, 30.0)
MAX_UNREAD = 1000  # such files that wait at once, about 0.5 MB; beyond, the fault is no passing one


class Note(NamedTuple):
    """A file below a root folder, and how it came. `is_new` is false where the very same file was there already.

    `root` is as the system wants to be asked for it.
    """

    root: str
    folders: tuple[str, ...]
    file_name: str
    calling_ae_title: str
    host: str
    came: float  # seconds of the system's clock
    is_new: bool
    association: int  # 0 where it came over none
    at: float  # on a clock that is never set

    @property
    def path(self) -> str:
        """Below the root, with slashes."""
        return "/".join((*self.folders, self.file_name))


class Notes:
    """A queue with room for MAX_NOTES that never makes anybody wait. `dropped` counts what found no room."""

    def __init__(self, wake: Callable[[], None], max_notes: int = MAX_NOTES) -> None:
        self._wake = wake
        self._max_notes = max_notes
        self._notes: deque[Note] = deque()
        self.dropped = 0
        self.last_added = 0.0  # on the monotonic clock

    def __len__(self) -> int:
        return len(self._notes)

    def add(self, note: Note) -> None:  # hot: bench
        self.last_added = time.monotonic()
        if len(self._notes) < self._max_notes:
            self._notes.append(note)
        else:
            self.dropped += 1
        self._wake()

    def oldest(self) -> Note | None:
        """Which `take` would give first."""
        try:
            return self._notes[0]
        except IndexError:
            return None

    def take(self, number: int) -> list[Note]:
        """The oldest notes, so many at most. Only one thread may call it."""
        return [self._notes.popleft() for _ in range(min(number, len(self._notes)))]


class _Waiting(NamedTuple):
    note: Note
    times: int  # that it was tried
    due: float  # on the monotonic clock


class Unread:
    """Notes of files that could not be read, until they can or were tried often enough. For one thread."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def due(self, now: float, number: int) -> list[Note]:
        """Those to be tried by now, so many at most; each stays until it is `done` or has `failed` for good."""
        return [waiting.note for waiting in self._waiting.values() if waiting.due <= now][:number]

    def notes(self) -> Collection[Note]:
        return [waiting.note for waiting in self._waiting.values()]

    def done(self, note: Note) -> None:
        """There is no more to enter. What only came again says nothing of an object that has replaced another."""
        waiting = self._waiting.get(_file(note))
        if waiting is not None and (note.is_new or not waiting.note.is_new):
            del self._waiting[_file(note)]

    def failed(self, note: Note, now: float) -> bool:
        """It could not be read; false where it is not tried again."""
        before = self._waiting.pop(_file(note), None)
        times = 0 if before is None else before.times
        if times == len(AGAIN) or len(self._waiting) >= MAX_UNREAD:
            return False
        kept = before.note if before is not None and not note.is_new else note
        self._waiting[_file(note)] = _Waiting(kept, times + 1, now + AGAIN[times])
        return True


def _file(note: Note) -> tuple[str, str]:
    return note.root, note.path
