"""many like facts -> one a minute, with how many there were: what a peer repeats does not fill the log."""

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from typing import Protocol, TypeAlias

from dcmstore.logs import brief

INTERVAL = 60.0  # seconds between two lines about the same
MAX_KINDS = 1000  # kinds of fact remembered, at most 15 MB: a scan from many addresses can't take more memory
LATE = 1.0  # seconds; what is told later than that says when it happened

Tell: TypeAlias = Callable[..., None]


class Teller(Protocol):
    """Who is told; see `Seldom.tell`."""

    def tell(self, kind: Hashable, event: str, **facts: object) -> None: ...


class _Kind:
    """What is remembered of one kind of fact."""

    __slots__ = ("came", "event", "facts", "held_back", "told")

    def __init__(self, told: float) -> None:
        self.told = told  # when a line was written
        self.held_back = 0  # facts since then
        self.event = ""  # the newest of them
        self.facts: Mapping[str, object] = {}
        self.came = told  # when that came


class Seldom:
    """Tells the first fact of a kind at once, and together those that follow within a minute: `tell_due` does, then.

    Its owner calls that every few seconds. Values are cut as in the log, and what is alike when cut is of one kind.
    A fact that is told late has the time of the last one in `last`. `clock` gives seconds from any start, `now` those
    of `time.time`. For any thread.
    """

    def __init__(
        self, tell: Tell, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._now = now
        self._kinds: dict[Hashable, _Kind] = {}  # the one that was told longest ago comes first
        self._lock = threading.Lock()

    def tell(self, kind: Hashable, event: str, **facts: object) -> None:
        """Facts of one kind are alike to a reader: the same peer, the same reason."""
        kind = tuple(map(brief, kind)) if isinstance(kind, tuple) else brief(kind)
        facts = {name: brief(value) for name, value in facts.items()}
        with self._lock:
            moment = self._clock()
            self._tell_before(moment - INTERVAL)
            known = self._kinds.get(kind)
            if known is None:
                self._kinds[kind] = _Kind(moment)
                self._tell(event, **facts)
            else:
                known.held_back += 1
                known.event, known.facts, known.came = event, facts, moment
            if len(self._kinds) > MAX_KINDS:
                self._forget(next(iter(self._kinds)))

    def tell_due(self) -> None:
        """Tell what has been held back for a minute; cheap when that is nothing."""
        with self._lock:
            self._tell_before(self._clock() - INTERVAL)

    def flush(self) -> None:
        """Tell what has been held back."""
        with self._lock:
            self._tell_before(self._clock())

    def _tell_before(self, moment: float) -> None:
        """Tell of the kinds whose last line is older than that; the oldest come first."""
        while self._kinds and next(iter(self._kinds.values())).told <= moment:
            kind = next(iter(self._kinds))
            if self._forget(kind):
                self._kinds[kind] = _Kind(self._clock())

    def _forget(self, kind: Hashable) -> bool:
        """Tell what was held back, if anything was."""
        known = self._kinds.pop(kind)
        if known.held_back:
            late = {"last": self._time_of(known)} if self._clock() - known.came >= LATE else {}
            self._tell(known.event, **known.facts, times=known.held_back, **late)
        return known.held_back > 0

    def _time_of(self, known: _Kind) -> str:
        moment = self._now() - (self._clock() - known.came)
        return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")
