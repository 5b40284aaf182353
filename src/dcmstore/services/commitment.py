"""N-ACTION-RQ -> a promise in the queue -> N-ACTION-RSP: the Storage Commitment Push Model as SCP (PS3.4 annex J).

The response is the one answer that waits for something behind the acknowledgement: success says that the request will
be dealt with, also when the receiver is killed the next moment. Only its own association waits.
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dcmstore import commitment
from dcmstore.commitment import action
from dcmstore.commitment.action import MAX_ACTION_INFORMATION, Action, Invalid, Unreadable
from dcmstore.commitment.asked import Asked
from dcmstore.commitment.line import Line, Lines
from dcmstore.dimse.command import CommandSet
from dcmstore.dimse.status import Status
from dcmstore.errors import DcmStoreError
from dcmstore.services.operation import Answer, Operation, Outcome, Request, respond

REQUEST_STORAGE_COMMITMENT = 1  # Action Type ID (PS3.4 J.3.2.1.1)
LARGE = 1024 * 1024  # bytes of a request
MAX_LARGE = 4  # requests over LARGE that are read at once: many senders together can't use up the memory


@dataclass(frozen=True, slots=True)
class CommitmentService:
    """Promises what is asked for.

    `promise` puts a request into the queue, for good once it returns; it raises DcmStoreError. `obstacle` says of a
    calling AE title why no report would reach it, or nothing.
    """

    promise: Callable[[Asked], None]
    obstacle: Callable[[str], str]
    lines: Lines = field(default_factory=Lines)
    large: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_LARGE))

    def on(self, line: Line, host: str) -> "CommitmentOnLine":
        """The service for one association with this host."""
        return CommitmentOnLine(self, line, host)


@dataclass(frozen=True, slots=True)
class CommitmentOnLine:
    """What a CommitmentService does on one association."""

    service: CommitmentService
    line: Line
    host: str

    def begin(self, request: Request) -> Operation:
        """Refuse what is no request for commitment before its data set is read, else get ready for it."""
        command_set = request.command_set
        for is_right, status, name in (
            (_is(command_set.requested_sop_class_uid, commitment.SOP_CLASS), Status.NO_SUCH_SOP_CLASS, "SOP Class"),
            (
                _is(command_set.requested_sop_instance_uid, commitment.SOP_INSTANCE),
                Status.NO_SUCH_SOP_INSTANCE,
                "SOP Instance",
            ),
            (command_set.action_type_id == REQUEST_STORAGE_COMMITMENT, Status.NO_SUCH_ACTION, "Action Type"),
        ):
            if not is_right:
                return Answer(_refusal(request, status, f"{name} is not that of Storage Commitment, Push Model"))
        if not command_set.has_data_set:
            return Answer(_refusal(request, Status.INVALID_ARGUMENT_VALUE, "N-ACTION without a data set"))
        if obstacle := self.service.obstacle(request.calling_ae_title):
            return Answer(_refusal(request, Status.PROCESSING_FAILURE, obstacle))
        return _ActionOperation(request, self)


class _ActionOperation:
    """One request under way: its data set is gathered, and promised when it is whole."""

    def __init__(self, request: Request, on_line: CommitmentOnLine) -> None:
        self._request = request
        self._service = on_line.service
        self._on_line = on_line
        self._gathered = bytearray()
        self._is_large = False
        self._refused: Answer | None = None

    def receive(self, data: memoryview) -> None:
        if self._refused is not None:
            self._refused.receive(data)
            return
        self._gathered += data
        if len(self._gathered) > MAX_ACTION_INFORMATION:
            self._refuse(f"more than {MAX_ACTION_INFORMATION} bytes; ask for less at once")
        elif len(self._gathered) > LARGE and not self._is_large:
            self._is_large = self._service.large.acquire(blocking=False)
            if not self._is_large:
                self._refuse("too many large requests at once; ask again later")

    def finish(self) -> Outcome:
        if self._refused is not None:
            return self._refused.finish()
        request = self._request
        try:
            asked = self._asked(action.decode(bytes(self._gathered), request.transfer_syntax))
        except Unreadable as error:
            return _refusal(request, Status.PROCESSING_FAILURE, str(error))
        except Invalid as error:
            return _refusal(request, Status.INVALID_ARGUMENT_VALUE, str(error))
        finally:
            self._let_go()
        try:
            self._service.promise(asked)
        except DcmStoreError as error:
            return _refusal(request, Status.RESOURCE_LIMITATION, "it can't be queued; ask again later", why=str(error))
        facts = _facts(request) | {"transaction": asked.transaction_uid, "instances": len(asked.references)}
        return Outcome(_response(request, Status.SUCCESS), "commitment.asked", facts)

    def cancel(self) -> Mapping[str, object]:
        """Nothing was stored and nothing promised, so nothing is lost; the sender asks again."""
        self._let_go()
        return {}

    def _asked(self, found: Action) -> Asked:
        return Asked(
            transaction_uid=found.transaction_uid,
            references=found.references,
            calling_ae_title=self._request.calling_ae_title,
            host=self._on_line.host,
            asked_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            line=self._on_line.line.token,
        )

    def _refuse(self, comment: str) -> None:
        self._refused = Answer(_refusal(self._request, Status.RESOURCE_LIMITATION, comment))
        self._let_go()

    def _let_go(self) -> None:
        self._gathered = bytearray()
        if self._is_large:
            self._is_large = False
            self._service.large.release()


def _is(uid: str | None, wanted: str) -> bool:
    return (uid or "").strip(" \0") == wanted


def _refusal(request: Request, status: Status, comment: str, *, why: str = "") -> Outcome:
    """A failure, said in the response and in the log; there with its reason, where that is not for the sender."""
    facts = _facts(request) | {"status": f"{status:04X}", "reason": why or comment}
    return Outcome(_response(request, status, comment), "commitment.refused", facts, is_failure=True)


def _facts(request: Request) -> dict[str, object]:
    return {"calling": request.calling_ae_title}


def _response(request: Request, status: Status, comment: str | None = None) -> CommandSet:
    """PS3.7 10.3.4.2: what was requested comes back as affected."""
    command_set = request.command_set
    return dataclasses.replace(
        respond(command_set, status, comment),
        affected_sop_class_uid=command_set.requested_sop_class_uid,
        affected_sop_instance_uid=command_set.requested_sop_instance_uid,
        action_type_id=command_set.action_type_id,
    )
