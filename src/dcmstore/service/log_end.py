"""the log -> what a service that was just asked for something has answered: its newest lines."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

_FACT = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


class LogEnd:
    """What is written into a log from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = self._size_now()

    def newest(self, *events: str) -> tuple[str, Mapping[str, str]] | None:
        """The last new line about one of these events: which one, and its facts."""
        for line in reversed(self._lines()):
            _, _, event, *rest = [*line.split(maxsplit=3), "", "", ""]  # behind time and level
            if event in events:
                return event, {name: _unquoted(value) for name, value in _FACT.findall(rest[0])}
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
                return file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []


def _unquoted(value: str) -> str:
    return str(json.loads(value)) if value.startswith('"') else value
