"""files that were replaced on disk -> a context made of them, for the connections to come.

Certificates and revocation lists are renewed by others, at night: certbot, a scheduled task, the hospital's IT. Nobody
should have to think of `dcmstore reload` then.
"""

import contextlib
import os
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from dcmstore.errors import ConfigurationError
from dcmstore.logs import Log
from dcmstore.tls.context import TlsSettings, context_of, notes_of

LOOK_INTERVAL = 60.0  # seconds between two looks at the files, by a connection that comes

_Stamp: TypeAlias = tuple[object, ...]


class Renewal:
    """The context in force. `context` is for any thread, and may take as long as reading the files does.

    New files that can't be used leave the context as it was, and are told of once. Raises ConfigurationError at first.
    """

    def __init__(self, settings: TlsSettings, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp = _stamp_of(settings)
        self._looked = clock()
        self._context = context_of(settings)

    def context(self) -> ssl.SSLContext:
        """For a connection that has come."""
        is_due = self._clock() - self._looked >= LOOK_INTERVAL
        if is_due and self._lock.acquire(blocking=False):  # else another connection is looking
            with contextlib.closing(_Releasing(self._lock)):
                self._looked = self._clock()
                self._look()
        return self._context

    def _look(self) -> None:
        stamp = _stamp_of(self._settings)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._context = context_of(self._settings)
        except ConfigurationError as problem:
            self._log.error("tls.not_renewed", reason=problem, in_force="the certificates from before")
            return
        self._log.info("tls.renewed", files=", ".join(map(str, self._settings.files())))
        for note in notes_of(self._settings):
            self._log.warning("config.warning", text=note)
