"""a receiver under load -> where its time goes: which part of it, and which lines.

    python -m bench.profile [--seconds 15] [--folder DIR] [--record]

py-spy looks at the receiver's threads from outside, so the receiver is the one that others run. A line that waits for
the system (a write, a rename) counts while it is in the system and not asleep.
"""

import argparse
import contextlib
import itertools
import linecache
import multiprocessing
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import processes, sets, wire
from bench.receivers import RECEIVERS, ROOT
from bench.report import PAGE, show, table

RATE = 500  # looks a second
MOST = 12  # files and lines shown
SOURCE = ROOT / "src" / "dcmstore"
_FORK = multiprocessing.get_context("fork")
_FRAME = re.compile(r"(?P<function>.+) \((?P<file>.+):(?P<line>\d+)\)")

Line = tuple[str, int]  # file, number


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--seconds", type=int, default=15, metavar="S", help="(default: 15)")
    parser.add_argument("--folder", type=Path, metavar="DIR", default=Path(tempfile.gettempdir()))
    parser.add_argument("--record", action="store_true", help=f"write the figures into {PAGE.name} too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dcmstore-bench-", dir=options.folder) as name:
        looks = _looks(Path(name), options.seconds)
    lines = [*_rooms(looks), "", *_lines(looks), ""]
    lines.append(
        f"{looks.total():,} looks at threads that worked, {RATE} times a second; objects of 8 kB over one association, "
        "`durable= 0`."
    )
    show("profile", lines, is_recorded=options.record)
    return 0


def _looks(folder: Path, seconds: int) -> Counter[Line]:
    """How often each line was seen at work."""
    receiver = next(one for one in RECEIVERS if one.name == "dcmstore-fast")
    (template,) = sets.write(sets.small(1), folder / "sent")
    port = processes.free_port()
    (folder / "receiver").mkdir()
    command = receiver.command(folder / "receiver", port)
    raw = folder / "looks"
    watcher = str(Path(sys.executable).with_name("py-spy"))
    watch = [watcher, "record", "--format", "raw", "--nonblocking", "--output", str(raw)]
    with processes.running(command, receiver.environment, folder, folder / "log") as process:
        processes.wait_until_listening(process, port)
        with _sending(port, template):
            watch += ["--rate", str(RATE), "--duration", str(seconds), "--pid", str(process.pid)]
            subprocess.run(watch, check=True, capture_output=True)
    return _leaves(raw.read_text(encoding="utf-8").splitlines())


@contextlib.contextmanager
def _sending(port: int, template: Path) -> Iterator[None]:
    sender = _FORK.Process(target=_send, args=(port, template), daemon=True)
    sender.start()
    try:
        time.sleep(1)  # second: what is loaded at the first object only is loaded then
        yield
    finally:
        is_well = sender.is_alive()
        sender.kill()
        sender.join()
    if not is_well:
        raise SystemExit("bench: the sender ended, so there is nothing to tell")


def _send(port: int, template: Path) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        sender = wire.Numbered(connection, template)
        for number in itertools.count():
            sender.send(number)


def _leaves(stacks: Sequence[str]) -> Counter[Line]:
    """The line of ours at which each stack ends; what it calls of Python's library counts for it."""
    found: Counter[Line] = Counter()
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        matches = [match for frame in frames.split(";") if (match := _FRAME.fullmatch(frame))]
        ours = [match for match in matches if "dcmstore/" in match["file"]]
        if ours:
            name = ours[-1]["file"].rpartition("dcmstore/")[2]
            found[name, int(ours[-1]["line"])] += int(count)
    return found


def _rooms(looks: Counter[Line]) -> list[str]:
    rooms: Counter[str] = Counter()
    for (file, _), count in looks.items():
        rooms[file] += count
    whole = looks.total()
    return list(table(["file", "share"], [[file, f"{n / whole:.0%}"] for file, n in rooms.most_common(MOST)]))


def _lines(looks: Counter[Line]) -> list[str]:
    rows = []
    for (file, number), count in looks.most_common(MOST):
        text = linecache.getline(str(SOURCE / file), number).strip().replace("|", "\\|")
        rows.append([f"`{text}`", file, f"{count / looks.total():.0%}"])
    return list(table(["line", "file", "share"], rows))


if __name__ == "__main__":
    sys.exit(main())
