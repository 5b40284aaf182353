"""each root folder -> how quick its disk is, and whether it has room for more files."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from dcmstore.doctor.findings import Finding, fail, note, ok
from dcmstore.doctor.specimen import PATIENT_ID, PATIENT_NAME
from dcmstore.errors import reason_of
from dcmstore.settings import Settings
from dcmstore.storage import files
from dcmstore.storage.filing import Root

TRIES = 30  # files made and removed: enough for a scanner that looks at some of them
SIZE = 16 * 1024  # bytes of each
SLOW = 0.1  # seconds that a file may take at most
FAR_ABOVE = 10  # times the median: something else than the disk is at work …
NOTICEABLE = 0.02  # … where that is as many seconds at least
MANY = 50_000  # entries of one folder, above which programs that show it become slow
COUNTED = 100_000  # entries counted at most
FEW_INODES = 10_000  # new files and folders that a file system has room for

_PREFIX = ".dcmstore-doctor-"  # no object is filed under a name that begins with a dot


def findings(settings: Settings, roots: Mapping[Root, Path]) -> Iterator[Finding]:
    for root, folder in roots.items():
        try:
            yield speed(root, measure(folder, durable=settings.durable))
            yield from _room(root, folder)
            yield from _entries(settings, root, folder)
        except OSError as error:
            yield fail(f"{root.value} {folder}: {reason_of(error)}", "see to that folder or its disk")


# --- delays --------------------------------------------------------------------------------------


def measure(folder: Path, *, durable: bool) -> list[float]:
    """Make, sync, rename and remove files as a store does, in a folder of their own; the seconds that each took.

    Raises OSError.
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as made:
        return [_once(os.path.join(made, str(number)), durable=durable) for number in range(TRIES)]


def _once(name: str, *, durable: bool) -> float:
    started = time.perf_counter()
    descriptor = files.create(name + ".part")
    try:
        files.write_all(descriptor, [bytes(SIZE)])
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    files.give_name(name + ".part", name)
    if durable:
        files.sync_folder(os.path.dirname(name))
    os.unlink(name)
    return time.perf_counter() - started


def speed(root: Root, seconds: list[float]) -> Finding:
    median, worst = statistics.median(seconds), max(seconds)
    text = f"{root.value}: a file is made, synced, renamed and removed in {_ms(median)}, at worst in {_ms(worst)}"
    if worst <= SLOW and (worst < NOTICEABLE or worst <= FAR_ABOVE * median):
        return ok(text)
    if median > SLOW:
        return note(text, "the disk or the share is slow, and each object waits for it: use a local disk, or an SSD")
    advice = "a virus scanner or a backup holds new files: let it leave out this folder and the dcmstore program"
    return note(text, f"{advice}; a disk at rest or a busy one looks the same")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


# --- room ----------------------------------------------------------------------------------------


def _room(root: Root, folder: Path) -> Iterator[Finding]:
    """Some file systems run out of inodes, and are full with bytes left. Those that count none make them at need."""
    if not hasattr(os, "statvfs"):
        return
    state = os.statvfs(folder)
    if state.f_files and state.f_favail < FEW_INODES:
        yield fail(
            f"{root.value} {folder}: the file system has room for {state.f_favail} more files and folders only",
            "remove or move old ones, or make the file system anew with more inodes (`df -i` shows them)",
        )


def _entries(settings: Settings, root: Root, folder: Path) -> Iterator[Finding]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in islice(entries, COUNTED)]
    if len(names) > MANY:
        more = "more than " if len(names) == COUNTED else ""
        has_tree = settings.rdsr_tree if root is Root.DOSE_REPORTS else settings.folder_tree
        switch = "RDSR-tree= 1" if root is Root.DOSE_REPORTS else "folder-tree= 1"
        advice = "move what is old elsewhere" if has_tree else f"set {switch}, and move what is there elsewhere"
        yield note(f"{root.value} {folder} holds {more}{len(names)} entries, which makes it slow to look at", advice)
    for name in names:
        if name.startswith((_PREFIX, PATIENT_ID, PATIENT_NAME)):
            yield note(f"{folder / name} is of another `dcmstore doctor`", "if none runs, it was killed: remove that")
