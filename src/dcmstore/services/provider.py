"""PDV fragments -> operations -> responses: one association's messages, each led to its service."""

from collections.abc import Mapping
from typing import Protocol

from dcmstore import commitment, uids
from dcmstore.commitment.line import Line
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.dimse.message import MessageAssembly
from dcmstore.dimse.status import Status
from dcmstore.errors import AbortReason, AbortSource, ProtocolError
from dcmstore.services.operation import Answer, Operation, Outcome, Request, refuse
from dcmstore.ul.framing import Fragment

# What may be asked on a context; on all others C-STORE
_REQUESTS = {uids.VERIFICATION: CommandField.C_ECHO_RQ, commitment.SOP_CLASS: CommandField.N_ACTION_RQ}


class Service(Protocol):
    """What the provider asks of a service."""

    def begin(self, request: Request) -> Operation: ...


class ServiceProvider:
    """Performs what one association asks for, one message at a time.

    `contexts` maps the accepted presentation context IDs to (abstract syntax, transfer syntax); `services` maps a
    command field to the service that performs it. Where there is a `line`, it takes the responses.
    """

    def __init__(
        self,
        contexts: Mapping[int, tuple[str, str]],
        services: Mapping[int, Service],
        calling_ae_title: str,
        line: Line | None = None,
    ) -> None:
        self._contexts = contexts
        self._services = services
        self._calling_ae_title = calling_ae_title
        self._line = line
        self._assembly = MessageAssembly()
        self._operation: Operation | None = None

    @property
    def is_between_messages(self) -> bool:
        """True while nothing is under way, neither a message nor what it asks for."""
        return self._operation is None and self._assembly.is_between_messages

    def receive(self, fragment: Fragment) -> Outcome | None:  # hot: bench
        """Take the next fragment; return the outcome of the message that it completes, else None.

        Raises ProtocolError on a message that nobody can answer.
        """
        command_set = self._assembly.receive(fragment)
        if command_set is not None:
            self._operation = self._begin(fragment.context_id, command_set)
        elif not fragment.is_command and self._operation is not None:
            self._operation.receive(fragment.data)
        if self._operation is None or not self._assembly.is_between_messages:
            return None
        outcome = self._operation.finish()
        self._operation = None
        return outcome

    def cancel(self) -> Mapping[str, object]:
        """The association is over; return the facts of what was under way and is lost, if anything was."""
        operation, self._operation = self._operation, None
        return operation.cancel() if operation is not None else {}

    def _begin(self, context_id: int, command_set: CommandSet) -> Operation:
        if context_id not in self._contexts:
            accepted = ", ".join(map(str, self._contexts)) or "none"
            raise ProtocolError(
                "presentation context ID",
                context_id,
                f"an accepted one ({accepted})",
                reason=AbortReason.UNEXPECTED_PDU_PARAMETER,
            )
        if command_set.command_field == CommandField.C_CANCEL_RQ:
            return Answer(Outcome(None))  # nothing that could be cancelled runs here (PS3.7 9.3.2.3)
        if self._line is not None and command_set.is_response and self._line.answer(context_id, command_set):
            return Answer(Outcome(None))
        if command_set.is_response or command_set.message_id is None:
            raise ProtocolError(
                "command set",
                f"{command.name_of(command_set.command_field)} with Message ID {command_set.message_id}",
                "a request with a Message ID",
                source=AbortSource.SERVICE_USER,
            )
        abstract_syntax, transfer_syntax = self._contexts[context_id]
        request = Request(command_set, context_id, abstract_syntax, transfer_syntax, self._calling_ae_title)
        service = self._services.get(command_set.command_field)
        if service is None:
            name = command.name_of(command_set.command_field)
            return refuse(request, Status.UNRECOGNIZED_OPERATION, f"{name} is not offered here")
        if command_set.command_field != _REQUESTS.get(abstract_syntax, CommandField.C_STORE_RQ):
            return refuse(
                request, Status.SOP_CLASS_NOT_SUPPORTED, f"not on a context of {uids.name_of(abstract_syntax)}"
            )
        return service.begin(request)
