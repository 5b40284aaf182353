"""bytes -> stored instances and responses: association, services and store as one (invariants 1, 2, 4 and 7)."""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField
from dcmstore.services.operation import Outcome
from dcmstore.services.provider import Service, ServiceProvider
from dcmstore.services.storage import StorageService
from dcmstore.services.verification import VerificationService
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.store import Duplicates, Store
from dcmstore.ul import negotiation
from dcmstore.ul.framing import Fragment
from dcmstore.ul.items import ContextResult
from dcmstore.ul.negotiation import Policy
from dcmstore.ul.pdu import AAssociateRJ, AAssociateRQ
from fuzz import reference
from fuzz.oracle import cuttings, require
from fuzz.reference import PDV, Malformed, Message
from fuzz.targets.headers import memory_folder
from fuzz.targets.upper_layer import Talk

C_STORE, C_ECHO, C_CANCEL, RESPONSE = 0x0001, 0x0030, 0x0FFF, 0x8000
VERIFICATION = "1.2.840.10008.1.1"
MAX_LENGTH_RECEIVED = 131_072
# What we may answer, as the conformance statement lists it
_CONFORMANCE = Path(__file__).parent.parent.parent / "docs/conformance.md"
STATUSES = {int(code, 16) for code in re.findall(r"(?m)^\| ([0-9A-F]{4}) ", _CONFORMANCE.read_text(encoding="utf-8"))}

_folder = tempfile.TemporaryDirectory(dir=memory_folder(), prefix="dcmstore-fuzz-")


def _store(name: str, policy: FilingPolicy, duplicates: Duplicates) -> Store:
    roots = {root: os.path.join(_folder.name, name, root.value) for root in Root}
    for path in roots.values():
        os.makedirs(path)
    store = Store(roots, policy, durable=False, duplicates=duplicates)
    store.open()
    return store


STORES = (
    _store("both", FilingPolicy(), Duplicates.BOTH),
    _store("keep", FilingPolicy(folder_tree=False, rdsr_tree=True), Duplicates.KEEP),
    _store("replace", FilingPolicy(image_name_index=True, order_by_patient_id=False), Duplicates.REPLACE),
    _store("media", FilingPolicy(image_name_index=True, media_names=True), Duplicates.BOTH),
)


def receiver(data: bytes) -> None:
    """Each request gets its one response, and what was answered with success lies on disk, byte for byte."""
    store, stream = STORES[data[0] % len(STORES)] if data else STORES[0], data[1:]
    *_, pieces = cuttings(stream)
    for cut in ([memoryview(stream)], pieces):
        session = _Session(store)
        try:
            session.run(cut)
            session.end()
            session.check_messages(reference.read_stream(stream, 16 * 1024 * 1024))
        finally:
            _empty(store)


