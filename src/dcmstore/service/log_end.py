"""the log -> what a service that was just asked for something has answered: its newest lines."""

from collections.abc import Mapping
from pathlib import Path

from dcmstore import logs


class LogEnd:
    """What is written into a log from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = self._size_now()

    def newest(self, *events: str) -> tuple[str, Mapping[str, str]] | None:
        """The last new line about one of these events: which one, and its facts. A line not yet whole is none."""
        for line in map(logs.parse, reversed(self._lines())):
            if line is not None and line.event in events:
                return line.event, line.facts
        return None

    def _size_now(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def _lines(self) -> list[str]:
        """A log that has become smaller was put aside, and a new one begun."""
        start = self._size if self._size_now() >= self._size else 0
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read().decode("utf-8", "replace").splitlines(keepends=True)
        except OSError:
            return []
