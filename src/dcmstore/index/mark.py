"""a clean end -> a file that says so: beside the index, and gone before the first object is acknowledged.

A database could not hold this mark alone: it would have to be opened and synced before the receiver may listen, and it
may be locked just then. So a token stands in the database and in this file, and only where both are the same nothing
can be missing. A file is removed in no time, also on a full disk.
"""

import contextlib
import os
import secrets

from dcmstore.storage import files

MAX_TOKEN = 64  # bytes; ours has 32, and the file may have become anything


class Mark:
    """The file with the token of the last clean end."""

    def __init__(self, path: str) -> None:
        self._path = path

    def take(self) -> str:
        """Remove the file for good and return its token; empty where there is none. Raises OSError."""
        try:
            with open(self._path, "rb") as file:
                token = file.read(MAX_TOKEN).decode("ascii", "replace")
            os.unlink(self._path)
        except FileNotFoundError:
            return ""
        files.sync_folder(os.path.dirname(self._path))
        return token

    def set(self, token: str) -> None:
        """Raises OSError."""
        files.write_whole(self._path, token.encode("ascii"))

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def of(database_path: str) -> Mark:
    """The one of a database."""
    return Mark(database_path + "-clean")


def new_token() -> str:
    return secrets.token_hex(16)
