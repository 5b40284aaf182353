"""a power cut at random instants -> with `durable= 1` nothing that was acknowledged is lost, and nothing is half there.

`make torture`, or `python -m torture.power --cuts 12` for a short form. Needs Linux and root; else it says why and does
nothing. The roots lie on two file systems in images of their own. A cut stops both in the kernel, with all that they
have not written yet, and kills the receiver; then they are mounted anew from their images, as after a start.

Before any of that counts, receivers with a known flaw are tortured the same way: a flaw that is not found is a fault of
this program.
"""

import argparse
import contextlib
import itertools
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dcmstore.dimse.status import Status
from dcmstore.storage.filing import Root
from dcmstore.storage.store import Duplicates
from torture import disks, figures, receiver
from torture.disks import EXT4, EXT4_WITHOUT_JOURNAL, XFS, Disk, FileSystem
from torture.flawed import POWER_FLAWS
from torture.ledger import Ledger, leftovers
from torture.senders import Senders

FILE_SYSTEMS = (EXT4, EXT4_WITHOUT_JOURNAL, XFS)
NOT_DURABLE = "durable= 0"
FLAWS_TO_FIND = (NOT_DURABLE, *POWER_FLAWS)
CUTS_TO_FIND_A_FLAW = 40  # at most
CUTS_A_DISK = 10  # then new ones, so that they do not fill up
MEMORY = 2 * disks.SIZE  # bytes for the images, of which only what is written is taken
LONGEST_LIFE = 0.4  # seconds between a start and its cut
LONGEST_ACKNOWLEDGED = 100  # objects; half of the cuts come right behind an acknowledgement
LONG_RUN = 100  # cuts
TIME_LIMIT = 10 * 60.0  # seconds for a file system
LONGEST_AFTERLIFE = 0.05  # seconds that the receiver goes on without its disks


@dataclass
class Result:
    """What a file system and a receiver went through, and what was wrong."""

    file_system: str
    flaw: str = ""
    cuts: int = 0
    acknowledged: int = 0
    cleared: int = 0  # temporary files that cuts left, gone after the next start
    faults: list[str] = field(default_factory=list)


class Power:
    """The power of some disks, which is cut once: after so many acknowledgements, or when `cut` is called."""

    def __init__(self, powered: Mapping[Root, Disk], cut_after: int) -> None:
        self._disks = powered.values()
        self._cut_after = cut_after
        self._acknowledged = itertools.count(1)
        self._lock = threading.Lock()
        self.is_off = threading.Event()

    def acknowledged(self) -> None:
        if next(self._acknowledged) == self._cut_after:
            self.cut()

    def cut(self) -> None:
        with self._lock:
            if not self.is_off.is_set():
                for disk in self._disks:
                    disk.cut_power()
                self.is_off.set()


def torture(file_system: FileSystem, cuts: int, chance: random.Random, flaw: str = "") -> Result:
    """Cut the power so many times, or until something is wrong."""
    result = Result(file_system.name, flaw)
    deadline = time.monotonic() + TIME_LIMIT
    while result.cuts < cuts and not result.faults:
        if time.monotonic() > deadline:
            result.faults.append(f"not done within {TIME_LIMIT:g} s")
            break
        with _disks_and_folder(file_system) as (powered, folder):
            cuts_here = min(CUTS_A_DISK, cuts - result.cuts) if file_system.has_journal else 1
            _torture_disks(powered, folder, cuts_here, chance, result)
    return result


