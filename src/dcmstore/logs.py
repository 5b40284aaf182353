"""facts -> lines: one line an event, `time LEVEL event key=value …`, written behind everybody's back.

Callers only queue a fact; one thread formats and writes what has gathered, in one go. A log that can't keep up, or
whose pipe nobody reads, loses lines and says how many, and never holds up a store.
"""

import contextlib
import errno
import json
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Protocol, TypeAlias

from dcmstore import inheriting
from dcmstore.journal import JournalSink, is_journal

MAX_QUEUED = 10_000  # lines, 8 MB, or 60 where a peer fills three values of each; two to three seconds of the fastest
MAX_BATCH = 1_000  # lines written in one go
GATHER = 0.02  # seconds between two writes, in which lines gather; a lone line is written at once
MAX_VALUE = 400  # characters of one value, cut or not; the longest path that Windows' tools show is 260
CLOSE_WAIT = 5.0  # seconds that the last lines may take at the end

# When, what happened, and the facts; without facts it is whole lines, formatted already
_Fact: TypeAlias = tuple[float, "Level", str, Mapping[str, object] | None]
_Order: TypeAlias = Callable[[], None]  # what the thread does between the facts before and those behind it

_PLAIN_VALUE = r"""[^\s"'=\\]+"""
_QUOTED_VALUE = r'"(?:[^"\\\n]|\\.)*"'
_PLAIN = re.compile(_PLAIN_VALUE)
_FACT = re.compile(rf" (\w+)=({_PLAIN_VALUE}|{_QUOTED_VALUE})")
_LINE = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d) (DEBUG|INFO|WARNING|ERROR) +"
    rf"(\S+)((?: \w+=(?:{_PLAIN_VALUE}|{_QUOTED_VALUE}))*)\n"
)


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
    OSError when the file can't be opened. Text that is written ends in a newline; what a full disk or a power cut has
    left of a line stays, and the next text begins a new one.
    """

    def __init__(self, path: Path, max_size: int, kept: int, *, mode: int = 0o666) -> None:
        self._path = path
        self._mode = mode
        self._max_size = max_size
        self._kept = kept
        self.name = str(path)
        self.fault = ""
        self._is_torn = False  # the file ends within a line
        self._size = 0  # bytes
        self._file: FileIO | None = self._opened()

    def write(self, text: str) -> None:
        encoded = text.encode("utf-8", "backslashreplace")
        if self._file is None:  # it was put aside, and a new one could not be opened yet
            self._file = self._opened()
        elif self._size and self._size + len(encoded) > self._max_size:
            self._put_aside()
        if self._is_torn:
            encoded = b"\n" + encoded
        while encoded:  # a full disk takes a part
            written = self._file.write(encoded)
            self._size += written
            self._is_torn = not encoded[:written].endswith(b"\n")
            encoded = encoded[written:]

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # a share that takes nothing; it is closed all the same
                file.close()

    def _put_aside(self) -> None:
        """Where somebody holds the file open or the folder can't be written, go on, and try after as much again."""
        self.close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._kept + 1))]
        fault = ""
        try:
            # Up to the first gap: when the file itself can't be moved, the next try moves none of the older ones again.
            gap = next((number for number, name in enumerate(names) if not name.exists()), self._kept)
            for number in range(gap, 0, -1):
                names[number - 1].replace(names[number])
        except OSError as error:
            self.fault = fault = f"{error.filename}: {error.strerror}"
        self._file = self._opened()
        if fault:
            self._size = 0

    def _opened(self) -> FileIO:
        _require_file(self._path)
        file = FileIO(self._path, "a", opener=lambda path, flags: inheriting.append(path, flags, self._mode))
        self._size = file.tell()
        self._is_torn = self._size > 0 and _ends_within_a_line(self._path)
        return file


def _require_file(path: Path) -> None:
    """Looked at before it is opened: the open of a FIFO that nobody reads never returns."""
    with contextlib.suppress(FileNotFoundError):
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # the open of a folder has its own words
            raise OSError(errno.EINVAL, "a pipe or a device has that name; remove it", str(path))


def _ends_within_a_line(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # it may be written and not read, and an empty line costs nothing
        return True


def brief(value: object) -> object:
    """A value as it may wait for its line: a number or nothing, else text that is no longer than the line shows it.

    So a fact holds nothing else in memory: no text of a peer, and no frames of an exception. What is brief stays as
    it is.
    """
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value)
    if len(text) <= MAX_VALUE:
        return text
    mark = f"… ({len(text)} characters)"
    return text[: MAX_VALUE - len(mark)] + mark


def quote(value: object) -> str:
    """A value as it stands in a line: plain where that is unmistakable, else in quotes with escapes."""
    text = str(brief(value))
    is_printable = text.isprintable()
    if is_printable and _PLAIN.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=not is_printable)


def line(event: str, facts: Mapping[str, object]) -> str:
    """One event as text, without time and level."""
    return " ".join([event, *[f"{key}={quote(value)}" for key, value in facts.items() if value is not None]])


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log, read again. The moment bears its time zone; values are text, the long ones cut."""

    moment: datetime
    level: Level
    event: str
    facts: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """A fact, empty where the line does not have it."""
        return self.facts.get(name, "")


def parse(text: str) -> Line | None:
    """What a Log wrote as this line, its end included, or None for what is none or a part of one."""
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    moment, level, event, facts = match.groups()
    try:
        values = {name: _unquoted(value) for name, value in _FACT.findall(facts)}
        return Line(datetime.fromisoformat(moment), Level[level], event, values)
    except ValueError:  # a month 13, an escape that is cut off
        return None


def _unquoted(value: str) -> str:
    return str(json.loads(value)) if value.startswith('"') else value


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
        self._lock = threading.Lock()
        self._dropped = 0  # under the lock
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

    def pass_on(self, lines: str) -> None:
        """Write whole lines that another Log has formatted, behind what was told before."""
        for one in lines.splitlines(keepends=True):
            self._put_fact((time.time(), Level.INFO, one, None))

    def use(self, sinks: Sequence[Sink], level: str) -> None:
        """Write what comes from now on to these sinks, and close the others."""
        self._queue.put(lambda: self._replace_sinks(sinks))
        self._level = Level[level.upper()]
        self.is_debug = self._level <= Level.DEBUG

    def flush(self) -> None:
        """Return when what was told is written, or was not for CLOSE_WAIT seconds."""
        written = threading.Event()
        self._queue.put(written.set)
        written.wait(CLOSE_WAIT)

    def close(self) -> None:
        self._closing.set()
        self._queue.put(self._end)
        self._thread.join(CLOSE_WAIT)

    def _put(self, level: Level, event: str, facts: Mapping[str, object]) -> None:
        if level >= self._level:
            self._put_fact((time.time(), level, event, {name: brief(value) for name, value in facts.items()}))

    def _put_fact(self, fact: _Fact) -> None:
        if self._queue.qsize() >= MAX_QUEUED:
            with self._lock:
                self._dropped += 1
            return
        self._queue.put(fact)

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
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
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
        if facts is None:
            return event
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
