"""very many objects -> objects a second from the first to the last: in a tree, and all in one folder.

python -m bench.growth [--objects 500000] [--flat 200000] [--folder DIR] [--output FILE]
"""

import argparse
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import processes, wire
from bench.receivers import OF_THIS_CHECKOUT
from bench.report import print_or_write, table
from bench.sets import small, write

PARTS = 10
_PER_PATIENT = 50
_UID_END = 9  # digits of a UID that count the objects


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--objects", type=int, default=500_000, metavar="N", help="in a tree (default: 500000)")
    parser.add_argument("--flat", type=int, default=200_000, metavar="N", help="in one folder (default: 200000)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR")
    parser.add_argument("--output", type=Path, metavar="FILE")
    options = parser.parse_args()
    lines = ["## Growth", ""]
    head = ["", *(f"{part + 1}. tenth" for part in range(PARTS)), "last ÷ first"]
    rows = []
    for about, count, keys in (
        ("in a tree, a folder for 50 objects", options.objects, ""),
        ("in one folder", options.flat, "folder-tree= 0\n"),
    ):
        with tempfile.TemporaryDirectory(prefix="dcmstore-bench-", dir=options.folder) as name:
            rates = list(_rates(Path(name), count, keys))
        rows.append([f"{count:,} {about}", *(f"{rate:.0f}" for rate in rates), f"{rates[-1] / rates[0]:.2f}"])
    lines += [*table(head, rows), ""]
    lines.append("Objects a second, of 8 kB, `durable= 0`, over one association, in tenths of the run.")
    print_or_write(lines, options.output)
    return 0


def _rates(folder: Path, count: int, keys: str) -> Iterator[float]:
    """Objects a second in each part of the run. Raises Refused when one is not stored."""
    (template,) = write(small(1), folder / "sent")
    for name in ("images", "rdsr"):
        (folder / name).mkdir()
    port = processes.free_port()
    ini = folder / "DcmStore.ini"
    ini.write_text(f"port= {port}\nbind= 127.0.0.1\nIMG-DIR= images\nRDSR-DIR= rdsr\ndurable= 0\n{keys}")
    line = [sys.executable, "-m", "dcmstore", "run", "--config", str(ini)]
    with processes.running(line, OF_THIS_CHECKOUT, folder, folder / "log") as process:
        processes.wait_until_listening(process, port)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            meta = wire.read_meta(template)
            max_length = wire.associate(connection, meta)
            encoded = wire.message(template, 1, max_length).encoded
            numbers = iter(range(count))
            for part in range(PARTS):
                started = time.monotonic()
                share = count * (part + 1) // PARTS - count * part // PARTS
                for _ in range(share):
                    connection.sendall(_numbered(encoded, next(numbers), meta.media_storage_sop_instance_uid))
                    wire.expect_success(wire.receive(connection))
                yield share / (time.monotonic() - started)
            wire.release(connection)
    stored = sum(1 for _ in (folder / "images").rglob("*.dcm"))
    if stored != count:
        raise wire.Refused(f"{stored} of {count} objects are stored")


def _numbered(encoded: bytes, number: int, uid: str) -> bytes:
    """The message with another SOP Instance UID and, for 50 of them, another Patient ID, as long as before."""
    old = uid.encode()
    patient = f"BENCH{number // _PER_PATIENT:06}".encode()
    return encoded.replace(old, old[:-_UID_END] + f"{number:0{_UID_END}}".encode()).replace(b"BENCH000001", patient)


if __name__ == "__main__":
    sys.exit(main())
