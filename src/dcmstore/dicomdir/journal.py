"""what is pending -> a file: it survives the end of the process, and of the power."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator

from dcmstore.storage import files

MAX_SETTLED_LINES = 10_000  # in the journal, about 2 MB, before they are removed although others are pending

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


class Journal:
    """The file of what is pending: a JSON array [folder, path] a line. What a crash tore is skipped."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.path = path
        self.lines = 0
        self.is_synced = True
        self.entries = list(_read(path))
        self._descriptor = -1
        self._rewrite(self.entries)

    def append(self, folder: str, path: str) -> None:
        self.is_synced = False
        files.write_all(self._descriptor, [_line(folder, path)])
        self.lines += 1

    def settle(self, pending: list[tuple[str, str]]) -> None:
        """Forget what is no longer pending: at once when nothing is, else when it has become much."""
        if not pending:
            os.ftruncate(self._descriptor, 0)
            self.lines = 0
        elif self.lines > 2 * len(pending) + MAX_SETTLED_LINES:
            self._rewrite(pending)

    def sync(self) -> None:
        """Make what was appended survive a power cut, soon but not on the appender's time."""
        if not self.is_synced:
            self.is_synced = True
            os.fsync(self._descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _rewrite(self, pending: list[tuple[str, str]]) -> None:
        self.close()  # Windows renames over no open file
        try:
            files.write_whole(self.path, b"".join(itertools.starmap(_line, pending)))
            self.lines = len(pending)
        finally:
            self._descriptor = os.open(self.path, _APPEND, files.FILE_MODE)


def _line(folder: str, path: str) -> bytes:
    return json.dumps([folder, path]).encode("ascii") + b"\n"


def _read(path: str) -> Iterator[tuple[str, str]]:
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            match json.loads(line):
                case [str(folder), str(name)]:
                    yield folder, name
