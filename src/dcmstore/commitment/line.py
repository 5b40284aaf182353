"""another thread's question -> an open association -> its requestor's answer.

Some requestors wait for the report on the association on which they asked. It is sent by that association's own
thread, once nothing has come for a moment: a requestor that is sending gets no question in between.
"""

import itertools
import secrets
import threading
from collections.abc import Callable
from typing import NamedTuple

from dcmstore.dimse.command import RESPONSE_BIT, CommandField, CommandSet
from dcmstore.errors import DcmStoreError

_RESPONSE = CommandField.N_EVENT_REPORT_RQ | RESPONSE_BIT
QUIET = 0.5  # seconds without a byte until a question is sent; who releases after its request has done so by then


class NotAnswered(DcmStoreError):
    """The association is over or too busy, or the answer did not come; the text says which."""


class Question(NamedTuple):
    """What is to be sent: a request, and its data set."""

    request: CommandSet
    data_set: bytes


class Line:
    """To the requestor of one association. `ask` is for other threads, the rest for the association's own."""

    def __init__(self, context_id: int, transfer_syntax: str, forget: Callable[[str], object]) -> None:
        self.token = secrets.token_hex(16)  # never that of a line of another run
        self.context_id = context_id
        self.transfer_syntax = transfer_syntax
        self._forget = forget
        self._message_ids = itertools.cycle(range(1, 0x10000))
        self._one_at_a_time = threading.Lock()
        self._changed = threading.Condition()
        self._is_closed = False
        self._waiting: Question | None = None
        self._asked: set[int | None] = set()  # message IDs without a response yet
        self._response: CommandSet | None = None

    def ask(self, ask: Callable[[int], Question], patience: float) -> CommandSet:
        """Send what `ask` makes of a message ID, and wait for the response, so many seconds for each of the two.

        Raises NotAnswered.
        """
        with self._one_at_a_time:
            question = ask(next(self._message_ids))
            with self._changed:
                self._waiting, self._response = question, None
                try:
                    self._wait(lambda: self._waiting is None, patience, "the requestor is busy with other things")
                    self._wait(lambda: self._is_answer_to(question), patience, f"no response within {patience:g} s")
                finally:
                    self._waiting = None
                assert self._response is not None
                return self._response

    def _is_answer_to(self, question: Question) -> bool:
        response = self._response
        return response is not None and response.message_id_being_responded_to == question.request.message_id

    def _wait(self, until: Callable[[], bool], patience: float, otherwise: str) -> None:
        has_come = self._changed.wait_for(lambda: until() or self._is_closed, patience)
        if self._is_closed and not until():
            raise NotAnswered("the association is over")
        if not has_come:
            raise NotAnswered(otherwise)

    # --- for the association's thread -------------------------------------------------------------

    def take(self) -> Question | None:
        """What is to be sent now, if anything is."""
        if self._waiting is None:
            return None
        with self._changed:
            question, self._waiting = self._waiting, None
            if question is not None:
                self._asked.add(question.request.message_id)
                self._changed.notify_all()
            return question

    def answer(self, context_id: int, response: CommandSet) -> bool:
        """Take a response, also one that comes too late; false when it is to nothing that was asked."""
        message_id = response.message_id_being_responded_to
        with self._changed:
            is_due = response.command_field == _RESPONSE and context_id == self.context_id
            if not is_due or message_id not in self._asked:
                return False
            self._asked.remove(message_id)
            self._response = response
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """The association is over."""
        self._forget(self.token)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class Lines:
    """Those to the associations that are open."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def open(self, context_id: int, transfer_syntax: str) -> Line:
        line = Line(context_id, transfer_syntax, lambda token: self._lines.pop(token, None))
        self._lines[line.token] = line
        return line

    def get(self, token: str) -> Line | None:
        return self._lines.get(token)
