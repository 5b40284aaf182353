"""requests that were promised and not reported yet -> is a transaction UID free?"""

import threading

from dcmstore.commitment.asked import Asked

MAX_REMEMBERED = 10_000  # transactions; some 2 MB. Of older ones a duplicate is checked and reported as if new


class UnderWay:
    """Of this run alone: after a restart nobody remembers, and what comes twice is reported twice. For any thread."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def began(self, asked: Asked) -> bool:
        """False where another request with this transaction UID of this AE is under way; the same one again is not."""
        of = asked.calling_ae_title, asked.transaction_uid
        with self._lock:
            if len(self._keys) >= MAX_REMEMBERED:
                del self._keys[next(iter(self._keys))]
            return self._keys.setdefault(of, asked.key) == asked.key

    def ended(self, asked: Asked) -> None:
        """It was reported, or it was not promised."""
        of = asked.calling_ae_title, asked.transaction_uid
        with self._lock:
            if self._keys.get(of) == asked.key:
                del self._keys[of]
