"""who listens <-> who serves: what the processes tell each other. Connections go by the number they got."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dcmstore.audit.messages import Peer, Transferred
from dcmstore.config import Configuration
from dcmstore.index.notes import Note

# --- to those that serve -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Use:
    """Settings for connections to come; they bear this generation's number."""

    generation: int
    configuration: Configuration
    sop_classes: Mapping[str, tuple[str, ...]] | None  # as a profile alone accepts them


@dataclass(frozen=True, slots=True)
class Retire:
    """No connection has these settings any more."""

    generation: int


@dataclass(frozen=True, slots=True)
class Serve:
    """A connection; its socket comes with the message."""

    number: int
    address: tuple[object, ...]
    is_secure: bool
    generation: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """Whether a connection counts as an association: an empty obstacle says so."""

    number: int
    obstacle: str


@dataclass(frozen=True, slots=True)
class Drain:
    """The receiver stops: leave this connection once no message is under way."""

    number: int


@dataclass(frozen=True, slots=True)
class Cut:
    number: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Whether the process still answers; each question has another number."""

    number: int


# --- to the one that listens ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The answer to Use: the settings are in force, and all lines of the log from before have been told."""

    generation: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The socket of a connection is here; the other end of it may be closed."""

    number: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Whether a connection may be an association for this calling AE title: `Admitted` is the answer."""

    number: int
    calling_ae_title: str


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The association is over; the connection still has to close."""

    number: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over, and so many objects were stored over it."""

    number: int
    stored: int


@dataclass(frozen=True, slots=True)
class Alive:
    """The answer to Ask, behind all that was told before: how many objects each open connection has stored so far."""

    number: int
    stored: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines of the log."""

    text: str


@dataclass(frozen=True, slots=True)
class Seldom:
    """A fact that is told once a minute; as `dcmstore.seldom` has it."""

    kind: Hashable
    event: str
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class InFolder:
    """A new file below a master folder, for its DICOMDIR."""

    folder: str
    path: str


@dataclass(frozen=True, slots=True)
class ForIndex:
    """A file that was acknowledged, for the index."""

    note: Note


@dataclass(frozen=True, slots=True)
class Began:
    """An association, before its first file; as `events.FileIndex` has it. So is Ended."""

    association: int


@dataclass(frozen=True, slots=True)
class Ended:
    association: int


@dataclass(frozen=True, slots=True)
class ForTrail:
    """What an association brought, for the audit trail."""

    peer: Peer
    counts: Mapping[Transferred, int]


@dataclass(frozen=True, slots=True)
class Promised:
    """There are jobs in the queue that another process than this one has to do."""


@dataclass(frozen=True, slots=True)
class Missed:
    """So many of these found no room while the process that listens did not keep up, and are not told any more."""

    notes: int  # ForIndex
    folders: int  # InFolder
    transfers: int  # ForTrail
    lines: int  # Seldom; Lines are counted by the log


@dataclass(frozen=True, slots=True)
class Gone:
    """A process that served is gone, and its associations with it. The pool says so.

    Unless that was in order, something may be stored of which it told nobody.
    """

    process: int
    is_orderly: bool


News: TypeAlias = InFolder | ForIndex | Began | Ended | ForTrail | Promised | Missed | Gone
Told: TypeAlias = Ready | Taken | Asked | Dismissed | Closed | Alive | Lines | Seldom | News
