"""request -> operation -> outcome: what every service has in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dcmstore import uids
from dcmstore.dimse import command
from dcmstore.dimse.command import MAX_ERROR_COMMENT, RESPONSE_BIT, CommandSet
from dcmstore.dimse.status import Status
from dcmstore.errors import ProtocolError
from dcmstore.storage import space
from dcmstore.storage.store import Stored, Subject


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a service sees it: the command set and the context in which it came."""

    command_set: CommandSet
    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    calling_ae_title: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation ended: what to answer, what to log once it is answered, and what it stored.

    `response` is None where the standard has no answer (C-CANCEL). An empty `event` logs nothing. `subject` is the
    instance that was sent, stored or not.
    """

    response: CommandSet | None
    event: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    is_failure: bool = False
    stored: Stored | None = None
    subject: Subject | None = None


class Operation(Protocol):
    """One message under way. `receive` gets its data set; `finish`, or `cancel` with the facts of a loss, ends it."""

    def receive(self, data: memoryview) -> None: ...

    def finish(self) -> Outcome: ...

    def cancel(self) -> Mapping[str, object]: ...


class Answer:
    """An operation whose outcome is known when it begins; a data set that comes all the same is passed over.

    When that does not end, `receive` raises ProtocolError.
    """

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._passed_over = 0

    def receive(self, data: memoryview) -> None:
        self._passed_over += len(data)
        if self._passed_over > space.MAX_PASSED_OVER:
            got = f"{self._passed_over} bytes and no end, of a message that is refused"
            raise ProtocolError("length of the data set", got, f"at most {space.MAX_PASSED_OVER}")

    def finish(self) -> Outcome:
        return self._outcome

    def cancel(self) -> Mapping[str, object]:
        return {}


def respond(request: CommandSet, status: Status, comment: str | None = None) -> CommandSet:
    """The response to a request: its message ID and UIDs come back as they came (PS3.7 9.1.1 and 9.1.5).

    A comment is cut to what an Error Comment holds: some senders choke on a longer one.
    """
    return CommandSet(
        command_field=request.command_field | RESPONSE_BIT,
        message_id_being_responded_to=request.message_id,
        affected_sop_class_uid=request.affected_sop_class_uid,
        affected_sop_instance_uid=request.affected_sop_instance_uid,
        status=status,
        error_comment=comment and comment[:MAX_ERROR_COMMENT],
    )


def refuse(request: Request, status: Status, comment: str) -> Answer:
    """Answer a request with a failure, and say why in the response and in the log."""
    facts = {
        "status": f"{status:04X}",
        "reason": comment,
        "command": command.name_of(request.command_set.command_field),
        "calling": request.calling_ae_title,
        "sop_class": uids.name_of(request.command_set.affected_sop_class_uid or ""),
        "uid": request.command_set.affected_sop_instance_uid,
    }
    return Answer(Outcome(respond(request.command_set, status, comment), "request.refused", facts, is_failure=True))
