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
from dcmstore.tls.transport import TlsError

LOOK_INTERVAL = 60.0  # seconds between two looks at the files, by a connection that comes
NOTE_INTERVAL = 24 * 3600.0  # seconds between two warnings of what expires soon

_WAITING = "until it is mended, who comes to tls-port is refused; it is looked at every minute, no restart is needed"

_Stamp: TypeAlias = tuple[object, ...]


class NotReady(TlsError):
    """There is no certificate to show: whoever came is not to blame."""


class Renewal:
    """The context in force, and who replaces it.

    Raises ConfigurationError when there is none to begin with, unless it `may_wait` for files that can be used: a
    certificate that expired must not keep others from sending without TLS when the machine starts again.

    New files that can't be used leave the context as it was, and are told of once. What expires soon is told every day.
    """

    def __init__(
        self, settings: TlsSettings, log: Log, clock: Callable[[], float] = time.monotonic, *, may_wait: bool = False
    ) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp = _stamp_of(settings)
        self._context: ssl.SSLContext | None = None
        self._told = ""  # what there was against the files
        self._looked = clock()
        try:
            self._context = context_of(settings)
            self._note()
        except ConfigurationError as problem:
            if not may_wait:
                raise
            self._tell(problem)

    def context(self) -> ssl.SSLContext:
        """For a connection that has come. For any thread; may take as long as reading the files does.

        Raises NotReady while there is none.
        """
        if self._clock() - self._looked >= LOOK_INTERVAL and self._lock.acquire(blocking=False):
            try:
                self._looked = self._clock()
                self._look()
            finally:
                self._lock.release()
        if self._context is None:
            raise NotReady(f"there is no certificate to show: {self._told}")
        return self._context

    def _look(self) -> None:
        stamp = _stamp_of(self._settings)
        is_new = stamp != self._stamp or bool(self._told)  # what is not valid yet will be without any change
        self._stamp = stamp
        try:
            if is_new:
                self._context = context_of(self._settings)
                self._told = ""
                self._log.info("tls.renewed", files=", ".join(map(str, self._settings.files())))
            if is_new or self._clock() - self._noted >= NOTE_INTERVAL:
                self._note()
        except ConfigurationError as problem:
            self._tell(problem)

    def _tell(self, problem: ConfigurationError) -> None:
        """Say why files are not used: once, as long as there is nothing else to say."""
        if str(problem) == self._told:
            return
        self._told = str(problem)
        if self._context is not None:
            self._log.error("tls.not_renewed", reason=problem, in_force="the certificates from before")
        else:
            self._log.error("tls.not_ready", reason=problem, what_to_do=_WAITING)

    def _note(self) -> None:
        """Tell what `notes_of` finds. Raises ConfigurationError for a file that is gone."""
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
