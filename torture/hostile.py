"""hostile peers at a receiver -> a normal sender is served meanwhile, and afterwards nothing of them is left.

`make torture`, or `python -m torture.hostile --short`. The receiver, the attackers and the normal sender are processes
of their own. How long a store takes is printed and never judged; a wrong answer, a lost object, a dead service and
resources that do not come back are.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import free_port
from dcmstore.storage.filing import Root
from tests.certificates import Authority
from torture import attacks, bystander, figures, receiver
from torture.attacks import ATTACKS, Attacks
from torture.bystander import Bystander, Figures
from torture.ledger import leftovers
from torture.receiver import Running

SECONDS, SHORT_SECONDS = 8.0, 0.3  # of each attack
QUIET_SECONDS = 5.0  # before each attack; in the short form once
SHORT_SHARE = 0.2
RETURN_LIMIT = 60.0  # seconds after which a resource counts as lost
LOOK_EVERY = 0.05  # seconds
MEMORY_SLACK = 32 * 1024 * 1024  # bytes that the memory may be larger; what the C library keeps of threads that ended
COLUMNS = ["attack", "what it did", "quiet p50 / p99", "p50 / p99", "p99 to quiet", "opening p99", "peak memory"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What a receiver has of the system: threads, descriptors, and bytes of memory."""

    threads: int
    descriptors: int
    memory: int
    peak: int  # since `forget_peak`

    @classmethod
    def of(cls, pid: int) -> "Resources":
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        kilobytes = {key: int(status[key].split()[0]) for key in ("Threads", "VmRSS", "VmHWM")}
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(kilobytes["Threads"], descriptors, kilobytes["VmRSS"] * 1024, kilobytes["VmHWM"] * 1024)

    def has_as_many(self, other: "Resources") -> bool:
        return (self.threads, self.descriptors) == (other.threads, other.descriptors)

    def lost_since(self, before: "Resources") -> list[str]:
        """What has not come back."""
        lost = []
        if self.threads > before.threads:
            lost.append(f"{self.threads} threads, {before.threads} before")
        if self.descriptors > before.descriptors:
            lost.append(f"{self.descriptors} descriptors, {before.descriptors} before")
        if self.memory > before.memory + MEMORY_SLACK:
            lost.append(f"{_megabytes(self.memory)} of memory, {_megabytes(before.memory)} before")
        return lost


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass
class Result:
    """The rows of the table, and what was wrong."""

    rows: list[list[object]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    stored: int = 0


class Siege:
    """One receiver, and one attack after the other."""

    def __init__(self, folder: Path, running: Running, tls_port: int, share: float) -> None:
        self.result = Result()
        self._roots = roots_below(folder)
        self._process = running.process
        self._bystander = Bystander(running.port)
        self._attacks = Attacks(running.port, tls_port, share)
        self._quiet = Figures()

    def close(self) -> None:
        self._attacks.close()
        self._bystander.close()

    def rest(self, seconds: float) -> None:
        """Measure what is usual."""
        self._bystander.begin()
        time.sleep(seconds)
        self._quiet = self._judged("without an attack", self._bystander.end())

    def suffer(self, name: str, seconds: float) -> None:
        """One attack, and what is left of it."""
        before = self._come_to_rest(None)
        forget_peak(self._process.pid)
        self._bystander.begin(opens_anew=ATTACKS[name].lets_in)
        self._attacks.begin(name, seconds)
        toll = self._attacks.end()
        served = self._judged(name, self._bystander.end())
        self.result.faults += [f"{name}: {fault}" for fault in toll.faults]
        if self._process.poll() is not None:
            self.result.faults.append(f"{name}: the receiver ended with exit code {self._process.returncode}")
            return
        after = self._come_to_rest(before)  # while the attackers still hold what they have
        self.result.faults += [f"{name}: {lost}" for lost in after.lost_since(before)]
        self._attacks.let_go()
        self.result.faults += [f"{name}: {path} is left" for path in leftovers(self._roots)]
        self._bystander.begin()
        self._judged(f"after {name}", self._bystander.end())
        self._note(name, toll, served, after)

    def _come_to_rest(self, before: Resources | None) -> Resources:
        """The resources once they are what they were, or have not changed for want of an attack."""
        deadline = time.monotonic() + RETURN_LIMIT
        last = Resources.of(self._process.pid)
        while time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
            now = Resources.of(self._process.pid)
            if (
                not now.lost_since(before)
                if before
                else (now.threads, now.descriptors) == (last.threads, last.descriptors)
            ):
                return now
            last = now
        return last

    def _judged(self, when: str, served: Figures) -> Figures:
        faults = served.faults + bystander.missing(self._roots[Root.IMAGES], served.acknowledged)
        self.result.faults += [f"{when}: {fault}" for fault in faults]
        self.result.stored += len(served.acknowledged)
        return served

    def _note(self, name: str, toll: attacks.Toll, served: Figures, after: Resources) -> None:
        quiet = self._quiet.stores
        did = [f"{times:,} {what}" for what, times in toll.counts.items()]
        did += [f"{served.retries} openings tried again"] if served.retries else []
        row: list[object] = [
            name,
            ", ".join(did),
            f"{_percentile(quiet, 50):.1f} / {_percentile(quiet, 99):.1f} ms",
            f"{_percentile(served.stores, 50):.1f} / {_percentile(served.stores, 99):.1f} ms",
            f"{_percentile(served.stores, 99) / (_percentile(quiet, 99) or 1):.1f}",
            f"{_percentile(served.openings, 99):.1f} ms",
            _megabytes(after.peak),
        ]
        self.result.rows.append(row)
        print(" | ".join(map(str, row)), flush=True)


def _percentile(seconds: list[float], percent: int) -> float:
    """In milliseconds."""
    return sorted(seconds)[min(len(seconds) * percent // 100, len(seconds) - 1)] * 1000 if seconds else 0.0


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.0f} MB"


def roots_below(folder: Path) -> dict[Root, Path]:
    return {root: folder / "received" / root.value for root in Root}


def run(names: list[str], *, is_short: bool) -> Result:
    """The attacks of these names against one receiver."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        certificate, key = Authority().issue("receiver", names=["localhost"]).save(folder, "receiver")
        tls_port = free_port()
        receiver.prepare(
            folder,
            roots_below(folder),
            max_associations=attacks.MAX_ASSOCIATIONS,
            max_object_size=attacks.MAX_OBJECT,
            tls_port=tls_port,
            tls_certificate=certificate,
            tls_key=key,
            **attacks.TIMEOUTS,
        )
        running = receiver.start(folder)
        siege = Siege(folder, running, tls_port, SHORT_SHARE if is_short else 1.0)
        try:
            siege.rest(
                SHORT_SECONDS if is_short else QUIET_SECONDS
            )  # what is loaded at the first object only is loaded
            siege.rest(2 * SHORT_SECONDS)
            for name in names:
                if not is_short:
                    siege.rest(QUIET_SECONDS)
                siege.suffer(name, SHORT_SECONDS if is_short else SECONDS)
        finally:
            siege.close()
            running.kill()
    return siege.result


def main() -> int:
    parser = argparse.ArgumentParser(description="Attack a receiver, and see who is served and what is left of it.")
    parser.add_argument("--short", action="store_true", help="a moment an attack")
    parser.add_argument("--only", choices=ATTACKS, action="append", help="this attack, in place of all")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {figures.PAGE.name}")
    options = parser.parse_args()
    if not Path("/proc/self/status").exists():
        print("skipped: torture.hostile needs Linux, for it looks into /proc")
        return 0
    started = time.monotonic()
    names = options.only or list(ATTACKS)
    print(" | ".join(COLUMNS), flush=True)
    result = run(names, is_short=options.short)
    seconds = time.monotonic() - started
    for fault in result.faults:
        print(f"FAULT: {fault}")
    failed = sum(any(fault.startswith((name, f"after {name}")) for fault in result.faults) for name in names)
    failed = failed or int(bool(result.faults))
    print(f"{result.stored} objects of a normal sender stored and compared, {seconds:.0f} s")
    print(f"{len(names) - failed} passed, {failed} failed")
    if options.record:
        notes: dict[str, object] = {"Objects of the normal sender, compared with what was sent": result.stored}
        notes |= {"took": f"{seconds:.0f} s", "on": figures.machine(), "at": figures.now()}
        figures.record("hostile", COLUMNS, result.rows, notes)
    return int(bool(result.faults))


if __name__ == "__main__":
    sys.exit(main())
