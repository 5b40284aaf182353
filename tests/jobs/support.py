"""Jobs, a queue, a clock that a test turns, and a handler that does what a test wants."""

import queue
from collections.abc import Iterator, Mapping
from pathlib import Path

from dcmstore.jobs.queue import Queue
from dcmstore.jobs.rows import Queued
from dcmstore.jobs.runner import Runner
from dcmstore.jobs.work import Handler, Job, JobFailed

WAIT = 20.0  # seconds until a test gives up
START = 1_700_000_000.0


def job(key: str = "1", *, kind: str = "hook", target: str = "run.sh", order: str = "study", **facts: str | int) -> Job:
    return Job(kind, target, key, order, facts)


def waiting(opened: Queue) -> list[Queued]:
    """What is next, of all targets."""
    return [queued for target in opened.targets() for queued in opened.next_of(target, 1000)]


def next_keys(opened: Queue) -> list[str]:
    return [queued.job.key for queued in waiting(opened)]


class Clock:
    """Seconds of time.time."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Hands:
    """A handler that tells of each job it gets, and then ends as it is told; None is well done."""

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._endings: dict[str, queue.SimpleQueue[Exception | None]] = {}

    def do(self, job: Job) -> None:
        ending = self._endings.setdefault(job.key, queue.SimpleQueue())
        self._came.put(job)
        if error := ending.get(timeout=WAIT):
            raise error

    def next(self) -> str:
        """The key of the next job that came."""
        return self._came.get(timeout=WAIT).key

    def some(self, count: int) -> set[str]:
        return {self.next() for _ in range(count)}

    @property
    def is_idle(self) -> bool:
        return self._came.empty()

    def end(self, key: str, error: Exception | None = None) -> None:
        self._endings.setdefault(key, queue.SimpleQueue()).put(error)

    def fail(self, key: str, reason: str = "host is down", **flags: bool) -> None:
        self.end(key, JobFailed(reason, **flags))


class Kept:
    """A runner that keeps what it reports, and looks only when it is woken."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler], *, at_once: int = 3) -> None:
        self.clock = Clock()
        self.reported: queue.SimpleQueue[tuple[str, dict[str, object]]] = queue.SimpleQueue()
        self.runner = Runner(
            str(path),
            handlers,
            lambda event, **facts: self.reported.put((event, facts)),
            at_once=at_once,
            clock=self.clock,
        )

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.runner.wake()

    def heard(self, event: str) -> dict[str, object]:
        """The facts of the next report, which is of this event."""
        reported, facts = self.reported.get(timeout=WAIT)
        assert reported == event, (reported, facts)
        return facts

    def silence(self) -> list[str]:
        """What was reported and not heard yet."""
        return [self.reported.get()[0] for _ in range(self.reported.qsize())]


def opened(path: Path) -> Iterator[Queue]:
    made = Queue(str(path))
    yield made
    made.close()
