"""C-ECHO-RQ -> C-ECHO-RSP: the Verification Service Class as SCP (PS3.4 annex A)."""

from dcmstore.dimse.status import Status
from dcmstore.services.operation import Answer, Operation, Outcome, Request, respond


class VerificationService:
    """Says that this AE is there and speaks DICOM."""

    def begin(self, request: Request) -> Operation:
        facts = {"calling": request.calling_ae_title}
        return Answer(Outcome(respond(request.command_set, Status.SUCCESS), "echo.answered", facts))
