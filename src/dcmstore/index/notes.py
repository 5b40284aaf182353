"""an acknowledged instance -> a note: what the index's thread has to know before it looks at the file."""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

MAX_NOTES = 50_000  # waiting at once, about 25 MB; what comes beyond is found by a walk over the folders


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
