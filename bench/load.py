"""PDUs -> responses -> objects a second: the raw load generator.

    python -m bench.load --port 11112 --associations 4 FILE.dcm …
    python -m bench.load --port 11112 --associations 4 --pace each FILE.dcm …

A process an association at a time; what it awaits before it sends the next message, its pace says. What is sent is
built before the clock runs, so that a receiver is measured and not this. The clock runs from the first connection to
the last response. Prints one line of JSON.
"""

import argparse
import json
import multiprocessing
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench import wire
from dcmstore.storage.part10 import FileMeta

BUILD_TIME = 120  # seconds that all processes get to build their messages
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Load:
    """What one association, or all of them, did; times on the system's monotonic clock."""

    objects: int = 0
    size: int = 0  # bytes of data sets
    started: float = 0.0
    ended: float = 0.0
    cpu: float = 0.0  # seconds of the busiest process while the clock ran
    failure: str = ""


def run(port: int, paths: Sequence[Path], associations: int, pace: str = "answer") -> Load:
    """Send files over so many associations at once. `pace` is a key of PACES."""
    max_length = _probe(port, paths[0])
    shares = [list(paths[start::associations]) for start in range(associations) if paths[start::associations]]
    barrier = _FORK.Barrier(len(shares))
    results = []
    for share in shares:
        ours, theirs = _FORK.Pipe(duplex=False)
        _FORK.Process(target=_work, args=(port, share, max_length, pace, barrier, theirs), daemon=True).start()
        theirs.close()
        results.append(ours)
    return _sum([_result(result) for result in results])


def _probe(port: int, path: Path) -> int:
    """The longest PDU that the receiver takes, from an association that sends nothing."""
    with _connect(port) as connection:
        max_length = wire.associate(connection, wire.read_meta(path))
        wire.release(connection)
    return max_length


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), wire.SILENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A time-out that the kernel keeps: Python's own would cost a poll() before every call.
    connection.setblocking(True)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", wire.SILENCE, 0))
    return connection


def _work(port: int, paths: Sequence[Path], max_length: int, pace: str, barrier: Barrier, result: Connection) -> None:
    """One association at a time, in a process of its own."""
    try:
        meta = wire.read_meta(paths[0])
        messages = [wire.message(path, number % 65536, max_length) for number, path in enumerate(paths, 1)]
        barrier.wait(BUILD_TIME)
        result.send(_send(port, messages, meta, PACES[pace]))
    except Exception as error:  # noqa: BLE001  the fence: whatever it is, the process that waits has to hear it
        barrier.abort()
        result.send(Load(failure=f"{type(error).__name__}: {error}"))


def _send(port: int, messages: Sequence[wire.Message], meta: FileMeta, pace: "Pace") -> Load:
    encoded = [message.encoded for message in messages]
    cpu, started = time.process_time(), time.monotonic()
    pace(port, encoded, meta)
    ended, cpu = time.monotonic(), time.process_time() - cpu
    return Load(len(messages), sum(message.data_set_size for message in messages), started, ended, cpu)


def _one_by_one(port: int, encoded: Sequence[bytes], meta: FileMeta) -> None:
    with _connect(port) as connection:
        wire.associate(connection, meta)
        for message in encoded:
            connection.sendall(message)
            wire.expect_success(wire.receive(connection))
        wire.release(connection)


def _an_association_each(port: int, encoded: Sequence[bytes], meta: FileMeta) -> None:
    for message in encoded:
        _one_by_one(port, [message], meta)


def _ahead(port: int, encoded: Sequence[bytes], meta: FileMeta) -> None:
    with _connect(port) as connection:
        wire.associate(connection, meta, ahead=True)

        def send() -> None:
            for message in encoded:
                connection.sendall(message)

        sending = threading.Thread(target=send)
        sending.start()
        for response in wire.receive_many(connection, len(encoded)):
            wire.expect_success(response)
        sending.join()
        wire.release(connection)


Pace = Callable[[int, Sequence[bytes], FileMeta], None]
PACES: dict[str, Pace] = {"answer": _one_by_one, "each": _an_association_each, "ahead": _ahead}


def _result(result: Connection) -> Load:
    try:
        load: Load = result.recv()
    except EOFError:
        return Load(failure="the process of an association died")
    return load


def _sum(loads: Sequence[Load]) -> Load:
    return Load(
        sum(load.objects for load in loads),
        sum(load.size for load in loads),
        min(load.started for load in loads),
        max(load.ended for load in loads),
        max(load.cpu for load in loads),
        "; ".join(sorted({load.failure for load in loads if load.failure})),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Send files as fast as the peer takes.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--associations", type=int, default=1)
    parser.add_argument("--pace", choices=PACES, default="answer", help="what is awaited before the next message")
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes of the associations end too
    try:
        load = run(options.port, options.files, options.associations, options.pace)
    except (OSError, wire.Refused) as error:
        load = Load(failure=f"{type(error).__name__}: {error}")
    print(json.dumps(asdict(load)))
    return 1 if load.failure else 0


if __name__ == "__main__":
    sys.exit(main())
