"""how the jobs of a target end -> whether it is given more: one that is down is asked seldom, and by one job."""

from dcmstore.jobs.patience import PAUSES

MAX_TOLD = 20  # reasons told of a target until it works again; a reason may name a file, and all are in the queue


class Circuit:
    """What this run knows of a target. Times are those of any one clock, in seconds."""

    def __init__(self) -> None:
        self._failures = 0  # in a row
        self._until = 0.0
        self._told: set[str] = set()

    def rest(self, now: float) -> float:
        """Seconds until it may be given a job."""
        left = self._until - now
        return left if 0 < left <= PAUSES[-1] else 0.0  # else the clock was set back

    def room(self, at_once: int) -> int:
        """How many jobs it may be given at once."""
        return 1 if self._failures else at_once

    def failed(self, now: float) -> None:
        if self.rest(now):
            return  # it was under way already when the other one failed
        self._failures += 1
        self._until = now + PAUSES[min(self._failures, len(PAUSES)) - 1]

    def worked(self) -> bool:
        """Return true where it was told that it does not."""
        was_told = bool(self._told)
        self._failures, self._until, self._told = 0, 0.0, set()
        return was_told

    def is_news(self, reason: str) -> bool:
        """True the first time a reason comes since it worked."""
        if reason in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(reason)
        return True
