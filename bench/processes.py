"""command line -> process -> memory and CPU: start, watch and stop, each by its process ID."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_TIME = 30  # seconds until a receiver has to listen
STOP_TIME = 30  # seconds that a receiver gets to end by itself
POLL = 0.02  # seconds between two looks at a process
_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"  # in /proc/net/tcp


class ProcessFailed(Exception):
    """A program did not start, or ended when it should not; the text says how."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its descendants use: resident memory at its peak in bytes, CPU time in seconds."""

    peak: int = 0
    cpu: float = 0.0


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the block is left. Its output goes to `log`."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=folder,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program and the processes that it forked."""
    forked = list(descendants(process.pid))
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(STOP_TIME)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in forked:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when somebody listens on the port. Nobody is disturbed by a connection for it."""
    deadline = time.monotonic() + START_TIME
    while not is_listening(port):
        if process.poll() is not None:
            raise ProcessFailed(f"it ended at once with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise ProcessFailed(f"it did not listen within {START_TIME} s")
        time.sleep(POLL)


def is_listening(port: int) -> bool:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    return True
    return False


def usage(pid: int) -> Usage:
    """Now, over the process and those of its descendants that still have an entry in /proc.

    Pages that forked processes share count once for each of them.
    """
    pids = [pid, *descendants(pid)]
    return Usage(sum(map(_peak, pids)), _cpu(pid, with_children=True) + sum(map(_cpu, pids[1:])))


def descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from descendants(child)


def _peak(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0  # it has ended


def _cpu(pid: int, *, with_children: bool = False) -> float:
    """User and system time; with that of the children which were waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()  # the name in front may hold spaces; field 3 is the first here
    return sum(map(int, fields[11 : 15 if with_children else 13])) / _TICKS
