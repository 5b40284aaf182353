"""what has come of a study, and when -> presumed complete for a reason, or not before a moment.

All rules stand here. Moments are seconds of a clock that is never set, and come in as arguments: `now` is the moment
up to which everything that came is known. What came and waits to be looked at holds `now` back.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

# Seconds without a new instance before a count or a commitment is believed. Who sends every instance on an association
# of its own, and counts or has committed what it has sent so far, would have the study complete after each.
SETTLE = 5.0
# Seconds that a study waits at least after a restart, whatever the system's clock says: a sender that was cut off
# comes back in that time.
GRACE = 30.0
MAX_COUNT = 1_000_000  # instances of a study; an announcement above is a mistake


class Reason(Enum):
    """Why a study is presumed complete."""

    COUNTED = "counted"
    COMMITTED = "committed"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a study has come. `asked` are those of its instances that storage commitment was asked for.

    `announced` is 0 where no object said how many there are.
    """

    last: float  # when the newest instance came
    instances: int
    announced: int = 0
    asked: int = 0
    is_carried: bool = False  # an association is open that has carried it
    is_complete: bool = False


class Expected(NamedTuple):
    """If nothing else happens: why a study will be complete, and from when."""

    reason: Reason
    at: float


def came(
    before: Progress | None, at: float, *, is_another: bool = True, announced: int | None = None
) -> tuple[Progress, bool]:
    """A new instance, or another content of one that is no other; return whether it reopens the study.

    Of several announcements the largest counts: a smaller one was made before the rest was there.
    """
    if before is None:
        return Progress(at, 1, announced or 0), False
    after = replace(
        before,
        last=max(before.last, at),  # several senders may be told of in another order
        instances=before.instances + is_another,
        announced=max(before.announced, announced or 0),
        is_complete=False,
    )
    return after, before.is_complete


def expected(progress: Progress, quiet: float) -> Expected | None:
    """None for a study that is complete, or carried: then only what happens next can change it."""
    if progress.is_complete or progress.is_carried:
        return None
    # More than was announced: whoever counted did not know of all, so the count says nothing.
    if progress.instances == progress.announced:
        return Expected(Reason.COUNTED, progress.last + min(SETTLE, quiet))
    if progress.instances == progress.asked:
        return Expected(Reason.COMMITTED, progress.last + min(SETTLE, quiet))
    return Expected(Reason.QUIET, progress.last + quiet)


def decide(progress: Progress, now: float, quiet: float) -> Reason | None:
    """Why it is presumed complete now, where it is and was not."""
    outlook = expected(progress, quiet)
    return outlook.reason if outlook is not None and now >= outlook.at else None


def resumed(was_seen: float, wall: float, now: float, quiet: float) -> float:
    """When the newest instance came, on the clock of this run: it was seen in another one, at a time of day.

    The system's clock may have been set meanwhile. So a study waits as long as it has to at most, and GRACE at least.
    """
    longest = max(quiet - GRACE, 0.0)
    return now - min(max(wall - was_seen, 0.0), longest)


def count_in(value: str) -> int | None:
    """What Number of Study Related Instances says: an IS, of which only a sensible count is taken."""
    text = value.strip().removeprefix("+")
    if not (text.isascii() and text.isdigit() and len(text) <= 12):  # PS3.5 6.2: an IS has 12 characters at most
        return None
    count = int(text)
    return count if 0 < count <= MAX_COUNT else None
