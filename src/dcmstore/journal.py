"""lines -> the journal of systemd: the level becomes its priority, and the time is left to it (sd-daemon(3))."""

import os
import re
import sys
from typing import IO

_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}  # of syslog, as RFC 5424 6.2.1 numbers them
_HEAD = re.compile(r"(?m)^\S+ (?=({}) )".format("|".join(_PRIORITIES)))  # the time, with the level behind it


class JournalSink:
    """Standard error, where the journal reads it: `journalctl --priority warning` then shows what it should."""

    name = "journal"
    fault = ""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(_HEAD.sub(lambda head: f"<{_PRIORITIES[head[1]]}>", text))
        self._stream.flush()

    def close(self) -> None:
        """The stream is not ours to close."""


def is_journal(stream: IO[str]) -> bool:
    """Whether the journal reads this stream: systemd leaves its device and inode in the environment."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def error_mark() -> str:
    """What stands in front of an error on standard error."""
    return f"<{_PRIORITIES['ERROR']}>" if sys.stderr is not None and is_journal(sys.stderr) else ""
