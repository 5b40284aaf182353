"""the queue -> what is due, given to handlers: the thread that has the queue open, and enters what became of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from dcmstore.errors import DcmStoreError
from dcmstore.jobs import patience, replacing
from dcmstore.jobs.opening import PATIENCE, Opener, is_damage
from dcmstore.jobs.outcomes import Outcomes, Report
from dcmstore.jobs.work import Handler
from dcmstore.jobs.workers import Ended, Task, Workers

if TYPE_CHECKING:
    from dcmstore.jobs.queue import Queue
    from dcmstore.jobs.rows import Queued, Target

LOOK = 5.0  # seconds until it looks for what another process has changed, as `dcmstore hooks --retry` does
# Jobs of a kind. One may hang until its time is up, so those for one target leave a place for another. More programs
# would take the machine from what it is there for.
AT_ONCE = 3
RETRY = (2.0, 5.0, 15.0, 60.0, 300.0)  # seconds until a queue that made trouble is tried again; the last one repeats


class Runner:
    """Has the jobs of the queue at `path` done for whose kinds there are handlers. `start`, and `close` at the end.

    At most `at_once` handlers of a kind work at a time, each on a thread of its own, and one less for one target. What
    was in hand when the process ended is done again. `clock` gives the seconds of time.time; a queue that is made
    belongs to who has the folder `like`.

    Reports with facts as keywords: `job.done` and `job.fault` each time; `job.failed` once for a target and reason
    until a job of that target is done, which `job.recovered` tells; `job.dead`, and `job.failed` of what says nothing
    of the target, once an hour for a target and reason; `queue.failed`, `queue.recovered` where that was told, and
    `queue.damaged` when it has put a damaged queue aside. Make it before anybody opens the queue.
    """

    def __init__(
        self,
        path: str,
        handlers: Mapping[str, Handler],
        report: Report,
        *,
        at_once: int = AT_ONCE,
        like: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._like = like
        self._report = report
        self._clock = clock
        self._left_aside = replacing.finish(path)  # by a run that broke off in it
        written = replacing.last_written(path)
        self._written = clock() if written is None else written  # by a run before this one
        self._opener = Opener(path, like)
        self._woken = threading.Event()
        self._is_closing = threading.Event()
        self._deadline = 0.0
        self._workers = Workers(handlers, at_once, self._woken.set)
        self._outcomes = Outcomes(report)
        self._to_write: deque[Ended] = deque()
        self._failures = 0
        self._told = ""
        self._is_doubted = threading.Event()
        self._was_examined = False  # and found good, since it worked
        self._has_begun = False
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Harmless when it has been called before."""
        if self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """Something was added. For any thread; never waits, never raises."""
        self._woken.set()

    def doubt(self) -> None:
        """The queue seems to be damaged: have a look. For any thread; never waits, never raises."""
        self._is_doubted.set()
        self._woken.set()

    @property
    def is_doubted(self) -> bool:
        """True while it is to be put aside if it is damaged: on Windows nobody may have it open then."""
        return self._is_doubted.is_set()

    def close(self, timeout: float, let_go: Callable[[], None] = lambda: None) -> bool:
        """Begin nothing more, and wait for what is in hand; return false where some of it is left for the next start.

        `let_go` tells the handlers, once what they break off for that counts as no failure.
        """
        self._deadline = time.monotonic() + timeout
        self._is_closing.set()
        let_go()
        if self._thread.ident is None:
            return True
        self._woken.set()
        self._thread.join(timeout + PATIENCE)
        return not self._workers.in_hand

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._left_aside:
            self._tell_put_aside(self._left_aside, "found damaged by a run that broke off")
        while not self._is_closing.is_set():
            seconds = self._attempt(self._turn)
            if seconds is None:
                self._is_closing.wait(RETRY[min(self._failures, len(RETRY)) - 1])
            else:
                self._woken.wait(seconds)
                self._woken.clear()
        self._finish()
        self._opener.close()

    def _finish(self) -> None:
        """Write down what still ends in time."""
        while self._workers.in_hand and self._attempt(self._settle) is not None:
            left = self._deadline - time.monotonic()
            if self._workers.in_hand and not self._woken.wait(max(left, 0.0)):
                return
            self._woken.clear()

    def _attempt(self, step: Callable[[], float]) -> float | None:
        """One step, and what it returns; None when it failed, which is told once for each reason."""
        try:
            seconds = step()
        except Exception as error:  # noqa: BLE001  a fence: whatever a database does, receiving goes on
            self._failed(error)
            return None
        if self._told:
            self._report("queue.recovered", path=self._path)
        self._failures, self._told, self._was_examined = 0, "", False
        return seconds

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._opener.close()  # so that another may be put in its place
        if is_damage(error) and not self._was_examined:
            self._is_doubted.set()
            return  # what is the matter will be told when all of it was looked at
        reason = str(error) if isinstance(error, DcmStoreError) else f"{type(error).__name__}: {error}"
        if reason != self._told:
            self._report("queue.failed", reason=reason, stores="not affected")
            self._told = reason

    def _put_aside(self) -> None:
        """Put the queue aside where it is damaged. Raises QueueTrouble; then it is doubted still."""
        from dcmstore.jobs import damage

        self._opener.close()
        self._is_doubted.clear()
        try:
            aside = damage.put_aside(self._path, self._like, PATIENCE, self._clock(), self._written)
        except DcmStoreError:
            self._is_doubted.set()
            raise
        if aside is None:
            self._was_examined = True
            return
        self._tell_put_aside(aside.path, aside.reason)

    def _tell_put_aside(self, path: str, reason: str) -> None:
        self._report(
            "queue.damaged",
            path=self._path,
            reason=reason,
            put_aside=path,
            lost="hooks, forwards and reports of commitment that waited in it",
            stores="not affected",
        )

    # --- what ends, and what begins --------------------------------------------------------------

    def _turn(self) -> float:
        """Write down what has ended, and begin what is due; return the seconds until more may be."""
        if self._is_doubted.is_set():
            self._put_aside()
        self._settle()
        queue = self._opener.queue()
        if not self._has_begun:
            queue.end_pauses()
            self._has_begun = True
        now, pauses = self._clock(), queue.pauses()
        waits = [LOOK]
        due: list[tuple[int, float, Queued]] = []
        for target in queue.targets():
            if self._workers.room(target.kind) <= 0:
                continue  # one that ends wakes us
            circuit = self._outcomes.circuit(target)
            if target.id not in pauses:
                circuit.lift()  # a person wants it tried now
            if rest := circuit.rest(now):
                waits.append(rest)
                continue
            for rank, queued in self._ahead(queue, target):
                if patience.is_due(queued.due_at, now):
                    due.append((rank, queued.due_at, queued))
                else:
                    waits.append(queued.due_at - now)
        for _, _, queued in sorted(due, key=lambda choice: choice[:2]):
            if self._workers.room(queued.target.kind) > 0 and not self._is_closing.is_set():
                self._workers.begin(Task(queued, queue.made))
        return min(waits)

    def _ahead(self, queue: Queue, target: Target) -> Iterator[tuple[int, Queued]]:
        """What a target may be given next, and how many it has then: who has few goes first, so that none waits for
        another that is slow."""
        in_hand = self._workers.of(target)
        room = self._outcomes.circuit(target).room(self._workers.at_once_for_one) - len(in_hand)
        if room > 0:
            busy = {task.queued.id for task in in_hand if task.made == queue.made}
            yield from enumerate(queue.next_of(target, room, busy), len(in_hand))

    def _settle(self) -> float:
        """What can't be written down now is kept, and not begun again meanwhile."""
        queue = self._opener.queue()
        self._to_write.extend(self._workers.ended())
        while self._to_write:
            self._write(queue, self._to_write[0])
            self._workers.in_hand.remove(self._to_write.popleft().task)
        return 0.0

    def _write(self, queue: Queue, ended: Ended) -> None:
        failure = ended.failure
        if failure is not None and not failure.is_final and self._is_closing.is_set():
            return  # perhaps because of that: it stays as it was
        if queue.made == ended.task.made:  # else it is not in this one
            self._outcomes.write(queue, ended, self._clock())