class _Session(Talk):
    """One association with everything behind it, driven as connection.py does."""

    def __init__(self, store: Store) -> None:
        super().__init__(Policy("DCMSTORE", MAX_LENGTH_RECEIVED))
        self._store = store
        self._provider: ServiceProvider | None = None
        self._contexts: dict[int, tuple[str, str]] = {}
        self._peer_max_length = 0
        self._outcomes: list[Outcome] = []
        self._responses: list[bytes] = []

    def take(self, event: Any) -> None:
        if isinstance(event, Fragment):
            assert self._provider is not None
            outcome = self._provider.receive(event)
            if outcome is not None:
                self._outcomes.append(outcome)
                if outcome.response is not None:
                    encoded = command.encode(outcome.response)
                    self._responses.append(self.association.send_command(event.context_id, encoded))
            return
        super().take(event)
        if isinstance(event, AAssociateRQ):
            answer = negotiation.negotiate(event, self.policy)
            if isinstance(answer, AAssociateRJ):
                return
            self._peer_max_length = event.user_information.max_length_received
            pairs = zip(event.presentation_contexts, answer.presentation_contexts, strict=True)
            self._contexts = {
                proposed.context_id: (proposed.abstract_syntax, result.transfer_syntax)
                for proposed, result in pairs
                if result.result is ContextResult.ACCEPTANCE
            }
            services: dict[int, Service] = {
                CommandField.C_ECHO_RQ: VerificationService(),
                CommandField.C_STORE_RQ: StorageService(self._store),
            }
            self._provider = ServiceProvider(self._contexts, services, event.calling_ae_title)

    def end(self) -> None:
        if self._provider is not None:
            self._provider.cancel()

    def check_messages(self, stream: reference.Stream) -> None:
        expected = self._expected(stream)
        require(len(self._responses) == len(expected), "not one response a request", len(self._responses), expected)
        kept: list[tuple[str, bytes]] = []
        allowed: set[tuple[str, bytes]] = set()
        for request, sent in zip(expected, self._responses, strict=True):
            status = self._check_response(request, sent)
            if request.field != C_STORE or request.data is None:
                continue
            uid = reference.text(request.elements.get(0x1000, b""))
            if status == 0 or status >> 8 == 0xC0:
                allowed.add((uid, request.data))
            if status == 0:
                self._check_may_be_kept(request, uid)
                kept.append((uid, request.data))
        self._check_disk(kept, allowed)

    def _expected(self, stream: reference.Stream) -> list[Message]:
        """The complete requests that must be answered, up to the first thing that ends the association."""
        if not self._contexts and self._provider is None:
            return []
        pdvs = []
        for part in stream.read[1:]:
            if not isinstance(part, PDV):
                break
            pdvs.append(part)
        found = []
        try:
            for message in reference.messages(pdvs):
                if message.context_id not in self._contexts:
                    break
                if message.field == C_CANCEL:  # PS3.7 9.3.2.3: it has no response
                    continue
                if message.field & RESPONSE or 0x0110 not in message.elements:
                    break
                found.append(message)
        except Malformed:
            pass
        return found

    def _check_response(self, request: Message, sent: bytes) -> int:
        """PS3.7 9.3.1.2 and 9.3.5.2; return the status."""
        # A limit with no room for two bytes of a command can't be kept; it is read as one that has.
        longest = max(self._peer_max_length, 8) if self._peer_max_length else 0xFFFF_FFFF
        pdvs = reference.read_stream(sent, longest)
        require(not pdvs.is_malformed, "no PDU, or a longer one than the peer takes", sent, longest)
        (response,) = reference.messages([pdv for pdv in pdvs.read if isinstance(pdv, PDV)])
        require(response.context_id == request.context_id, "answered on another context", response)
        require(response.data is None, "a response with a data set", response)
        require(response.field == request.field | RESPONSE, "a response to something else", response, request)
        number = reference.us(response.elements, 0x0120)
        require(number == reference.us(request.elements, 0x0110), "a response to another message", response, request)
        for uid in (0x0002, 0x1000):  # as they came
            got, came = (reference.text(message.elements.get(uid, b"")) for message in (response, request))
            require(got == came, "another UID in the response", response, request)
        status = reference.us(response.elements, 0x0900)
        require(status in STATUSES, "a status that the conformance statement has not", response)
        require(len(response.elements.get(0x0902, b"")) <= 64, "an Error Comment over 64 characters", response)
        if request.field == C_ECHO and self._contexts[request.context_id][0] == VERIFICATION:
            require(status == 0, "a C-ECHO that fails", response)
        return status or 0

    def _check_may_be_kept(self, request: Message, uid: str) -> None:
        abstract_syntax, _ = self._contexts[request.context_id]
        sop_class = reference.text(request.elements.get(0x0002, b""))
        require(sop_class == abstract_syntax, "stored another class than was agreed on", request)
        require(reference.is_uid(uid), "stored under what is no UID", request)

    def _check_disk(self, kept: list[tuple[str, bytes]], allowed: set[tuple[str, bytes]]) -> None:
        found: dict[Path, tuple[str, bytes]] = {}
        for root in self._store.roots.values():
            for path in Path(root).rglob("*"):
                parts = path.relative_to(root).parts
                if parts[0] == ".incoming":
                    require(path.is_dir() or path.suffix == ".lock", "a temporary file is left", str(path))
                    continue
                fault = next(filter(None, map(reference.fault_of_name, parts)), "")
                require(not fault, f"on disk, a name {fault}", parts)
                if path.is_file():
                    require(
                        found.setdefault(path, _read_file(path.read_bytes())) in allowed, "a file nobody sent", path
                    )
        for number, (uid, content) in enumerate(kept):
            is_replaced = self._store.duplicates is Duplicates.REPLACE and uid in [
                later for later, _ in kept[number + 1 :]
            ]
            require((uid, content) in found.values() or is_replaced, "success, and it is not there", uid, found)


def _read_file(content: bytes) -> tuple[str, bytes]:
    """SOP Instance UID and data set of a PS3.10 file with a right group length."""
    require(content[128:144][:12] == b"DICM\x02\x00\x00\x00UL\x04\x00", "no PS3.10 file", content[:160])
    start = 144 + int.from_bytes(content[140:144], "little")
    at = content.index(b"\x02\x00\x03\x00UI", 144)
    size = int.from_bytes(content[at + 6 : at + 8], "little")
    return reference.text(content[at + 8 : at + 8 + size]), content[start:]


def _empty(store: Store) -> None:
    for root in store.roots.values():
        for entry in os.scandir(root):
            if entry.name != ".incoming":
                shutil.rmtree(entry) if entry.is_dir() else os.unlink(entry)
