"""many like facts -> one a minute, with how many there were: what a peer repeats does not fill the log."""

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeAlias

INTERVAL = 60.0  # seconds between two lines about the same
MAX_KINDS = 1000  # kinds of fact remembered; a scan from many addresses can't take more memory

Tell: TypeAlias = Callable[..., None]


class _Kind:
    """What is remembered of one kind of fact."""

    __slots__ = ("event", "facts", "held_back", "told")

    def __init__(self, told: float) -> None:
        self.told = told  # when a line was written
        self.held_back = 0  # facts since then
        self.event = ""  # the newest of them
        self.facts: Mapping[str, object] = {}


class Seldom:
    """Tells the first fact of a kind at once, and those that follow within a minute together. For any thread."""

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._kinds: dict[Hashable, _Kind] = {}
        self._lock = threading.Lock()

    def tell(self, kind: Hashable, event: str, **facts: object) -> None:
        """Facts of one kind are alike to a reader: the same peer, the same reason."""
        with self._lock:
            now = self._clock()
            self._tell_due(now - INTERVAL)
            known = self._kinds.get(kind)
            if known is None:
                self._kinds[kind] = _Kind(now)
                self._tell(event, **facts)
            else:
                known.held_back += 1
                known.event, known.facts = event, facts
            if len(self._kinds) > MAX_KINDS:
                self._forget(next(iter(self._kinds)))

    def flush(self) -> None:
        """Tell what has been held back."""
        with self._lock:
            self._tell_due(self._clock())

    def _tell_due(self, before: float) -> None:
        """Tell of the kinds whose last line is older than that; the oldest come first."""
        while self._kinds and next(iter(self._kinds.values())).told <= before:
            kind = next(iter(self._kinds))
            if self._forget(kind):
                self._kinds[kind] = _Kind(self._clock())

    def _forget(self, kind: Hashable) -> bool:
        """Tell what was held back, if anything was."""
        known = self._kinds.pop(kind)
        if known.held_back:
            self._tell(known.event, **known.facts, times=known.held_back)
        return known.held_back > 0
