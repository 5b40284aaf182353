"""facts -> lines: one line an event, `time LEVEL event key=value …`, written behind everybody's back.

Callers only queue a fact; one thread formats and writes what has gathered, in one go. A log that can't keep up, or
whose pipe nobody reads, loses lines and says how many, and never holds up a store.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Protocol, TypeAlias

from dcmstore.journal import JournalSink, is_journal

MAX_QUEUED = 10_000  # lines, 3 to 30 MB; two to three seconds of the fastest sender
MAX_BATCH = 1_000  # lines written in one go
GATHER = 0.02  # seconds between two writes, in which lines gather; a lone line is written at once
MAX_VALUE = 400  # characters of one value; the longest path that Windows' tools show is 260
CLOSE_WAIT = 5.0  # seconds that the last lines may take at the end

_Fact: TypeAlias = tuple[float, "Level", str, Mapping[str, object]]
_Order: TypeAlias = Callable[[], None]  # what the thread does between the facts before and those behind it

_PLAIN = re.compile(r"""[^\s"'=\\]+""")


class Level(IntEnum):
    """How much a line matters; the names are those of `log-level`."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Sink(Protocol):
    """Where lines go. `write` may raise OSError; `fault` is what went wrong without a line being lost."""

    name: str
    fault: str

    def write(self, text: str) -> None: ...

    def close(self) -> None: ...


class StreamSink:
    """A stream of somebody else, such as standard error."""

    name = "console"
    fault = ""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def close(self) -> None:
        """The stream is not ours to close."""


class FileSink:
    """A file that is put aside as `.1`, `.2` … before it grows over its size; the oldest are removed.

    `max_size` is in bytes, `kept` how many are kept aside, `mode` the permissions of a new one, less the umask. Raises
    OSError when the file can't be opened.
    """

    def __init__(self, path: Path, max_size: int, kept: int, *, mode: int = 0o666) -> None:
        self._path = path
        self._mode = mode
        self._max_size = max_size
        self._kept = kept
        self.name = str(path)
        self.fault = ""
        self._open()

    def write(self, text: str) -> None:
        encoded = text.encode("utf-8", "backslashreplace")
        if self._size and self._size + len(encoded) > self._max_size:
            self._put_aside()
        self._size += len(encoded)
        while encoded:  # a full disk takes a part
            encoded = encoded[self._file.write(encoded) :]

    def close(self) -> None:
        self._file.close()

    def _put_aside(self) -> None:
        """Where somebody holds the file open or the folder can't be written, go on, and try after as much again."""
        self._file.close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._kept + 1))]
        try:
            for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
                if newer.exists():
                    newer.replace(older)
        except OSError as error:
            self.fault = f"{error.filename}: {error.strerror}"
        self._open()
        if self.fault:
            self._size = 0

    def _open(self) -> None:
        self._file = FileIO(self._path, "a", opener=lambda path, flags: os.open(path, flags, self._mode))
        self._size = self._file.tell()


def quote(value: object) -> str:
    """A value as it stands in a line: plain where that is unmistakable, else in quotes with escapes."""
    text = str(value)
    if len(text) > MAX_VALUE:
        text = f"{text[:MAX_VALUE]}… ({len(text)} characters)"
    is_printable = text.isprintable()
    if is_printable and _PLAIN.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=not is_printable)


def line(event: str, facts: Mapping[str, object]) -> str:
    """One event as text, without time and level."""
    return " ".join([event, *[f"{key}={quote(value)}" for key, value in facts.items() if value is not None]])


class Log:
    """The one log of a process. `close` writes what is queued."""

    def __init__(self, sinks: Sequence[Sink], level: str = "info") -> None:
        self._sinks = sinks
        self._missed: dict[Sink, int] = {}  # lines that a sink could not take since it last took one
        self._level = Level[level.upper()]
        self.is_debug = self._level <= Level.DEBUG
        self._queue: SimpleQueue[_Fact | _Order] = SimpleQueue()
        self._is_open = True
        self._closing = threading.Event()
        self._dropped = 0
        self._second = 0
        self._stamp = ("", "")  # of that second: what stands in front of the milliseconds, and behind
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def debug(self, event: str, **facts: object) -> None:
        self._put(Level.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        self._put(Level.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        self._put(Level.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        self._put(Level.ERROR, event, facts)

    def use(self, sinks: Sequence[Sink], level: str) -> None:
        """Write what comes from now on to these sinks, and close the others."""
        self._queue.put(lambda: self._replace_sinks(sinks))
        self._level = Level[level.upper()]
        self.is_debug = self._level <= Level.DEBUG

    def close(self) -> None:
        self._closing.set()
        self._queue.put(self._end)
        self._thread.join(CLOSE_WAIT)

    def _put(self, level: Level, event: str, facts: Mapping[str, object]) -> None:
        if level < self._level:
            return
        if self._queue.qsize() >= MAX_QUEUED:
            self._dropped += 1
            return
        self._queue.put((time.time(), level, event, facts))

    def _run(self) -> None:
        written = 0.0
        while self._is_open:
            facts, order = self._gather(written)
            self._write(facts)
            written = time.monotonic()
            if order is not None:
                order()

    def _gather(self, written: float) -> tuple[list[_Fact], _Order | None]:
        """Wait for facts, or for an order; `written` is when the last ones were."""
        facts: list[_Fact] = []
        item = self._queue.get()
        if not callable(item):
            self._closing.wait(max(written + GATHER - time.monotonic(), 0))
        while not callable(item):
            facts.append(item)
            if len(facts) == MAX_BATCH or self._queue.empty():
                return facts, None
            item = self._queue.get()
        return facts, item

    def _end(self) -> None:
        self._is_open = False
        self._replace_sinks(())

    def _replace_sinks(self, sinks: Sequence[Sink]) -> None:
        for sink in self._sinks:
            sink.close()
        self._sinks, self._missed = sinks, {}

    def _write(self, facts: list[_Fact]) -> None:
        if not facts:
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            facts.append((facts[-1][0], Level.WARNING, "log.dropped", {"lines": dropped}))
        text = "".join(map(self._format, facts))
        for sink in self._sinks:
            missed = self._missed.get(sink, 0)
            told = self._format((facts[0][0], Level.WARNING, "log.dropped", {"lines": missed})) if missed else ""
            try:
                sink.write(told + text)
                self._missed[sink] = 0
            except (OSError, ValueError) as error:  # a full disk, a closed terminal: the other sinks say so, once
                self._missed[sink] = missed + len(facts)
                if not missed:
                    self.warning("log.not_written", sink=sink.name, reason=getattr(error, "strerror", None) or error)
            if sink.fault:
                self.warning("log.not_put_aside", reason=sink.fault)
                sink.fault = ""

    def _format(self, fact: _Fact) -> str:
        moment, level, event, facts = fact
        second = int(moment)
        if second != self._second:
            local = time.localtime(second)
            offset = time.strftime("%z", local)
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local), f"{offset[:3]}:{offset[3:]}"
        before, behind = self._stamp
        return f"{before}.{int(moment * 1000) % 1000:03d}{behind} {level.name:7} {line(event, facts)}\n"


def stderr_sinks() -> list[Sink]:
    """Standard error, or nothing where there is none: a Windows service has no console."""
    if sys.stderr is None:
        return []
    return [JournalSink(sys.stderr) if is_journal(sys.stderr) else StreamSink(sys.stderr)]
