"""how often something failed -> when it is tried again, and when no more."""

from collections.abc import Mapping
from dataclasses import dataclass

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0  # seconds

# A target that fails as a whole is left alone for so long after the first failure, the second one in a row and so on;
# the last one repeats. The first is short, for it may have been that one job alone.
PAUSES = (2.0, 10.0, MINUTE, 5 * MINUTE)  # seconds


@dataclass(frozen=True, slots=True)
class Patience:
    """How long jobs of a kind are tried: `delays` after the first failure, the second and so on, the last repeats.

    One that fails when it is older than `horizon` is dead. All in seconds.
    """

    delays: tuple[float, ...]
    horizon: float

    def delay(self, failures: int) -> float:
        return self.delays[min(failures, len(self.delays)) - 1]


# A program that fails will often do so again. Another receiver is down for a night, and then wanted at once: to ask
# costs it one connection.
HOOKS = Patience((10.0, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 6 * HOUR), 3 * DAY)
PEERS = Patience((10.0, MINUTE, 5 * MINUTE, 15 * MINUTE), 30 * DAY)

FORWARD, COMMITMENT = "forward", "commitment"  # kinds of jobs; all others are hooks
OF_KIND: Mapping[str, Patience] = {FORWARD: PEERS, COMMITMENT: PEERS}

LONGEST = max(max(patience.delays) for patience in (HOOKS, PEERS))


def of(kind: str) -> Patience:
    return OF_KIND.get(kind, HOOKS)


def is_due(due_at: float, now: float) -> bool:
    """True also for a time that no delay reaches: the clock was wrong when it was written, or is now."""
    return not now < due_at <= now + LONGEST
