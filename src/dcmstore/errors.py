"""What can go wrong, in three kinds with three exits.

A protocol error ends in an A-ABORT, a storage error in the status of a response, a configuration error in
exit code 2. Nothing here imports anything of ours: every layer may raise and catch these.
"""

import sys
from enum import IntEnum


class AbortSource(IntEnum):
    """Who aborts (PS3.8 table 9-26)."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


class AbortReason(IntEnum):
    """Why the service provider aborts (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PDU_PARAMETER = 4
    UNEXPECTED_PDU_PARAMETER = 5
    INVALID_PDU_PARAMETER_VALUE = 6


class DcmStoreError(Exception):
    """Anything this package raises on purpose."""


class ProtocolError(DcmStoreError):
    """The peer broke PS3.8 or PS3.7; the association cannot go on.

    `field` is the standard's name of what is wrong, `got` what came, `allowed` what may stand there.
    """

    def __init__(
        self,
        field: str,
        got: object,
        allowed: str,
        *,
        reason: AbortReason = AbortReason.INVALID_PDU_PARAMETER_VALUE,
        source: AbortSource = AbortSource.SERVICE_PROVIDER,
    ) -> None:
        super().__init__(f"{field}: got {got}, allowed is {allowed}")
        self.field = field
        self.reason = reason
        self.source = source


class StorageError(DcmStoreError):
    """An instance could not be kept. The text becomes the Error Comment (LO, so 64 characters count)."""


class OutOfResources(StorageError):
    """The disk, quota or folder does not take the instance; a later try may succeed."""


class DataSetMismatch(StorageError):
    """The data set contradicts the command that announced it."""


class CannotUnderstand(StorageError):
    """The data set can't be read far enough to file it."""


class DuplicateRefused(StorageError):
    """Another data set with this SOP Instance UID is already kept, and `duplicates= keep` protects it."""


class ConfigurationError(DcmStoreError):
    """A setting is wrong: one line that names file, line, key, value and what is allowed."""


def reason_of(error: Exception) -> str:
    """What went wrong, without the number and the path of an OSError: who tells it has named the path before."""
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error) or type(error).__name__


def install_with(library: str) -> str:
    """What to do where a library is missing: for the Python that runs this, whichever it is."""
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f'install it with: {python} -m pip install "{library}"'
