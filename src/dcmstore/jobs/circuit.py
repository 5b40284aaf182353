"""how the jobs of a target end -> whether it is given more: one that is down is asked seldom, and by one job."""

from dcmstore.jobs.patience import HOUR, PAUSES

MAX_TOLD = 20  # reasons told of a target at a time; a reason may name a file, and all are in the queue
AGAIN = HOUR  # seconds until a reason that no success wipes out is told again

# A peer refuses one object for what it is, and each one when its database is down, with the same words.
SEVERAL = 5  # jobs that fail in a row, each as if by itself: then it is the target


class Circuit:
    """What this run knows of a target. Times are those of any one clock, in seconds."""

    def __init__(self) -> None:
        self._failures = 0  # in a row
        self._until = 0.0
        self._refused: set[int] = set()  # jobs, of which each says something about itself only
        self._told: set[str] = set()
        self._told_at: dict[str, float] = {}

    def rest(self, now: float) -> float:
        """Seconds until it may be given a job."""
        left = self._until - now
        return left if 0 < left <= PAUSES[-1] else 0.0  # else the clock was set back

    def room(self, at_once: int) -> int:
        """How many jobs it may be given at once."""
        return 1 if self._failures else at_once

    def pause(self, now: float) -> float | None:
        """Until when it is left alone if it fails now; None where it is left alone already."""
        if self.rest(now):
            return None  # the job was under way already when another one failed
        return now + PAUSES[min(self._failures, len(PAUSES) - 1)]

    def failed(self, now: float) -> None:
        until = self.pause(now)
        if until is not None:
            self._failures, self._until = self._failures + 1, until

    def is_enough(self, job: int) -> bool:
        """True where so many have failed by themselves, this one too, that it is the target."""
        return len(self._refused | {job}) >= SEVERAL

    def refused(self, job: int) -> None:
        """A job has failed, and by itself."""
        if len(self._refused) < SEVERAL:
            self._refused.add(job)

    def lift(self) -> None:
        """A person wants it tried now."""
        self._until = 0.0

    def worked(self) -> bool:
        """Return true where it was told that it does not."""
        was_told = bool(self._told)
        self._failures, self._until, self._told = 0, 0.0, set()
        self._refused.clear()
        return was_told

    # --- what the log has heard ------------------------------------------------------------------

    def is_news(self, reason: str) -> bool:
        """True the first time a reason comes since it worked."""
        if reason in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(reason)
        return True

    def is_news_of_one(self, reason: str, now: float) -> bool:
        """The same for what says nothing of the target, and comes while it works: true once in AGAIN."""
        self._told_at = {said: at for said, at in self._told_at.items() if at <= now < at + AGAIN}
        if reason in self._told_at or len(self._told_at) >= MAX_TOLD:
            return False
        self._told_at[reason] = now
        return True
