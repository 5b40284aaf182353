"""a path -> the queue, for a thread that needs it again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from dcmstore.errors import DcmStoreError
from dcmstore.jobs.work import Job

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from dcmstore.jobs.queue import Queue

    Transaction: TypeAlias = Connection
    Opened: TypeAlias = Callable[[Transaction], object]
    Plan: TypeAlias = Callable[[Transaction], Iterable[Job]]

PATIENCE = 3.0  # seconds to wait for another process that is writing


def is_damage(error: Exception) -> bool:
    """True where the queue is worth nothing any more; not for one of another version, in which jobs wait."""
    return getattr(error, "is_damaged", False) and not getattr(error, "is_other_format", False)


class Opener:
    """The queue of one thread, opened where it is not, or where another has been put in its place."""

    def __init__(self, path: str, like: str, opened: Opened | None = None) -> None:
        """`opened` is called in a transaction each time that it was opened."""
        self._path = path
        self._like = like
        self._opened = opened
        self._queue: Queue | None = None

    def queue(self) -> Queue:
        """Raises QueueTrouble."""
        if self._queue is not None and self._queue.is_replaced:
            self.close()
        if self._queue is None:
            self._queue = self._new_queue()
        return self._queue

    def close(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.close()

    def _new_queue(self) -> Queue:
        from dcmstore.jobs.queue import Queue  # and with it SQLAlchemy, when the receiver listens already

        queue = Queue(self._path, like=self._like, patience=PATIENCE)
        if self._opened is not None:
            try:
                with queue.transaction() as connection:
                    self._opened(connection)
            except BaseException:
                queue.close()
                raise
        return queue


class Intake:
    """Puts jobs into the queue; all but its making is for one thread. `opened` is as Opener has it.

    Calls `wake` when there are more, and `doubt` when the queue seems to be damaged.
    """

    def __init__(
        self,
        path: str,
        like: str,
        wake: Callable[[], None],
        opened: Opened | None = None,
        *,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self._opener = Opener(path, like, opened)
        self._wake = wake
        self._doubt = doubt

    def add(self, jobs: Iterable[Job]) -> None:
        """All of them or none, for good once this returns. Raises QueueTrouble; then try again later."""
        self.plan(lambda _: jobs)

    def plan(self, plan: Plan) -> None:
        """Add what `plan` returns; what it writes in the transaction that it gets, is there with that or not at all."""
        try:
            queue = self._opener.queue()
            from dcmstore.jobs.queue import enter

            with queue.transaction() as connection:
                is_more = enter(connection, plan(connection), time.time())
        except DcmStoreError as error:
            self._opener.close()  # so that another may be put in its place
            if is_damage(error):
                self._doubt()
            raise
        if is_more:
            self._wake()

    def close(self) -> None:
        self._opener.close()
