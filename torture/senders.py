"""a ledger -> C-STOREs over several associations at once, until the receiver is gone."""

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from dcmstore.dimse.status import Status
from dcmstore.ul.pdu import AAbort, AAssociateRJ
from tests.support import Peer, WrongAnswer
from torture.ledger import Ledger
from torture.objects import SOP_CLASSES, content_of, sop_class_of

SENDERS = 4
RELEASED_AFTER = 0.02  # of all objects: the association ends properly, and the sender opens another one
END_LIMIT = 30.0  # seconds that senders get to notice that the receiver is gone

_Answer = TypeVar("_Answer")


class Senders:
    """Threads that send what the ledger gives them. What must not be goes to `faults`.

    `may_fail` are statuses that are as they should be, because the disk is gone; with `may_end` the receiver may end an
    association, or accept none. `on_acknowledged` is called in the sender's thread as soon as success arrives.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        may_fail: tuple[Status, ...] = (),
        may_end: bool = False,
        on_acknowledged: Callable[[], None] = lambda: None,
    ) -> None:
        self.faults: list[str] = []
        self._ledger = ledger
        self._may_fail = may_fail
        self._may_end = may_end
        self._on_acknowledged = on_acknowledged
        self._threads: list[threading.Thread] = []

    def start(self, port: int) -> None:
        self._threads = [threading.Thread(target=self._run, args=(port,), daemon=True) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait until all have noticed that the receiver is gone."""
        for thread in self._threads:
            thread.join(END_LIMIT)
            if thread.is_alive():
                self.faults.append(f"a sender got no answer and no end of its connection within {END_LIMIT:g} s")

    def _run(self, port: int) -> None:
        try:
            while self._serve_association(port):
                pass
        except TimeoutError:
            self.faults.append("a sender got no answer and no end of its connection")
        except (OSError, _Gone):
            pass  # the receiver is killed in the middle of everything
        except Exception as error:  # noqa: BLE001  else a thread ends, and what it has found is not told
            self.faults.append(f"a sender can't make out what it was answered: {error!r}")

    def _serve_association(self, port: int) -> bool:
        """Send until it is time for another association; false when there is no receiver to go on with."""
        with Peer(port) as peer:
            self._expect(lambda: peer.associate(*SOP_CLASSES))
            while random.random() >= RELEASED_AFTER:
                if not self._send_one(peer):
                    return False
            self._expect(peer.release)
        return True

    def _send_one(self, peer: Peer) -> bool:
        sending = self._ledger.take()
        sop_class = sop_class_of(sending.uid)
        context_id = 2 * SOP_CLASSES.index(sop_class) + 1
        status = None
        try:
            response = self._expect(lambda: peer.store(content_of(sending), sending.uid, sop_class, context_id))
            status = response.status
            if status == Status.SUCCESS:
                self._on_acknowledged()
            elif status not in self._may_fail:
                self.faults.append(f"{sending.uid} was answered with {status:04X}H: {response.error_comment}")
        finally:
            (self._ledger.keep if status == Status.SUCCESS else self._ledger.doubt)(sending)
        return status == Status.SUCCESS

    def _expect(self, step: Callable[[], _Answer]) -> _Answer:
        """Do a step of the protocol; what is neither the answer nor the end of the connection is a fault."""
        try:
            return step()
        except WrongAnswer as error:
            is_end = error.arrived is None or (self._may_end and isinstance(error.arrived, AAbort | AAssociateRJ))
            if not is_end:
                self.faults.append(f"a sender was answered with {error.arrived}")
            raise _Gone from None


class _Gone(Exception):
    """The receiver does not answer any more."""
