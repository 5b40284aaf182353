"""a job -> its handler, on a thread of its own: and how it ended."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcmstore.jobs.work import Handler, JobFailed

if TYPE_CHECKING:
    from dcmstore.jobs.rows import Queued, Target


@dataclass(frozen=True, slots=True)
class Task:
    """A job in hand, and the name of the queue that it is from."""

    queued: Queued
    made: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended; `is_fault` where the handler raised what it should not have."""

    task: Task
    failure: JobFailed | None
    is_fault: bool
    seconds: float


class Workers:
    """Calls handlers, at most `at_once` of a kind, and `wake` when one has ended. For the thread of the runner.

    Threads are daemons: a handler that hangs must not keep the process from ending.
    """

    def __init__(self, handlers: Mapping[str, Handler], at_once: int, wake: Callable[[], None]) -> None:
        self.handlers = handlers
        self.at_once = at_once
        self.in_hand: list[Task] = []  # until what became of them is written down
        self._wake = wake
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def room(self, kind: str) -> int:
        """How many more jobs of a kind may be begun."""
        if kind not in self.handlers:
            return 0
        return self.at_once - sum(task.queued.target.kind == kind for task in self.in_hand)

    @property
    def at_once_for_one(self) -> int:
        """How many jobs of a target may work at once: all that hang leave room for another one."""
        return max(self.at_once - 1, 1)

    def of(self, target: Target) -> list[Task]:
        """What is in hand of a target, also from a queue that is not there any more."""
        wanted = target.kind, target.name
        return [task for task in self.in_hand if (task.queued.target.kind, task.queued.target.name) == wanted]

    def begin(self, task: Task) -> None:
        kind = task.queued.target.kind
        arguments = task, self.handlers[kind]
        threading.Thread(target=self._do, args=arguments, name=f"job {kind}", daemon=True).start()
        self.in_hand.append(task)

    def ended(self) -> list[Ended]:
        """Those that have ended since it was asked before."""
        return [self._ended.get() for _ in range(self._ended.qsize())]

    def _do(self, task: Task, handler: Handler) -> None:
        began = time.monotonic()
        failure, is_fault = None, False
        try:
            handler.do(task.queued.job)
        except JobFailed as error:
            failure = error
        except Exception as error:  # noqa: BLE001  a fence: a fault in one handler stops no other
            failure, is_fault = JobFailed(f"{type(error).__name__}: {error}"), True
        self._ended.put(Ended(task, failure, is_fault, time.monotonic() - began))
        self._wake()
