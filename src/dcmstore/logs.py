"""facts -> lines: one line an event, `time LEVEL event key=value …`, written behind everybody's back.

Callers only queue a fact; one thread formats and writes. A log that can't keep up, or whose pipe nobody reads,
loses lines and says how many, and never holds up a store.
"""

import json
import logging
import logging.handlers
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

MAX_QUEUED = 10_000  # lines, about 5 MB; two to three seconds of the fastest sender
MEGABYTE = 1024 * 1024
CLOSE_WAIT = 5.0  # seconds that the last lines may take at the end

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_Fact: TypeAlias = tuple[float, int, str, Mapping[str, object]]


def quote(value: object) -> str:
    """A value as it stands in a line: plain where that is unmistakable, else in quotes with escapes."""
    text = str(value)
    if text and not any(character in " \"=\\'" for character in text) and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def line(event: str, facts: Mapping[str, object]) -> str:
    """One event as text, without time and level."""
    return " ".join([event, *(f"{key}={quote(value)}" for key, value in facts.items() if value is not None)])


class Log:
    """The one log of a process. `close` writes what is queued."""

    def __init__(self, handlers: Sequence[logging.Handler], level: str = "info") -> None:
        self._handlers = handlers
        self._level = LEVELS[level]
        self.is_debug = self._level <= logging.DEBUG
        self._queue: SimpleQueue[_Fact | None] = SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def debug(self, event: str, **facts: object) -> None:
        self._put(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        self._put(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        self._put(logging.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        self._put(logging.ERROR, event, facts)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(CLOSE_WAIT)

    def _put(self, level: int, event: str, facts: Mapping[str, object]) -> None:
        if level < self._level:
            return
        if self._queue.qsize() >= MAX_QUEUED:
            self._dropped += 1
            return
        self._queue.put((datetime.now().timestamp(), level, event, facts))

    def _run(self) -> None:
        while (fact := self._queue.get()) is not None:
            self._write(*fact)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._write(fact[0], logging.WARNING, "log.dropped", {"lines": dropped})
        for handler in self._handlers:
            handler.close()

    def _write(self, time: float, level: int, event: str, facts: Mapping[str, object]) -> None:
        stamp = datetime.fromtimestamp(time).astimezone().isoformat(timespec="milliseconds")
        text = f"{stamp} {logging.getLevelName(level):7} {line(event, facts)}"
        record = logging.makeLogRecord({"levelno": level, "msg": text})
        for handler in self._handlers:
            handler.handle(record)


def stderr_handler() -> list[logging.Handler]:
    """Standard error, or nothing where there is none: a Windows service has no console."""
    return [logging.StreamHandler(sys.stderr)] if sys.stderr is not None else []


def file_handler(path: Path, megabytes: int, kept: int) -> logging.Handler:
    """A file that is renamed to `.1`, `.2` … when it is full, of which `kept` stay. Raises OSError."""
    return logging.handlers.RotatingFileHandler(path, maxBytes=megabytes * MEGABYTE, backupCount=kept, encoding="utf-8")
