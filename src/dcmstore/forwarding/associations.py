"""peers -> open associations: each is kept for some seconds, for the next object may come at once."""

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator

from dcmstore.forwarding.association import Association, Timeouts
from dcmstore.forwarding.outgoing import Context
from dcmstore.forwarding.peers import Peer
from dcmstore.ul.items import MAX_PRESENTATION_CONTEXTS

IDLE = 5.0  # seconds that an association stays open without an object
_LAST_WORD = 1.0  # seconds for a peer to answer a release when the receiver stops


class Associations:
    """Lends associations to threads. `close` ends all, also those that are lent."""

    def __init__(self, calling_ae_title: Callable[[], str], timeouts: Timeouts, idle: float = IDLE) -> None:
        self._calling_ae_title = calling_ae_title
        self._timeouts = timeouts
        self._idle = idle
        self._lock = threading.Lock()
        self._is_closed = False
        self._kept: dict[Association, threading.Timer] = {}  # the timer ends it
        self._lent: set[Association] = set()
        self._awaited: Counter[Peer] = Counter()  # associations that are being opened
        self._seen: dict[Peer, deque[Context]] = {}  # contexts of its objects, the newest last

    def borrow(self, peer: Peer, context: Context, *, is_new: bool = False) -> Association:
        """One that takes the context, where the peer does. Raises SendingFailed.

        A new one has every context that objects for this peer have needed so far, so that it is kept.
        """
        kept = None if is_new else self._take(peer, context)
        if kept is not None:
            return kept
        for outdated in self._drop(lambda one: one.peer == peer):  # a peer may have few associations to give
            outdated.release()
        with self._opening(peer):
            association = Association(peer, self._calling_ae_title(), self._contexts(peer, context), self._timeouts)
        with self._lock:
            self._lent.add(association)
            if self._is_closed:
                association.cut()
        return association

    @contextlib.contextmanager
    def _opening(self, peer: Peer) -> Iterator[None]:
        """Meanwhile none that comes back is kept: the peer may serve one at a time, and this one waits for its end."""
        with self._lock:
            self._awaited[peer] += 1
        try:
            yield
        finally:
            with self._lock:
                self._awaited[peer] -= 1

    def give_back(self, association: Association) -> None:
        """It may be used again."""
        with self._lock:
            self._lent.discard(association)
            if not self._is_closed and not self._awaited[association.peer]:
                timer = threading.Timer(self._idle, self._expire, (association,))
                timer.daemon = True
                self._kept[association] = timer
                timer.start()
                return
            is_closed = self._is_closed
        self.end(association, in_order=not is_closed)

    def end(self, association: Association, *, in_order: bool) -> None:
        """It is not used again. `in_order` is for one on which nothing went wrong."""
        with self._lock:
            self._lent.discard(association)
        if in_order:
            association.release()
        else:
            association.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for association in self._lent:
                association.cut()
        for association in self._drop(lambda _: True):
            association.release(_LAST_WORD)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def _take(self, peer: Peer, context: Context) -> Association | None:
        with self._lock:
            for association, timer in self._kept.items():
                if association.peer == peer and association.accepts(context):
                    timer.cancel()
                    del self._kept[association]
                    self._lent.add(association)
                    return association
        return None

    def _drop(self, is_meant: Callable[[Association], bool]) -> list[Association]:
        """Keep them no longer; they are the caller's."""
        with self._lock:
            dropped = [association for association in self._kept if is_meant(association)]
            for association in dropped:
                self._kept.pop(association).cancel()
        return dropped

    def _contexts(self, peer: Peer, context: Context) -> tuple[Context, ...]:
        with self._lock:
            seen = self._seen.setdefault(peer, deque(maxlen=MAX_PRESENTATION_CONTEXTS))
            if context in seen:
                seen.remove(context)
            seen.append(context)
            return tuple(reversed(seen))

    def _expire(self, association: Association) -> None:
        for expired in self._drop(lambda one: one is association):  # none, where it was lent at this moment
            expired.release()
