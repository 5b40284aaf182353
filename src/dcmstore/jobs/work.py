"""a job -> done, or failed with a reason: what a job is, and what does one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from dcmstore.errors import DcmStoreError

Facts: TypeAlias = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do about what was stored, once and not before what came before it.

    `kind` chooses the handler and `target` is what it works for, as it was written in the ini. A job of the same kind
    and target with a `key` that waits already is the same job. Those with one `order` (a Study Instance UID) are done
    one after the other.
    """

    kind: str
    target: str
    key: str
    order: str
    facts: Facts


class JobFailed(DcmStoreError):
    """It was not done; the text says why and what to do. One that `is_final` would fail again.

    One that `is_about_one` says something of this job, and nothing of others for the same target; a final one does.
    """

    def __init__(self, reason: str, *, is_final: bool = False, is_about_one: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final
        self.is_about_one = is_about_one or is_final


class Handler(Protocol):
    """Does jobs of one kind. Called by several threads at once; ends by itself, and soon once the receiver stops."""

    def do(self, job: Job) -> None:
        """Raises JobFailed."""


class Tell(Protocol):
    """Writes an event with its facts into the log."""

    def __call__(self, event: str, /, **facts: object) -> None: ...
