"""kill -9 at random instants -> every acknowledged object is there, byte for byte, and no half file has a name.

`make torture`, or `python -m torture.crash --kills 20` for a short form. The seed is printed and can be given.
Senders stream objects over several associations while the receiver is killed and started again. What an object
must contain follows from its UID, so every file on disk can be judged, acknowledged or not.
"""

import argparse
import contextlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.support import Peer, data_set, stored_data_set

SENDERS = 4
LONGEST_LIFE = 0.6  # seconds between a start and its kill
SIZES = (0, 10, 1_000, 8_000, 70_000, 600_000)  # bytes of pixels: within one PDU, over several, over several writes


def content(uid: str) -> bytes:
    """The data set that belongs to a UID."""
    source = random.Random(uid)
    return data_set(uid, series_number=str(source.randrange(5)).encode(), pixels=source.randbytes(source.choice(SIZES)))


class Senders:
    """Threads that send new objects to a port until their connection breaks, and remember what was acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.faults: list[str] = []
        self._next = 0
        self._lock = threading.Lock()

    def run(self, port: int) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._send, args=(port,), daemon=True) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        return threads

    def _new_uid(self) -> str:
        with self._lock:
            self._next += 1
            return f"1.2.3.{self._next}"

    def _send(self, port: int) -> None:
        # The receiver is killed in the middle of everything: any way in which the connection ends is as it should be.
        with contextlib.suppress(OSError, AssertionError), Peer(port) as peer:
            peer.associate()
            while True:
                uid = self._new_uid()
                response = peer.store(content(uid), uid)
                if response.status != 0:
                    self.faults.append(f"{uid} was answered with {response.status:04X}H: {response.error_comment}")
                    return
                self.acknowledged.add(uid)


def start(folder: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-m", "dcmstore", "run"], cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if match := re.search(r"receiver\.listening .*port=(\d+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, int(match[1])
    raise SystemExit("the receiver did not start")


def judge(folder: Path, acknowledged: set[str]) -> list[str]:
    """What is wrong on disk, in words."""
    faults, found = [], set()
    for path in (folder / "received").rglob("*.dcm"):
        found.add(path.stem)
        if stored_data_set(path) != content(path.stem):
            faults.append(f"{path} has a name and is not whole")
    return faults + [f"{uid} was acknowledged and is not there" for uid in acknowledged - found]


def leftovers(folder: Path) -> list[str]:
    """Temporary files of killed runs, which a start removes."""
    return [f"{path} was left by a killed run" for path in folder.glob("received/*/.incoming/*.part")]


def torture(folder: Path, kills: int, seed: int) -> int:
    subprocess.run([sys.executable, "-m", "dcmstore", "init", "."], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    ini = folder / "DcmStore.ini"
    ini.write_text(re.sub(r"(?m)^port=.*$", "port= 0", ini.read_text()))
    chance, senders, faults = random.Random(seed), Senders(), []
    for kill in range(1, kills + 1):
        process, port = start(folder)
        faults += leftovers(folder)  # before anything is sent
        threads = senders.run(port)
        time.sleep(chance.uniform(0, LONGEST_LIFE))
        process.kill()
        process.wait()
        for thread in threads:
            thread.join(30)
        faults += senders.faults
        if faults:
            break
        if kill % 20 == 0:
            print(f"{kill} kills, {len(senders.acknowledged)} objects acknowledged", flush=True)
    faults += judge(folder, senders.acknowledged)
    print(f"{len(senders.acknowledged)} objects acknowledged over {kill} kills, seed {seed}")
    for fault in faults:
        print(f"FAULT: {fault}")
    print(f"{kill - bool(faults)} passed, {int(bool(faults))} failed")
    return int(bool(faults))


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the receiver at random instants and judge what is on disk.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return torture(Path(folder), options.kills, options.seed)


if __name__ == "__main__":
    sys.exit(main())
