"""a report -> the requestor: on the association on which it asked while that is open, else on one of our own."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from dcmstore.commitment import call, event
from dcmstore.commitment.asked import Asked
from dcmstore.commitment.call import CallFailed, Peer
from dcmstore.commitment.event import Report
from dcmstore.commitment.line import Line, Lines, NotAnswered, Question
from dcmstore.dimse.command import CommandSet
from dcmstore.jobs.work import JobFailed

PATIENCE = 30.0  # seconds for a pause of the requestor's, and then for its response
_WARNINGS = (0x0001, 0x0107, 0x0116)  # beside Bxxx (PS3.7 annex C); who warns has taken the report


class Way(Enum):
    """Where a report goes: a value of `storage-commitment`."""

    SAME = "same"  # the association of the request while it is open, else a new one
    NEW = "new"

    @classmethod
    def of(cls, value: str) -> "Way":
        """What was promised before it was switched off is reported all the same."""
        return cls.SAME if value == cls.SAME.value else cls.NEW


@dataclass(frozen=True, slots=True)
class Reporter:
    """Reports for several threads at once. `peers` gives the peer in force for a calling AE title."""

    ae_title: Callable[[], str]
    way: Callable[[], Way]
    peers: Callable[[str], Peer | None]
    lines: Lines

    def obstacle(self, ae_title: str) -> str:
        """Why no report would ever reach a requestor, as an Error Comment, or nothing."""
        has_way = self.way() is Way.SAME or self.peers(ae_title) is not None
        return "" if has_way else f"peers= has no address for {ae_title}"

    def report(self, asked: Asked, found: Report) -> str:
        """Return which association it was: `same` or `new`. Raises JobFailed."""
        line = self.lines.get(asked.line) if self.way() is Way.SAME else None
        problem = "its association is over"
        if line is not None:
            try:
                _require_success(self._ask(line, found))
            except (NotAnswered, JobFailed) as error:
                problem = f"on its association: {error}"
            else:
                return Way.SAME.value
        peer = self.peers(asked.calling_ae_title)
        if peer is None:
            ae_title = asked.calling_ae_title
            raise JobFailed(f"{problem}, and peers= does not say where {ae_title} is; add {ae_title}@host:port to it")
        try:
            _require_success(call.report(peer, self.ae_title(), found))
        except CallFailed as error:
            raise JobFailed(str(error)) from None
        return Way.NEW.value

    def _ask(self, line: Line, found: Report) -> CommandSet:
        data_set = event.encode(found, line.transfer_syntax)
        return line.ask(lambda message_id: Question(event.request(found, message_id), data_set), PATIENCE)


def _require_success(response: CommandSet) -> None:
    """Raises JobFailed."""
    if response.status is None:
        raise JobFailed("N-EVENT-REPORT answered without a Status")
    is_warning = response.status in _WARNINGS or response.status >> 12 == 0xB
    if response.status and not is_warning:
        comment = f" ({response.error_comment})" if response.error_comment else ""
        raise JobFailed(f"N-EVENT-REPORT answered with status {response.status:04X}H{comment}")
