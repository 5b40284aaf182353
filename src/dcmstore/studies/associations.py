"""began, ended -> which associations are open: told by any thread, asked by the index's."""

import math
import time
from collections.abc import Callable

MAX_ASSOCIATIONS = 100_000  # that ended and were not looked at yet; where nobody looks, the memory has to end


class Associations:
    """Those that are open, and those that ended after the moment up to which all is known. 0 is none of them.

    `clock` is one that is never set.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._ended: dict[int, float] = {}  # when; infinite for one that is open

    def __contains__(self, association: int) -> bool:
        return association in self._ended

    def began(self, association: int) -> None:
        """Before its first instance. Cheap; never waits, never raises."""
        self._ended[association] = math.inf

    def ended(self, association: int) -> None:
        """After its last instance. Cheap; never waits, never raises."""
        if len(self._ended) < MAX_ASSOCIATIONS:
            self._ended[association] = self.clock()
        else:
            self._ended.pop(association, None)

    def ended_of(self, is_gone: Callable[[int], bool]) -> None:
        """All of which this is true."""
        for association in self._ended.copy():
            if is_gone(association):
                self.ended(association)

    def forget_ended(self, now: float) -> None:
        """Those that ended before `now` are open no more."""
        for association, ended in self._ended.copy().items():
            if ended < now:
                self._ended.pop(association, None)

    def has_ended(self, now: float) -> bool:
        return any(ended < now for ended in self._ended.copy().values())
