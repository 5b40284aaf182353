"""the name of a flaw -> a receiver that has it: torture that finds nothing in this one proves nothing.

Each flaw leaves out one step of the order that store.py promises.
"""

import os
import stat
import sys
import time
from collections.abc import Callable

from dcmstore import cli
from dcmstore.storage import files
from dcmstore.storage.incoming import IncomingFolder

SYNC_TIME = 0.01  # seconds, as on a real disk; in memory a sync takes none, and nothing would come between

_fsync, _give_name = os.fsync, files.give_name


def _sync_only(is_wanted: Callable[[int], bool]) -> None:
    """Let os.fsync sync only what has the wanted type."""

    def sync(descriptor: int) -> None:
        if is_wanted(os.fstat(descriptor).st_mode):
            _fsync(descriptor)

    os.fsync = sync  # type: ignore[assignment]


def _without_file_sync() -> None:
    _sync_only(stat.S_ISDIR)


def _without_folder_sync() -> None:
    _sync_only(stat.S_ISREG)


def _named_before_synced() -> None:
    _sync_only(stat.S_ISDIR)

    def name_then_sync(source: str, target: str) -> None:
        _give_name(source, target)
        time.sleep(SYNC_TIME)
        descriptor = os.open(target, os.O_RDONLY)
        try:
            _fsync(descriptor)
        finally:
            os.close(descriptor)

    files.give_name = name_then_sync


def _copied_to_their_name() -> None:
    def copy(source: str, target: str) -> None:
        with open(source, "rb") as original, open(target, "xb") as copied:
            whole = original.read()
            copied.write(whole[: len(whole) // 2])
            copied.flush()
            time.sleep(SYNC_TIME)
            copied.write(whole[len(whole) // 2 :])
        os.unlink(source)

    files.give_name = copy


def _never_cleared() -> None:
    IncomingFolder._clear = lambda self: 0  # type: ignore[method-assign]


# What a kill brings to light, and what only a power cut does
CRASH_FLAWS: dict[str, Callable[[], None]] = {
    "files are copied to their name": _copied_to_their_name,
    "temporary files of killed runs stay": _never_cleared,
}
POWER_FLAWS: dict[str, Callable[[], None]] = {
    "files are not synced": _without_file_sync,
    "folders are not synced": _without_folder_sync,
    "files get their name before they are synced": _named_before_synced,
}

if __name__ == "__main__":
    (CRASH_FLAWS | POWER_FLAWS)[sys.argv[1]]()
    sys.exit(cli.main(sys.argv[2:]))
