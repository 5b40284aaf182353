"""kill -9 at random instants -> every acknowledged object is there, byte for byte, and no half file has a name.

`make torture`, or `python -m torture.crash --kills 20` for a short form. The seed is printed and can be given.
Senders stream objects over several associations while the receiver is killed and started again, and send again what
had no answer, as a modality does.

Before that, receivers with a known flaw are tortured the same way: a flaw that is not found is a fault of this program.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dcmstore.storage.filing import Root
from dcmstore.storage.store import Duplicates
from torture import figures, receiver
from torture.flawed import CRASH_FLAWS
from torture.ledger import Ledger, leftovers
from torture.receiver import Running
from torture.senders import Senders

LONGEST_LIFE = 0.6  # seconds between a start and its kill
LONGEST_START = 0.4  # seconds, to be killed within
LONGEST_MOMENT = 0.05  # seconds after something was asked of it
KILLS_A_FOLDER = 25  # at most; then a new one, so that looking through it stays quick
WAYS_OF_DUPLICATES = (Duplicates.BOTH, Duplicates.REPLACE)
KILLS_TO_FIND_A_FLAW = 20  # at most
TIME_LIMIT = 20 * 60.0  # seconds


@dataclass
class Result:
    """What happened, and what was wrong."""

    kills: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    cleared: int = 0  # temporary files that killed runs left, gone after the next start
    faults: list[str] = field(default_factory=list)

    @property
    def all_kills(self) -> int:
        return sum(self.kills.values())


def _after_signal(number: int) -> Callable[[Running, random.Random], None]:
    def end(running: Running, chance: random.Random) -> None:
        running.process.send_signal(number)
        time.sleep(chance.uniform(0, LONGEST_MOMENT))
        running.kill()

    return end


def _at_once(running: Running, chance: random.Random) -> None:
    running.kill()


STARTING = "while it starts"
RECEIVING = "while it receives"
STOPPING = "while it stops"
ENDINGS: dict[str, Callable[[Running, random.Random], None]] = {RECEIVING: _at_once}
SHARES = {RECEIVING: 7, STARTING: 1}
if sys.platform != "win32":
    ENDINGS |= {STOPPING: _after_signal(signal.SIGTERM), "while it reloads": _after_signal(signal.SIGHUP)}
    SHARES |= {STOPPING: 1, "while it reloads": 1}


class _Torture:
    """Kills, one after the other, of receivers that may have a flaw, until something is wrong.

    A folder serves for KILLS_A_FOLDER of them, by turns with each way of duplicates.
    """

    def __init__(self, chance: random.Random, flaw: str = "") -> None:
        self.result = Result(dict.fromkeys(SHARES, 0))
        self._chance = chance
        self._flaw = flaw
        self._deadline = time.monotonic() + TIME_LIMIT

    def run(self, kills: int) -> Result:
        least = len(WAYS_OF_DUPLICATES)
        folders = max(least, -(-kills // KILLS_A_FOLDER))
        for number in range(folders):
            share = kills * (number + 1) // folders - kills * number // folders
            with tempfile.TemporaryDirectory() as folder:
                self._run_in(Path(folder), share, WAYS_OF_DUPLICATES[number % least])
            if self.result.faults:
                break
            print(f"{self.result.all_kills} kills, {self.result.acknowledged} objects acknowledged", flush=True)
        return self.result

    def _run_in(self, folder: Path, kills: int, duplicates: Duplicates) -> None:
        roots = {root: folder / "received" / root.value for root in Root}
        receiver.prepare(folder, roots, duplicates=duplicates.value)
        ledger = Ledger(self._chance, duplicates)
        for _ in range(kills):
            ending = self._chance.choices(list(SHARES), list(SHARES.values()))[0]
            self.result.kills[ending] += 1
            if ending == STARTING:
                self._kill_a_start(folder)
            else:
                self._kill_a_run(folder, roots, ledger, ending)
            self.result.faults += ledger.judge(roots, everything=False)
            if time.monotonic() > self._deadline:
                self.result.faults.append(f"not done within {TIME_LIMIT:g} s")
            if self.result.faults:
                break
        last = receiver.start(folder, self._flaw)
        self._look_for_leftovers(roots)
        last.kill()
        self.result.faults += ledger.judge(roots, everything=True)
        self.result.acknowledged += ledger.acknowledged

    def _kill_a_start(self, folder: Path) -> None:
        process = receiver.launch(folder, self._flaw)
        time.sleep(self._chance.uniform(0, LONGEST_START))
        process.kill()
        process.communicate()

    def _kill_a_run(self, folder: Path, roots: dict[Root, Path], ledger: Ledger, ending: str) -> None:
        before = leftovers(roots)
        running = receiver.start(folder, self._flaw)
        self._look_for_leftovers(roots)  # before anything is sent
        self.result.cleared += len(before)
        senders = Senders(ledger, may_end=ending == STOPPING)
        senders.start(running.port)
        time.sleep(self._chance.uniform(0, LONGEST_LIFE))
        ENDINGS[ending](running, self._chance)
        senders.end()
        self.result.faults += senders.faults

    def _look_for_leftovers(self, roots: dict[Root, Path]) -> None:
        self.result.faults += [f"{path} was left by a killed run" for path in leftovers(roots)]


def find_flaws(chance: random.Random) -> list[tuple[str, int, list[str]]]:
    """Torture receivers with a known flaw; for each flaw, how many kills that took, and what was found wrong."""
    found = []
    for flaw in CRASH_FLAWS:
        result = _Torture(chance, flaw).run(KILLS_TO_FIND_A_FLAW)
        print(f"self-test, {flaw}: {len(result.faults)} violations found at kill {result.all_kills}", flush=True)
        found.append((flaw, result.all_kills, result.faults))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the receiver at random instants and judge what is on disk.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--record", action="store_true", help=f"write the figures into {figures.PAGE.name}")
    options = parser.parse_args()
    print(f"torture.crash: seed {options.seed}", flush=True)
    chance, started = random.Random(options.seed), time.monotonic()
    flaws = find_flaws(chance)
    result = _Torture(chance).run(options.kills)
    result.faults += [
        f"a receiver with this flaw was found faultless: {flaw}" for flaw, _, faults in flaws if not faults
    ]
    if not result.acknowledged:
        result.faults.append("nothing was acknowledged")
    seconds = time.monotonic() - started
    for fault in result.faults:
        print(f"FAULT: {fault}")
    print(f"{result.acknowledged} objects acknowledged, {result.cleared} temporary files of killed runs cleared")
    print(f"{result.all_kills} kills, {len(result.faults)} violations, seed {options.seed}, {seconds:.0f} s")
    print(f"{result.all_kills - bool(result.faults)} passed, {int(bool(result.faults))} failed")
    if options.record:
        _record(result, flaws, {"Seed": str(options.seed), "took": f"{seconds:.0f} s"})
    return int(bool(result.faults))


def _record(result: Result, flaws: list[tuple[str, int, list[str]]], notes: dict[str, object]) -> None:
    rows: list[list[object]] = [[f"killed {name}", times] for name, times in result.kills.items()]
    rows += [
        ["**kills in all**", result.all_kills],
        ["objects acknowledged", result.acknowledged],
        ["temporary files left by killed runs, gone after the next start", result.cleared],
        ["**violations**", len(result.faults)],
    ]
    figures.record("crash", ["", "number"], rows, notes | {"on": figures.machine(), "at": figures.now()})
    found = [[flaw, kills, len(faults)] for flaw, kills, faults in flaws]
    figures.record("flaws that a kill shows", ("flaw", "found at kill", "violations then"), found, notes)


if __name__ == "__main__":
    sys.exit(main())
