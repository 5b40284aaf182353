"""very many objects -> objects a second from the first to the last: in a tree, with an index, and all in one folder.

The bare loop beside them shows what is the machine's part of it.

python -m bench.growth [--objects 500000] [--indexed 100000] [--flat 200000] [--folder DIR] [--record]
"""

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import ground, processes, wire
from bench.receivers import OF_THIS_CHECKOUT, RECEIVERS, Receiver, dcmstore
from bench.report import PAGE, show, table
from bench.sets import small, write

PARTS = 10
MEMORY = 16 * 1024  # bytes that a stored object takes in a file system in memory, its name included


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--objects", type=int, default=500_000, metavar="N", help="in a tree (default: 500000)")
    parser.add_argument("--indexed", type=int, default=100_000, metavar="N", help="with an index (default: 100000)")
    parser.add_argument("--flat", type=int, default=200_000, metavar="N", help="in one folder (default: 200000)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {PAGE.name} too")
    options = parser.parse_args()
    lines: list[str] = []
    head = ["", *(f"{part + 1}. tenth" for part in range(PARTS)), "last ÷ first"]
    rows = []
    for about, count, receiver in (
        (f"in a tree, a folder for {wire.PER_PATIENT} objects", options.objects, _ours()),
        ("in such a tree, `index= 1`", options.indexed, _ours(index=1)),
        ("in one folder", options.flat, _ours(**{"folder-tree": 0})),
        ("in one folder by the bare loop", options.flat, next(one for one in RECEIVERS if one.name == "bare")),
    ):
        with tempfile.TemporaryDirectory(prefix="dcmstore-bench-", dir=options.folder) as name:
            rates = list(_rates(Path(name), count, receiver))
        rows.append([f"{count:,} {about}", *(f"{rate:.0f}" for rate in rates), f"{rates[-1] / rates[0]:.2f}"])
    lines += [*table(head, rows), ""]
    lines.append("Objects a second, of 8 kB, `durable= 0`, over one association, in tenths of the run.")
    show("growth", lines, is_recorded=options.record)
    return 0


def _ours(**keys: int) -> Receiver:
    return Receiver("growth", "dcmstore", True, dcmstore(0, **keys), "*/**/*.dcm", OF_THIS_CHECKOUT)


def _rates(folder: Path, count: int, receiver: Receiver) -> Iterator[float]:
    """Objects a second in each part of the run. Raises Refused when one is not stored."""
    (template,) = write(small(1), folder / "sent")
    place = folder / "receiver"
    place.mkdir()
    port = processes.free_port()
    with processes.running(receiver.command(place, port), receiver.environment, place, folder / "log") as process:
        processes.wait_until_listening(process, port)
        ground.warm(count * MEMORY)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sender = wire.Numbered(connection, template)
            numbers = iter(range(count))
            for part in range(PARTS):
                started = time.monotonic()
                share = count * (part + 1) // PARTS - count * part // PARTS
                for _ in range(share):
                    sender.send(next(numbers))
                yield share / (time.monotonic() - started)
            wire.release(connection)
    stored = sum(1 for _ in place.glob(receiver.stored))
    if stored != count:
        raise wire.Refused(f"{stored} of {count} objects are stored")


if __name__ == "__main__":
    sys.exit(main())