@contextlib.contextmanager
def _disks_and_folder(file_system: FileSystem) -> Iterator[tuple[dict[Root, Disk], Path]]:
    """A disk for each root, and a folder that is on neither."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        memory = stack.enter_context(disks.mounted_memory(folder, MEMORY))
        powered = {root: Disk(file_system, memory / root.value, folder / f"{root.value}-disk") for root in Root}
        for disk in powered.values():
            stack.enter_context(disk)
        yield powered, folder


def _torture_disks(powered: dict[Root, Disk], folder: Path, cuts: int, chance: random.Random, result: Result) -> None:
    # A folder below, for the root of a file system may hold lost+found.
    roots = {root: disk.folder / "received" for root, disk in powered.items()}
    duplicates = chance.choice((Duplicates.BOTH, Duplicates.REPLACE))
    receiver.prepare(folder, roots, durable=int(result.flaw != NOT_DURABLE), duplicates=duplicates.value)
    for disk in powered.values():
        disk.unmount()  # the roots themselves are there for good
        disk.mount()
    ledger = Ledger(chance, duplicates)
    for _ in range(cuts):
        _cut_once(powered, folder, ledger, chance, result)
        result.cuts += 1
        is_whole = all(disk.file_system.has_journal for disk in powered.values())
        result.faults += ledger.judge(roots, everything=True, elsewhere=is_whole)
        if result.faults:
            break
    result.acknowledged += ledger.acknowledged


def _cut_once(powered: dict[Root, Disk], folder: Path, ledger: Ledger, chance: random.Random, result: Result) -> None:
    roots = {root: disk.folder / "received" for root, disk in powered.items()}
    left = len(leftovers(roots))
    running = receiver.start(folder, result.flaw if result.flaw in POWER_FLAWS else "")
    result.cleared += left
    result.faults += [f"{path} was left by a run that a cut ended" for path in leftovers(roots)]
    power = Power(powered, chance.randint(1, LONGEST_ACKNOWLEDGED) if chance.random() < 0.5 else 0)
    senders = Senders(ledger, may_fail=(Status.OUT_OF_RESOURCES,), on_acknowledged=power.acknowledged)
    senders.start(running.port)
    power.is_off.wait(chance.uniform(0, LONGEST_LIFE))
    power.cut()
    time.sleep(chance.uniform(0, LONGEST_AFTERLIFE))
    running.kill()
    senders.end()
    result.faults += senders.faults
    for disk in powered.values():
        disk.restore_power()


# --- the whole run -------------------------------------------------------------------------------


def run(cuts: int, seed: int) -> list[Result]:
    """Every flaw, in a long run on every file system; then the cuts, spread over the file systems."""
    chance = random.Random(seed)
    there = [(kind, kind.unavailable()) for kind in FILE_SYSTEMS]
    for kind, reason in there:
        if reason:
            print(f"skipped: {kind.name}: {reason}")
    available = [kind for kind, reason in there if not reason]
    results = []
    for kind in available if cuts >= LONG_RUN else available[:1]:
        for flaw in FLAWS_TO_FIND:
            results.append(torture(kind, CUTS_TO_FIND_A_FLAW, chance, flaw))
            _print(results[-1])
    for number, kind in enumerate(available):
        share = cuts * (number + 1) // len(available) - cuts * number // len(available)
        results.append(torture(kind, share, chance))
        _print(results[-1])
    return results


def faults_of(result: Result) -> list[str]:
    """What is wrong about the receiver, or about the torture when it found nothing wrong where something is."""
    if not result.flaw:
        return result.faults if result.faults or result.acknowledged else ["nothing was acknowledged"]
    found = f"{result.file_system}: a receiver with this flaw was found faultless: {result.flaw}"
    return [] if result.faults else [found]


def _print(result: Result) -> None:
    what = f"self-test, {result.flaw}: found at cut" if result.flaw else "cuts"
    print(
        f"{result.file_system}: {what} {result.cuts}, {result.acknowledged} objects acknowledged, "
        f"{len(result.faults)} violations" + (f", such as: {result.faults[0]}" if result.faults else ""),
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Cut the power at random instants and judge what is on disk.")
    parser.add_argument("--cuts", type=int, default=210)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--record", action="store_true", help=f"write the figures into {figures.PAGE.name}")
    options = parser.parse_args()
    print(f"torture.power: seed {options.seed}", flush=True)
    if reason := disks.unavailable():
        print(f"skipped: {reason}")
        return 0
    disks.keep_mounts_private()
    started = time.monotonic()
    results = run(options.cuts, options.seed)
    return _report(results, options.seed, time.monotonic() - started, record=options.record)


def _report(results: list[Result], seed: int, seconds: float, *, record: bool) -> int:
    faults = [fault for result in results for fault in faults_of(result)]
    for fault in faults:
        print(f"FAULT: {fault}")
    sound = [result for result in results if not result.flaw]
    cuts, acknowledged = sum(result.cuts for result in sound), sum(result.acknowledged for result in sound)
    print(f"{cuts} power cuts, {acknowledged} objects acknowledged, {len(faults)} violations")
    print(f"seed {seed}, {seconds:.0f} s")
    failed = sum(bool(faults_of(result)) for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    if record:
        rows: list[list[object]] = [
            [result.file_system, result.cuts, result.acknowledged, result.cleared, len(result.faults)]
            for result in sound
        ]
        rows.append(["**in all**", cuts, acknowledged, sum(result.cleared for result in sound), len(faults)])
        columns = ("file system", "power cuts", "objects acknowledged", "temporary files cleared", "violations")
        notes: dict[str, object] = {"Seed": str(seed), "took": f"{seconds:.0f} s", "on": figures.machine()}
        figures.record("power", columns, rows, notes | {"at": figures.now()})
        _record_flaws([result for result in results if result.flaw], seed)
    return int(bool(faults))


def _record_flaws(results: list[Result], seed: int) -> None:
    found = [[result.flaw, result.file_system, result.cuts, len(result.faults)] for result in results]
    columns = ("flaw", "file system", "found at cut", "violations then")
    figures.record("flaws that a power cut shows", columns, found, {"Seed": str(seed)})


if __name__ == "__main__":
    sys.exit(main())
