"""instances of one association -> counts by patient and study, which the trail gets at its end."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from dcmstore.audit.messages import Action, Indicator, Peer, Transferred
from dcmstore.storage import header

MAX_KINDS = 100  # patients, studies and SOP classes gathered before they are told; a migration brings thousands
MAX_AGE = 600.0  # seconds; what is told once is not lost when the program is killed under an association of days
MAX_VALUE = 1000  # bytes kept of one value; a message shows fewer characters


class Recipient(Protocol):
    """What is told of an association: Trail, or what leads there."""

    is_on: bool

    def transferred(self, peer: Peer, counts: Mapping[Transferred, int]) -> None: ...


class Transfers:
    """What one association brings. For its thread alone; cheap, never blocks, never raises."""

    def __init__(self, trail: Recipient, peer: Peer, clock: Callable[[], float] = time.monotonic) -> None:
        self._trail = trail
        self._peer = peer
        self._clock = clock
        self._counts: Counter[Transferred] = Counter()
        self._began = 0.0

    def add(
        self,
        sop_class_uid: str,
        values: Mapping[int, bytes],
        action: Action = Action.CREATE,
        indicator: Indicator = Indicator.SUCCESS,
        reason: str = "",
    ) -> None:
        """One instance, once it is answered. `values` are raw, by tag; `reason` says why it was not stored."""
        if not self._counts:
            self._began = self._clock()
        kind = Transferred(
            action,
            indicator,
            reason,
            values.get(header.SPECIFIC_CHARACTER_SET, b"")[:MAX_VALUE],
            values.get(header.PATIENT_ID, b"")[:MAX_VALUE],
            values.get(header.PATIENT_NAME, b"")[:MAX_VALUE],
            values.get(header.STUDY_INSTANCE_UID, b"")[:MAX_VALUE],
            sop_class_uid,
        )
        self._counts[kind] += 1
        if len(self._counts) >= MAX_KINDS or self._clock() - self._began >= MAX_AGE:
            self.tell()

    def tell(self) -> None:
        """Hand over what has gathered: at the end of the association, whatever ended it."""
        if self._counts:
            counts, self._counts = self._counts, Counter()
            self._trail.transferred(self._peer, counts)
