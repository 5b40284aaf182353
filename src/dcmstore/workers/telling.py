"""messages -> the process that listens, by a thread of their own: nobody who stores ever waits for that process.

It may be slow, or frozen. What derives from objects then waits here as long as there is room, and what finds none is
left out and counted: the index looks for it on the disk. What connections need to go on always has room, for there is
a little of it for each connection, and who listens has to have accepted that.
"""

import contextlib
import threading
from collections import Counter
from queue import Empty, SimpleQueue

from dcmstore.workers import messages
from dcmstore.workers.channel import Channel

MAX_NEWS = 20_000  # waiting at once: 10 MB, and some ten seconds of the fastest senders
MAX_BATCH = 200  # messages sent in one go: 100 kB, about what the system takes at once

_COUNTED_AS = {
    messages.ForIndex: "notes",
    messages.InFolder: "folders",
    messages.ForTrail: "transfers",
    messages.Seldom: "lines",
}


class Telling:
    """Tells what is at the other end of a channel. For any thread; neither waits nor raises, but for `close`."""

    def __init__(self, to: Channel, max_news: int = MAX_NEWS) -> None:
        self._to = to
        self._max_news = max_news
        self._waiting: SimpleQueue[object] = SimpleQueue()  # None is the end
        self._missed: Counter[str] = Counter()
        self._lock = threading.Lock()  # of what was missed
        self._has_told_all = False
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)
        self._thread.start()

    def tell(self, message: object) -> None:
        """What a connection needs, or the process as a whole."""
        self._waiting.put(message)

    def tell_news(self, message: object) -> bool:
        """What can be done without; false where there was no room for it."""
        if self._waiting.qsize() < self._max_news:
            self._waiting.put(message)
            return True
        counted_as = _COUNTED_AS.get(type(message))
        if counted_as is not None:
            with self._lock:
                self._missed[counted_as] += 1
        return False

    def close(self, timeout: float) -> bool:
        """Tell what waits; false when some of it could not be told in so many seconds."""
        self._waiting.put(None)
        self._thread.join(timeout)
        return self._has_told_all

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the other process is gone, and this one is about to end
            is_open = True
            while is_open:
                batch = self._gathered()
                is_open = batch[-1] is not None
                if missed := self._taken_missed():  # in front: who hears the rest has heard what is left out of it
                    batch.insert(0, missed)
                self._to.send_each(message for message in batch if message is not None)
            self._has_told_all = True

    def _gathered(self) -> list[object]:
        """What waits, once something does, as far as the end."""
        batch = [self._waiting.get()]
        with contextlib.suppress(Empty):
            while batch[-1] is not None and len(batch) < MAX_BATCH:
                batch.append(self._waiting.get_nowait())
        return batch

    def _taken_missed(self) -> messages.Missed | None:
        if not self._missed:
            return None
        with self._lock:
            missed, self._missed = self._missed, Counter()
        return messages.Missed(missed["notes"], missed["folders"], missed["transfers"], missed["lines"])
