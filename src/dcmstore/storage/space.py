"""a disk's free space and an object's size -> room or none: asked before data is written, and on the way.

Images leave some of their disk free. Structured reports may use what is left: they are small, and dose reports shall
still land when the disk is full of images.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from dcmstore.errors import OutOfResources, ProtocolError

MEGABYTE = 1024 * 1024  # bytes
LOOK_EVERY = 0.5  # seconds for which the system's answer counts; on a share, asking takes milliseconds
STEP = 64 * MEGABYTE  # of one object between two looks at the disk
# bytes of a data set that are passed over because it is refused, so that the association can go on behind it; a sender
# that has still more is taken for one that never ends
MAX_PASSED_OVER = 4 * 1024 * MEGABYTE


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """`max_object` of one object, `min_free` of the disk; both in bytes, 0 is no limit."""

    max_object: int = 0
    min_free: int = 0


class FreeSpace:
    """The room below one root, whose name stands in errors. For any thread."""

    def __init__(self, root: str, folder: str, min_free: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._folder = folder
        self._min_free = min_free
        self._clock = clock
        self._looked = -LOOK_EVERY
        self._is_short = False

    def require(self) -> None:
        """Raises OutOfResources when less than `min_free` is free, OSError when the disk can't be asked."""
        if not self._min_free:
            return
        now = self._clock()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._is_short = shutil.disk_usage(self._folder).free < self._min_free
        if self._is_short:
            raise OutOfResources(f"{self._root}: less than min-free-space= {self._min_free // MEGABYTE} MB is free")


class Allowance:
    """How far one object may grow: `next_look` is the size at which `require` is due. `free` is None for reports."""

    def __init__(self, max_object: int, free: FreeSpace | None) -> None:
        self._max_object = max_object
        self._free = free
        self.next_look = 0

    def require(self, size: int) -> None:
        """Raises OutOfResources when an object of this size, or more of it, can't be kept; OSError as FreeSpace."""
        if self._max_object and size > self._max_object:
            raise OutOfResources(f"larger than max-object-size= {self._max_object // MEGABYTE} MB")
        if self._free is not None:
            self._free.require()
        self.next_look = min(size + STEP, self._max_object or size + STEP)

    def pass_over(self, size: int) -> None:
        """Nothing of it is kept any more. Raises ProtocolError when it does not end, for its sender is not sane."""
        if self._max_object and size > self._max_object + MAX_PASSED_OVER:
            more = MAX_PASSED_OVER // MEGABYTE
            allowed = f"at most max-object-size= {self._max_object // MEGABYTE} MB, and {more} MB more to be refused"
            raise ProtocolError("length of the data set", f"{size} bytes and no end", allowed)
