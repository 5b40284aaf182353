"""C-STORE-RQ + data set -> stored instance -> C-STORE-RSP: the Storage Service Class as SCP (PS3.4 annex B)."""

from dcmstore import uids
from dcmstore.dimse.status import Status
from dcmstore.errors import CannotUnderstand, DataSetMismatch, DuplicateRefused, OutOfResources, StorageError
from dcmstore.services.operation import Operation, Outcome, Request, refuse, respond
from dcmstore.storage import names
from dcmstore.storage.store import IncomingInstance, Instance, Quarantined, Store, Stored

# PS3.4 table B.2-1 and PS3.7 annex C
_STATUSES: dict[type[StorageError], Status] = {
    OutOfResources: Status.OUT_OF_RESOURCES,
    DataSetMismatch: Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
    CannotUnderstand: Status.CANNOT_UNDERSTAND,
    Quarantined: Status.CANNOT_UNDERSTAND,
    DuplicateRefused: Status.DUPLICATE_SOP_INSTANCE,
}


class StorageService:
    """Stores instances; success is answered when the instance is safe, never before.

    With `log_patient` the log names whole paths; else the folder that bears the patient's name or ID shows as `*`.
    """

    def __init__(self, store: Store, *, log_patient: bool = False) -> None:
        self._store = store
        self._log_patient = log_patient

    def begin(self, request: Request) -> Operation:
        """Refuse what can't be stored before its data set is read, else get ready for it."""
        command_set = request.command_set
        if (command_set.affected_sop_class_uid or "").strip(" \0") != request.abstract_syntax:
            return refuse(request, Status.SOP_CLASS_NOT_SUPPORTED, "SOP Class is not that of the presentation context")
        sop_instance_uid = (command_set.affected_sop_instance_uid or "").strip(" \0")
        if not uids.is_uid(sop_instance_uid):
            return refuse(request, Status.INVALID_SOP_INSTANCE, "SOP Instance UID is not 1 to 64 digits and dots")
        if not command_set.has_data_set:
            return refuse(request, Status.MISTYPED_ARGUMENT, "C-STORE without a data set")
        instance = Instance(
            request.abstract_syntax, sop_instance_uid, request.transfer_syntax, request.calling_ae_title
        )
        return _StoreOperation(request, self._store.begin(instance), log_patient=self._log_patient)


class _StoreOperation:
    def __init__(self, request: Request, incoming: IncomingInstance, *, log_patient: bool) -> None:
        self._request = request
        self._incoming = incoming
        self._log_patient = log_patient
        self.receive = incoming.receive  # hot: nothing stands between the association and the file

    def cancel(self) -> dict[str, object]:
        self._incoming.discard()
        return {**self._facts(), "bytes": self._incoming.size}

    def finish(self) -> Outcome:
        command_set, subject = self._request.command_set, self._incoming.subject
        try:
            stored = self._incoming.finish()
        except StorageError as error:
            status = _STATUSES[type(error)]
            facts = {**self._facts(), "status": f"{status:04X}", "reason": str(error)}
            event = "instance.refused"
            if isinstance(error, Quarantined):
                event = "instance.quarantined"
                facts |= self._location(error.stored)
            return Outcome(respond(command_set, status, str(error)), event, facts, is_failure=True, subject=subject)
        facts = {**self._facts(), "outcome": stored.outcome.value, "bytes": stored.size, **self._location(stored)}
        return Outcome(respond(command_set, Status.SUCCESS), "instance.stored", facts, stored=stored, subject=subject)

    def _facts(self) -> dict[str, object]:
        return {
            "calling": self._request.calling_ae_title,
            "sop_class": uids.name_of(self._request.abstract_syntax),
            "uid": self._request.command_set.affected_sop_instance_uid,
        }

    def _location(self, stored: Stored) -> dict[str, object]:
        folders = stored.folders
        if folders and not self._log_patient and folders != (names.QUARANTINE,):
            folders = ("*", *folders[1:])
        return {"root": stored.root.value, "path": "/".join((*folders, stored.file_name))}
