"""receiver + client + files -> measurement: one run, from an empty folder to a verified one."""

import os
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import ground, processes
from bench.clients import Client, Sent
from bench.processes import ProcessFailed, Usage
from bench.receivers import Receiver
from dcmstore.storage import part10

RUN_TIME = 900  # seconds that a client may take
SETTLE_TIME = 5.0  # seconds after the last response in which every object has to have its name
MEMORY = 3  # times the size of what is sent: files, messages made of them, and what the receiver writes
SAMPLE = 20  # objects whose bytes are compared


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. Where `fault` says something, the figures are of a run that failed and are not used."""

    round: int
    object_set: str
    client: str
    receiver: str
    objects: int
    size: int  # bytes of all files sent
    seconds: float
    busy: float | None
    usage: Usage  # of the receiver, from listening to the last response
    file_cost: float  # seconds that a new file took before it
    fault: str = ""

    @property
    def rate(self) -> float:
        """Objects a second."""
        return self.objects / self.seconds


def measure(
    number: int, object_set: str, receiver: Receiver, client: Client, paths: Sequence[Path], folder: Path, patience: int
) -> Measurement:
    """Run a client against a receiver that is started for it in a new folder, which is emptied again."""
    for bound in (client.max_objects, receiver.max_objects):
        paths = paths[:bound]
    size = sum(path.stat().st_size for path in paths)
    sent, used, fault = Sent(0.0), Usage(), ""
    os.sync()  # what the run before left to be written is not this one's burden
    file_cost = ground.prepare(folder, patience)
    try:
        sent, used = _run(receiver, client, paths, folder)
        fault = sent.failure or find_fault(receiver, paths, folder)
    except (ProcessFailed, OSError, ValueError, subprocess.TimeoutExpired) as error:
        fault = f"{type(error).__name__}: {error}"
    finally:
        ground.bury(folder)
    return Measurement(
        number,
        object_set,
        client.name,
        receiver.name,
        len(paths),
        size,
        sent.seconds,
        sent.busy,
        used,
        file_cost,
        fault,
    )


def _run(receiver: Receiver, client: Client, paths: Sequence[Path], folder: Path) -> tuple[Sent, Usage]:
    port = processes.free_port()
    command = receiver.command(folder, port)
    with processes.running(command, receiver.environment, folder, folder / "receiver.log") as process:
        try:
            processes.wait_until_listening(process, port)
            time.sleep(receiver.warm_up)
            ground.warm(MEMORY * sum(path.stat().st_size for path in paths))
            sent, used = _send(client, port, paths, folder, process)
        except ProcessFailed as error:
            raise ProcessFailed(f"{error}; it said: {_tail(folder / 'receiver.log')}") from None
        if not sent.failure:
            _wait_for(receiver, len(paths), folder)
        if process.poll() is not None:
            raise ProcessFailed(f"it crashed with exit code {process.returncode}: {_tail(folder / 'receiver.log')}")
    return sent, used


def _send(
    client: Client, port: int, paths: Sequence[Path], folder: Path, receiver: subprocess.Popen[bytes]
) -> tuple[Sent, Usage]:
    """Run the client to its end, and watch the receiver's memory meanwhile: forked processes end with it."""
    log = folder / "client.log"
    idle = processes.usage(receiver.pid)
    peak, started = idle.peak, time.monotonic()
    with processes.running(client.command(port, paths), client.environment, folder, log) as sender:
        while sender.poll() is None:
            if time.monotonic() - started > RUN_TIME:
                raise ProcessFailed(f"{client.name} did not end within {RUN_TIME} s")
            peak = max(peak, processes.usage(receiver.pid).peak)
            _wait(sender)
        seconds = time.monotonic() - started
    output = log.read_text(errors="replace")
    if sender.returncode and not output.startswith("{"):
        raise ProcessFailed(f"{client.name} ended with exit code {sender.returncode}: {_tail(log)}")
    cpu = processes.usage(receiver.pid).cpu - idle.cpu
    return client.result(output, seconds), Usage(peak, cpu)


def _wait(sender: subprocess.Popen[bytes]) -> None:
    """Until the next look, or the end of the sender: its time is taken here."""
    descriptor = os.pidfd_open(sender.pid)
    try:
        select.select([descriptor], [], [], processes.POLL)
    finally:
        os.close(descriptor)


def _tail(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-3:]) or "nothing"


# --- verification --------------------------------------------------------------------------------


def _wait_for(receiver: Receiver, count: int, folder: Path) -> None:
    """Give a receiver time whose files get their names behind the answer."""
    deadline = time.monotonic() + SETTLE_TIME
    while receiver.stored and len(stored(receiver, folder)) < count and time.monotonic() < deadline:
        time.sleep(processes.POLL)


def stored(receiver: Receiver, folder: Path) -> list[Path]:
    return [path for path in folder.glob(receiver.stored) if path.is_file()]


def find_fault(receiver: Receiver, paths: Sequence[Path], folder: Path) -> str:
    """What a receiver lost or changed, or nothing."""
    if not receiver.stored:
        return ""
    found = stored(receiver, folder)
    if len(found) != len(paths):
        return f"LOST: {len(found)} of {len(paths)} objects are stored"
    shortest = min(path.stat().st_size for path in paths) // 2
    if short := sum(path.stat().st_size < shortest for path in found):
        return f"LOST: {short} of {len(paths)} objects are stored cut off"
    return _find_change(paths, found) if receiver.is_exact else ""


def _find_change(paths: Sequence[Path], found: Sequence[Path]) -> str:
    """Compare the data sets of a sample, byte for byte."""
    by_name = {path.name: path for path in found}
    for path in paths[:: max(len(paths) // SAMPLE, 1)]:
        uid, sent = _read(path)
        kept = by_name.get(f"{uid}.dcm")
        if kept is None or _read(kept) != (uid, sent):
            return f"CHANGED: {uid} is not stored as it was sent"
    return ""


def _read(path: Path) -> tuple[str, bytes]:
    """A file's SOP Instance UID and data set."""
    with open(path, "rb") as file:
        return part10.read(file).media_storage_sop_instance_uid, file.read()
