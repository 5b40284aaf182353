"""calls of the system that the receiver does without -> what they would bring: the reason why it does.

    python -m bench.tried [--rounds 15] [--folder DIR]

Loops that parse nothing, so that whatever such a call brings is seen at its largest (docs/decisions/0012).
"""

import argparse
import ctypes
import fcntl
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from bench import ground

OBJECTS = 400
SIZE = 512 * 1024  # bytes of an object
CHUNK = 1024 * 1024  # bytes, as our receive buffer
NAMES = 2000
_PIPE_SIZE = 1024 * 1024  # bytes
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_SPLICE_MOVE, _SPLICE_MORE = 1, 4
_FORK = multiprocessing.get_context("fork")

Way = Callable[[Path], float]  # a new folder -> seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tried", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="(default: 15)")
    parser.add_argument("--folder", type=Path, metavar="DIR", default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    for about, ours, theirs in (
        (f"splice(2) in place of receiving and writing, objects of {SIZE // 1024} kB", _copied, _spliced),
        ("dir_fd in place of paths, making and renaming a file", _by_path, _by_descriptor),
    ):
        ratios = [_ratio(number, ours, theirs, options.folder) for number in range(options.rounds)]
        low, _, high = quantiles(ratios)
        print(f"{about}: {median(ratios):.2f} times as fast, half of the rounds between {low:.2f} and {high:.2f}")
    return 0


def _ratio(number: int, ours: Way, theirs: Way, folder: Path) -> float:
    """How many times as fast theirs is; each takes its turn in being first."""
    seconds = {}
    for way in (ours, theirs) if number % 2 else (theirs, ours):
        with tempfile.TemporaryDirectory(prefix="dcmstore-bench-", dir=folder) as name:
            ground.warm(2 * OBJECTS * SIZE)
            seconds[way] = way(Path(name))
    return seconds[ours] / seconds[theirs]


# --- socket -> file ------------------------------------------------------------------------------


@contextmanager
def _sender() -> Iterator[socket.socket]:
    """A connection over which another process sends objects, each after an answer to the last."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = _FORK.Process(target=_send, args=(listener.getsockname()[1],), daemon=True)
        process.start()
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield connection
        process.join()


def _send(port: int) -> None:
    content = os.urandom(SIZE)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(OBJECTS):
            connection.sendall(content)
            connection.recv(1)


def _copied(folder: Path) -> float:
    view = memoryview(bytearray(CHUNK))
    with _sender() as connection:
        started = time.perf_counter()
        for number in range(OBJECTS):
            descriptor = os.open(folder / str(number), _NEW)
            left = SIZE
            while left:
                size = connection.recv_into(view[: min(left, CHUNK)])
                left -= os.write(descriptor, view[:size])
            os.close(descriptor)
            connection.sendall(b"!")
        return time.perf_counter() - started


def _spliced(folder: Path) -> float:
    source, sink = os.pipe()
    fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    with _sender() as connection:
        started = time.perf_counter()
        for number in range(OBJECTS):
            descriptor = os.open(folder / str(number), _NEW)
            left = SIZE
            while left:
                size = os.splice(connection.fileno(), sink, left, flags=_SPLICE_MOVE | _SPLICE_MORE)
                left -= size
                while size:
                    size -= os.splice(source, descriptor, size, flags=_SPLICE_MOVE | _SPLICE_MORE)
            os.close(descriptor)
            connection.sendall(b"!")
        seconds = time.perf_counter() - started
    os.close(source)
    os.close(sink)
    return seconds


# --- names ---------------------------------------------------------------------------------------

_renameat2 = ctypes.CDLL(None, use_errno=True).renameat2


def _tree(folder: Path) -> tuple[Path, Path]:
    """As deep as ours: where temporary files are, and where files get their names."""
    incoming, target = folder / ".incoming", folder / "PATIENT" / "1" / "2"
    incoming.mkdir()
    target.mkdir(parents=True)
    return incoming, target


def _by_path(folder: Path) -> float:
    incoming, target = map(str, _tree(folder))
    started = time.perf_counter()
    for number in range(NAMES):
        source = f"{incoming}/{number}"
        os.close(os.open(source, _NEW))
        _rename(_AT_FDCWD, source, _AT_FDCWD, f"{target}/{number}.dcm")
    return time.perf_counter() - started


def _by_descriptor(folder: Path) -> float:
    incoming, target = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in _tree(folder))
    started = time.perf_counter()
    for number in range(NAMES):
        os.close(os.open(str(number), _NEW, dir_fd=incoming))
        _rename(incoming, str(number), target, f"{number}.dcm")
    seconds = time.perf_counter() - started
    os.close(incoming)
    os.close(target)
    return seconds


def _rename(source_folder: int, source: str, target_folder: int, target: str) -> None:
    if _renameat2(source_folder, os.fsencode(source), target_folder, os.fsencode(target), _RENAME_NOREPLACE):
        raise OSError(ctypes.get_errno(), "renameat2", source)


if __name__ == "__main__":
    sys.exit(main())
