"""files that were replaced on disk -> a context made of them, for the connections to come.

Certificates and revocation lists are renewed by others, at night: certbot, a scheduled task, the hospital's IT. Nobody
should have to think of `dcmstore reload` then.
"""

import ssl
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from dcmstore.errors import ConfigurationError
from dcmstore.logs import Log
from dcmstore.tls.context import TlsSettings, context_of, notes_of

LOOK_INTERVAL = 60.0  # seconds between two looks at the files, by a connection that comes
NOTE_INTERVAL = 24 * 3600.0  # seconds between two warnings of what expires soon

_Stamp: TypeAlias = tuple[object, ...]


class Renewal:
    """The context in force, and who replaces it. Raises ConfigurationError when there is none to begin with.

    New files that can't be used leave the context as it was, and are told of once. What expires soon is told every day.
    """

    def __init__(self, settings: TlsSettings, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp = _stamp_of(settings)
        self._context = context_of(settings)
        self._looked = clock()
        self._note()

    def context(self) -> ssl.SSLContext:
        """For a connection that has come. For any thread; may take as long as reading the files does."""
        if self._clock() - self._looked >= LOOK_INTERVAL and self._lock.acquire(blocking=False):
            try:
                self._looked = self._clock()
                self._look()
            finally:
                self._lock.release()
        return self._context

    def _look(self) -> None:
        stamp = _stamp_of(self._settings)
        is_new = stamp != self._stamp
        self._stamp = stamp
        try:
            if is_new:
                self._context = context_of(self._settings)
                self._log.info("tls.renewed", files=", ".join(map(str, self._settings.files())))
            if is_new or self._clock() - self._noted >= NOTE_INTERVAL:
                self._note()
        except ConfigurationError as problem:
            self._log.error("tls.not_renewed", reason=problem, in_force="the certificates from before")

    def _note(self) -> None:
        """Tell what `notes_of` finds. Raises ConfigurationError for a file that has gone."""
        self._noted = self._clock()
        for note in notes_of(self._settings):
            self._log.warning("config.warning", text=note)


def _stamp_of(settings: TlsSettings) -> _Stamp:
    """What changes when one of the files does."""
    stamp: list[object] = []
    for path in settings.files():
        try:
            found = path.stat()
        except OSError as error:
            stamp.append(error.errno)
        else:
            stamp.append((found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(stamp)
