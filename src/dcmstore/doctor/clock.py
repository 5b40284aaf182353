"""the clock of this machine, and that of each disk -> whether times can be trusted."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dcmstore.doctor.findings import Finding, fail, note, ok
from dcmstore.storage.filing import Root

FIRST_YEAR = 2026  # this program is not older
LAST_YEAR = 2099
MOST_APART = 5.0  # seconds between two clocks; FAT tells time in steps of two


def findings(roots: Mapping[Root, Path], clock: Callable[[], float] = time.time) -> Iterator[Finding]:
    """`clock` counts seconds since 1970."""
    now = time.localtime(clock())
    text = f"the clock says {time.strftime('%Y-%m-%d %H:%M', now)}, time zone {time.strftime('UTC%z (%Z)', now)}"
    if FIRST_YEAR <= now.tm_year <= LAST_YEAR:
        yield ok(text)
    else:
        yield fail(text, "set it, and let it be kept by the network (NTP); a flat battery of the mainboard loses it")
    for root, folder in roots.items():
        apart = _apart(folder, clock)
        if abs(apart) > MOST_APART:
            which = "ahead of" if apart > 0 else "behind"
            yield note(
                f"{root.value}: the clock of that disk is {abs(apart):.0f} s {which} this machine's",
                "let the same time server keep both; the times of files there are not those of the log",
            )


def _apart(folder: Path, clock: Callable[[], float]) -> float:
    """Seconds by which a file that is made now is younger than now; 0 where none can be made."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        before = clock()
        file.write(b"dcmstore")
        file.flush()
        os.fsync(file.fileno())
        made = os.fstat(file.fileno()).st_mtime
        after = clock()
        return made - min(max(made, before), after)
    return 0.0
