"""folder -> calm folder: what one run leaves behind must not slow the next.

ext4 without a journal, which virtual machines often have, does not give an inode away again for minutes after
its file was deleted, and passes over every such inode for every new file: 13 µs a file became 480 µs where we
saw it. So nothing is deleted before the end: files are emptied, which gives their space back. And before a run,
files are made until making one is cheap.

A virtual machine gives memory that is free for seconds back to its host, and the first use of such a page is slow:
600 CT images took 0.3 s or 1.0 s of the receiver's CPU time, by chance. So right before a run as much is taken
and given back as client and receiver will take.
"""

import mmap
import os
import time
from pathlib import Path

BATCH = 300  # files
CHEAP = 40e-6  # seconds a file
PIECE = 1024 * 1024  # bytes
PATIENCE = 60  # batches; then the ground is as it is, and the report says what a file costs


def prepare(folder: Path, max_batches: int) -> float:
    """Make a folder on calm ground, with some patience; return the seconds that a new file costs there."""
    folder.mkdir()
    cost = _make_files(folder / "ground 0")
    for number in range(1, max_batches):
        if cost <= CHEAP:
            break
        cost = _make_files(folder / f"ground {number}")
    return cost


def _make_files(folder: Path) -> float:
    folder.mkdir()
    started = time.perf_counter()
    for number in range(BATCH):
        os.close(os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    return (time.perf_counter() - started) / BATCH


def warm(size: int) -> None:
    """Let the system have memory at hand for as many bytes, but no more than half of what is free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
    piece = bytes(PIECE)
    with mmap.mmap(-1, max(min(size, free // 2), PIECE)) as memory:
        for start in range(0, len(memory) - PIECE + 1, PIECE):
            memory[start : start + PIECE] = piece


def bury(folder: Path) -> None:
    """Give the space of a folder back and its name free; the inodes stay taken."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.getsize(path):
                os.truncate(path, 0)
    number = 1
    while (grave := folder.with_name(f"{folder.name} {number}")).exists():
        number += 1
    folder.rename(grave)
