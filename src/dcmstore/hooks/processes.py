"""arguments -> a program that runs -> its exit code and the end of its output, within a time."""

import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import IO

from dcmstore.hooks import groups
from dcmstore.hooks.groups import Group

MAX_OUTPUT = 2000  # characters kept of the end of what a program writes
_MAX_BYTES = 4 * MAX_OUTPUT  # of UTF-8
GRACE = 3.0  # seconds to end by itself when it is asked to
_DRAIN = 1.0  # seconds that output may take to arrive once all is ended
# Seconds that the system may take to end what was killed. A program that waits for a lost disk does not end at all.
_KILLED = 5.0


class News(Enum):
    """Why waiting for a program is over."""

    ENDED = "it has ended"
    STOPPED = "the receiver stops"
    TIMED_OUT = "it takes too long"


class Program:
    """A program at work. `wait`, and then `end` unless it has ended; `stop` is for other threads.

    Whatever it has started ends with it.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Raises OSError when it can't be started."""
        self.exit_code = 0
        self._group = Group(arguments, environment)
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._kept = bytearray()
        self._is_over = threading.Event()
        self._reader = threading.Thread(target=self._read, name="hook output", daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, name="hook", daemon=True).start()

    def wait(self, seconds: float) -> News:
        try:
            return self._news.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            return News.TIMED_OUT

    def has_ended(self, seconds: float) -> bool:
        """Whether it has within so many seconds, whatever else is wanted of it."""
        while (news := self.wait(seconds)) is News.STOPPED:
            pass
        return news is News.ENDED

    def stop(self) -> None:
        """Let the one that waits know that the receiver stops."""
        self._news.put(News.STOPPED)

    def end(self) -> None:
        """Ask it to end, and end it if it does not; return in any case, a few seconds later at most."""
        self._group.ask_to_end()
        if not self.has_ended(GRACE):
            self._group.kill()
            self.has_ended(_KILLED)

    def output(self) -> str:
        """The end of what it wrote, MAX_OUTPUT characters at most."""
        self._reader.join(_DRAIN)
        self._is_over.set()
        return _decoded(bytes(self._kept))[-MAX_OUTPUT:]

    def _watch(self) -> None:
        self._group.wait()
        self._group.kill()  # what it left behind
        self.exit_code = self._group.release()
        self._news.put(News.ENDED)

    def _read(self) -> None:
        stream: IO[bytes] | None = self._group.process.stdout
        if stream is None:
            raise AssertionError("its output is a pipe")
        with stream:
            for piece in groups.output_of(stream, self._is_over):
                self._kept += piece
                del self._kept[:-_MAX_BYTES]


def _decoded(output: bytes) -> str:
    """As UTF-8, else as consoles of Windows write; the beginning may be the rest of a character."""
    start = next((index for index, byte in enumerate(output[:4]) if byte & 0xC0 != 0x80), 0)
    try:
        return output[start:].decode("utf-8")
    except UnicodeDecodeError:
        return output.decode("oem" if sys.platform == "win32" else "utf-8", "replace")
