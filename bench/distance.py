"""a delay -> objects a second: what a link with a long way does to senders, and what sending ahead saves.

    python -m bench.distance [--delay 10] [--objects 200] [--record]

A proxy passes on what comes from either side after so many milliseconds. Who awaits each answer can't send more than
one object in two delays: that is the limit beside which the rates are shown.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import load, processes, sets
from bench.receivers import BEST, RECEIVERS, Receiver
from bench.report import PAGE, show, table

ROUNDS = 5
PACES = {"answer": "awaits each answer", "ahead": "sends ahead (asynchronous window)"}
_FORK = multiprocessing.get_context("fork")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.distance", description=__doc__)
    parser.add_argument("--delay", type=float, default=10.0, metavar="MS", help="each way (default: 10)")
    parser.add_argument("--objects", type=int, default=200, metavar="N", help="of 8 kB a run (default: 200)")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {PAGE.name} too")
    options = parser.parse_args()
    limit = 1000 / (2 * options.delay)
    rows = []
    with tempfile.TemporaryDirectory(prefix="dcmstore-bench-") as name:
        folder = Path(name)
        paths = sets.write(sets.small(options.objects), folder / "sent")
        for receiver in RECEIVERS:
            if receiver.name not in ("dcmstore", "dcmstore-fast", BEST) or not receiver.is_installed:
                continue
            for pace, about in PACES.items():
                runs = [
                    _rate(receiver, folder / f"{receiver.name} {pace} {number}", paths, options.delay / 1000, pace)
                    for number in range(ROUNDS)
                ]
                rates = [rate for rate in runs if rate is not None]
                if rates:
                    spread = f"{min(rates):.0f} to {max(rates):.0f}"
                    rows.append([receiver.about, about, f"{median(rates):.0f}", spread, f"{median(rates) / limit:.2f}"])
                else:
                    rows.append([receiver.about, about, "does not agree", "", ""])
    lines = [*table(["", "the sender", "objects/s", "min to max", "÷ limit"], rows), ""]
    lines.append(
        f"{options.objects} objects of 8 kB over one association, {options.delay:g} ms each way, medians of {ROUNDS} "
        f"runs. Limit: {limit:.0f} objects a second for who awaits each answer."
    )
    show("distance", lines, is_recorded=options.record)
    return 0


def _rate(receiver: Receiver, folder: Path, paths: list[Path], delay: float, pace: str) -> float | None:
    """Objects a second, or None where the receiver agrees on no window."""
    folder.mkdir()
    port = processes.free_port()
    line = receiver.command(folder, port)
    with processes.running(line, receiver.environment, folder, folder / "log") as process:
        processes.wait_until_listening(process, port)
        with _far_away(port, delay) as far_port:
            result = load.run(far_port, paths, 1, pace)
    if "no asynchronous window" in result.failure:
        return None
    if result.failure:
        raise processes.ProcessFailed(result.failure)
    return result.objects / (result.ended - result.started)


@contextlib.contextmanager
def _far_away(port: int, delay: float) -> Iterator[int]:
    """A port from which the other one is so many seconds away."""
    far_port = processes.free_port()
    proxy = _FORK.Process(target=lambda: asyncio.run(_pass_on(far_port, port, delay)), daemon=True)
    proxy.start()
    try:
        while not processes.is_listening(far_port):
            proxy.join(processes.POLL)
        yield far_port
    finally:
        proxy.terminate()
        proxy.join()


async def _pass_on(far_port: int, port: int, delay: float) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near_reader, near_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_delayed(reader, near_writer, delay), _delayed(near_reader, writer, delay))

    server = await asyncio.start_server(serve, "127.0.0.1", far_port)
    await server.serve_forever()


async def _delayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Pass on what comes, each piece when its time has come; the end too."""
    loop = asyncio.get_running_loop()
    while data := await reader.read(65536):
        loop.call_later(delay, writer.write, data)
    loop.call_later(delay, writer.close)


if __name__ == "__main__":
    sys.exit(main())
