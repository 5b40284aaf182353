"""facts -> messages -> a sink, on one thread: who tells only takes a note.

What can't be delivered waits, within a bound, and is tried again; what does not fit is counted, and the log says so.
The log stands apart: it may name no patient, and the trail may not fill it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeAlias

from dcmstore.audit import messages
from dcmstore.audit.messages import Message, Peer, Reporter, Transferred
from dcmstore.audit.sinks import Sink
from dcmstore.errors import reason_of
from dcmstore.logs import Log
from dcmstore.seldom import Seldom

MAX_NOTES = 10_000  # what is told and not written as a message yet; the thread needs 0.1 ms for one
MAX_WAITING = 20_000_000  # characters of messages that wait for a sink; some 10,000 associations
RETRY = 10.0  # seconds until what could not be delivered is tried again
CLOSE_WAIT = 5.0  # seconds that the last messages may take at the end

_Note: TypeAlias = Callable[[], Iterable[Message]]  # also an order to the thread, which gives no message


class Trail:
    """The audit trail of a process. Without a sink it is off. `close` delivers what is left, or says what is lost.

    All but `use` and `close` is for any thread, never blocks and never raises.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._faults = Seldom(log.error)
        self._reporter = Reporter("", "", 0)
        self._sink: Sink | None = None
        self._notes: SimpleQueue[_Note] = SimpleQueue()
        self._waiting: deque[Message] = deque()
        self._size = 0  # of what waits
        self._lock = threading.Lock()
        self._dropped = 0
        self._is_open = True
        self._is_failing = False
        self._retry_at = 0.0
        self._thread: threading.Thread | None = None
        self.is_on = False

    # --- what is told --------------------------------------------------------------------------------

    def started(self) -> None:
        """The receiver listens."""
        self._put(partial(_one, messages.application_started, self._reporter, _now()))

    def stopped(self, *, has_fault: bool = False) -> None:
        """The receiver has ended; with a fault when nobody had asked for it."""
        self._put(partial(_one, messages.application_stopped, self._reporter, _now(), has_fault=has_fault))

    def transferred(self, peer: Peer, counts: Mapping[Transferred, int]) -> None:
        """What an association brought; see `Transfers`, which counts it. Lost when the trail was switched off since."""
        if not self.is_on:
            self._drop(1)
            self._notes.put(_nothing)  # the thread tells what was dropped
        self._put(partial(messages.instances_transferred, self._reporter, _now(), peer, counts))

    def refused(self, peer: Peer, reason: str, times: int = 1) -> None:
        """A sender was turned away, so often since this was last told of it."""
        self._put(partial(_one, messages.security_alert, self._reporter, _now(), peer, reason, times))

    def _put(self, note: _Note) -> None:
        if not self.is_on:
            return
        if self._notes.qsize() >= MAX_NOTES:
            self._drop(1)
            return
        self._notes.put(note)

    def _drop(self, number: int) -> None:
        with self._lock:
            self._dropped += number

    # --- life ----------------------------------------------------------------------------------------

    def use(self, reporter: Reporter, sink: Sink | None) -> None:
        """From now on, what is told comes from this reporter and goes to this sink; the one before is closed."""
        self._reporter = reporter
        if self._thread is None and sink is None:
            return  # it is off already, and nobody takes notes
        self._notes.put(partial(self._replace_sink, sink))
        self.is_on = sink is not None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self.is_on = False
        if self._thread is None:
            return
        self._notes.put(self._end)
        self._thread.join(CLOSE_WAIT)
        if self._thread.is_alive():  # a server that neither takes nor refuses
            self._drop(len(self._waiting) + self._notes.qsize())
            self._say_what_was_dropped()

    # --- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._is_open:
            try:
                self._take_note()
                if not self._is_open or time.monotonic() >= self._retry_at:
                    self._deliver()
            except Exception as error:  # noqa: BLE001  the fence of the trail: a fault of ours costs a message
                self._drop(1)
                self._faults.tell(repr(error), "audit.fault", error=repr(error))
        self._forget_waiting()
        self._faults.flush()
        self._close_sink()

    def _take_note(self) -> None:
        """Wait for a note, but not longer than until something can be tried again."""
        try:
            note = self._notes.get(timeout=max(self._retry_at - time.monotonic(), 0) if self._waiting else None)
        except Empty:
            return
        for message in note():
            if self._size + len(message.xml) > MAX_WAITING:
                self._drop(1)
            else:
                self._waiting.append(message)
                self._size += len(message.xml)

    def _deliver(self) -> None:
        """All that waits, in its order, until the sink fails."""
        failure = self._try_to_deliver()
        if failure and not self._is_failing:
            name = self._sink.name if self._sink is not None else ""
            self._log.warning("audit.not_delivered", sink=name, reason=failure, waiting=len(self._waiting))
        if self._is_failing and not failure and self._sink is not None:
            self._log.info("audit.delivered", sink=self._sink.name)
        self._faults.tell_due()
        self._is_failing = bool(failure)
        self._retry_at = time.monotonic() + RETRY if failure else 0.0
        self._say_what_was_dropped()

    def _try_to_deliver(self) -> str:
        """Why it failed, or nothing."""
        try:
            while self._waiting and self._sink is not None:
                self._deliver_first(self._sink)
                if self._sink.fault:
                    self._log.warning("log.not_put_aside", reason=self._sink.fault)
                    self._sink.fault = ""
        except OSError as error:  # a full disk, a server that is away, a name that nobody knows
            return reason_of(error)
        return ""

    def _deliver_first(self, sink: Sink) -> None:
        """What a sink does not take stays; what it takes goes, and what has a fault, which would stop all behind it."""
        try:
            sink.deliver(self._waiting[0])
        except OSError:
            raise
        except Exception:
            self._forget_first()
            raise
        self._forget_first()

    def _forget_first(self) -> None:
        self._size -= len(self._waiting.popleft().xml)

    def _say_what_was_dropped(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._log.warning("audit.dropped", messages=dropped)

    def _forget_waiting(self) -> None:
        self._drop(len(self._waiting))
        self._waiting.clear()
        self._size = 0
        self._say_what_was_dropped()

    # --- orders --------------------------------------------------------------------------------------

    def _replace_sink(self, sink: Sink | None) -> Iterable[Message]:
        """What waits goes to the new one, if there is one."""
        replaced, self._sink = self._sink, sink
        self._is_failing, self._retry_at = False, 0.0
        if sink is None:
            self._forget_waiting()
        if replaced is not None:
            replaced.close()
        return ()

    def _close_sink(self) -> None:
        if self._sink is not None:
            self._sink.close()

    def _end(self) -> Iterable[Message]:
        self._is_open = False
        return ()


def _one(make: Callable[..., Message], *facts: object, **more: object) -> Iterable[Message]:
    return (make(*facts, **more),)


def _nothing() -> Iterable[Message]:
    return ()


def _now() -> datetime:
    """With the time zone, which A.5.2.5 asks for."""
    return datetime.now().astimezone()
