"""receivers -> how soon they listen and what they take: at rest, with many associations, with a large object.

python -m bench.footprint [--record]
"""

import argparse
import contextlib
import re
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import processes, sets, wire
from bench.receivers import OF_THIS_CHECKOUT, RECEIVERS, Receiver
from bench.report import PAGE, show, table
from dcmstore import uids
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.storage.part10 import FileMeta
from dcmstore.ul import pdu

STARTS = 5
ASSOCIATIONS = 500
LARGE = 2 * 1024**3  # bytes
REST = 7.0  # seconds until an idle association has let go of what it does not need
META = FileMeta(sets.CT_IMAGE, "1.2.3.4", uids.EXPLICIT_VR_LITTLE_ENDIAN)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.footprint", description=__doc__)
    parser.add_argument("--record", action="store_true", help=f"write the figures into {PAGE.name} too")
    options = parser.parse_args()
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="dcmstore-bench-") as name:
        folder = Path(name)
        rows = [_start(receiver, folder) for receiver in RECEIVERS if receiver.is_installed]
        lines += table(["", "listens after, s", "min to max", "at rest, MB"], rows)
        lines += ["", *table(["dcmstore", ""], [*_associations(folder), *_large_object(folder)])]
    lines += [
        "",
        f"Medians of {STARTS} starts. Memory is what is resident: VmRSS, for the object VmHWM.",
    ]
    show("footprint", lines, is_recorded=options.record)
    return 0


def _start(receiver: Receiver, folder: Path) -> list[str]:
    seconds, sizes = [], []
    for number in range(STARTS):
        place = folder / f"{receiver.name} {number}"
        place.mkdir()
        port = processes.free_port()
        started = time.monotonic()
        line = receiver.command(place, port)
        with processes.running(line, receiver.environment, place, place / "log") as process:
            processes.wait_until_listening(process, port)
            seconds.append(time.monotonic() - started)
            sizes.append(_resident(process.pid))
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    return [receiver.about, f"{median(seconds):.2f}", spread, f"{median(sizes) / 1e6:.0f}"]


@contextlib.contextmanager
def _ours(folder: Path) -> Iterator[tuple[int, int]]:
    """A receiver of ours, durable, that lets this host have many associations: its port and process ID."""
    folder.mkdir()
    port = processes.free_port()
    for name in ("images", "rdsr"):
        (folder / name).mkdir()
    keys = {"port": port, "bind": "127.0.0.1", "IMG-DIR": "images", "RDSR-DIR": "rdsr"}
    keys |= {f"max-associations{of}": 2 * ASSOCIATIONS for of in ("", "-per-host", "-per-ae")}
    ini = folder / "DcmStore.ini"
    ini.write_text("".join(f"{key}= {value}\n" for key, value in keys.items()))
    line = [sys.executable, "-m", "dcmstore", "run", "--config", str(ini)]
    with processes.running(line, OF_THIS_CHECKOUT, folder, folder / "log") as process:
        processes.wait_until_listening(process, port)
        yield port, process.pid


def _associations(folder: Path) -> Iterator[list[str]]:
    with _ours(folder / "associations") as (port, pid), contextlib.ExitStack() as opened:
        before = _resident(pid)
        connections = []
        for _ in range(ASSOCIATIONS):  # one after the other, for silent connections make room
            connections.append(opened.enter_context(socket.create_connection(("127.0.0.1", port))))
            wire.associate(connections[-1], META)
        yield [f"an idle association, {ASSOCIATIONS} open, kB", _share(before, pid)]
        pixels = b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 600_000) + bytes(600_000)
        for number, connection in enumerate(connections):
            _send_object(connection, f"1.2.3.{number}", pixels)
        time.sleep(REST)
        yield [f"the same, {REST:.0f} s after each has sent an object of 600 kB, kB", _share(before, pid)]


def _share(before: int, pid: int) -> str:
    return f"{(_resident(pid) - before) / ASSOCIATIONS / 1e3:.0f}"


def _large_object(folder: Path) -> Iterator[list[str]]:
    with _ours(folder / "large") as (port, pid), socket.create_connection(("127.0.0.1", port)) as connection:
        wire.associate(connection, META)
        chunk = bytes(wire.MAX_LENGTH - 6)
        count = LARGE // len(chunk)
        head = b"\xe0\x7f\x10\x00OB\0\0" + struct.pack("<I", count * len(chunk))
        _send_command(connection, "1.2.3.4")
        connection.sendall(_p_data(head, is_last=False))
        for number in range(count):
            connection.sendall(_p_data(chunk, is_last=number == count - 1))
        wire.expect_success(wire.receive(connection))
        yield [f"an object of {LARGE / 1024**3:.0f} GB, peak MB", f"{processes.usage(pid).peak / 1e6:.0f}"]


def _send_object(connection: socket.socket, uid: str, data_set: bytes) -> None:
    _send_command(connection, uid)
    connection.sendall(pdu.encode_p_data(wire.CONTEXT_ID, data_set, is_command=False, peer_max_length=wire.MAX_LENGTH))
    wire.expect_success(wire.receive(connection))


def _send_command(connection: socket.socket, uid: str) -> None:
    request = CommandSet(
        CommandField.C_STORE_RQ,
        message_id=1,
        affected_sop_class_uid=META.media_storage_sop_class_uid,
        affected_sop_instance_uid=uid,
        command_data_set_type=0,
        priority=0,
    )
    encoded = command.encode(request)
    connection.sendall(pdu.encode_p_data(wire.CONTEXT_ID, encoded, is_command=True, peer_max_length=wire.MAX_LENGTH))


def _p_data(data: bytes, *, is_last: bool) -> bytes:
    """One PDV of a data set in a PDU of its own."""
    control = pdu.LAST_BIT if is_last else 0
    return pdu.PDU_HEADER.pack(4, len(data) + 6) + pdu.PDV_HEADER.pack(len(data) + 2, wire.CONTEXT_ID, control) + data


def _resident(pid: int) -> int:
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
