"""a steady pace -> C-STOREs of small objects, and how long each took: the sender that an attack must not harm.

It runs in a process of its own, so that what is measured is the receiver. `begin` and `end` are for the program.
"""

import contextlib
import multiprocessing
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from dcmstore.dimse.status import Status
from dcmstore.errors import DcmStoreError
from dcmstore.ul import negotiation
from tests.support import Peer, WrongAnswer, data_set, stored_data_set

PACE = 0.02  # seconds from one object to the next
OBJECTS_EACH = 10  # objects an association, where it opens a new one now and then
PIXELS = 8_000  # bytes
OPENINGS = 20  # attempts at an association; senders try again
ANSWER_LIMIT = 60.0  # seconds that a process of ours gets to answer
_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Figures:
    """Seconds that each store and each opening took, what was acknowledged, and what went wrong."""

    stores: list[float] = field(default_factory=list)
    openings: list[float] = field(default_factory=list)
    retries: int = 0  # openings that failed and were tried again
    acknowledged: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Bystander:
    """The process. Between `begin` and `end` it sends."""

    def __init__(self, port: int) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_run, args=(theirs, port), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, *, opens_anew: bool = True) -> None:
        """Start to send; returns when the first association is open."""
        self._pipe.send(opens_anew)
        self._receive()

    def end(self) -> Figures:
        self._pipe.send(None)
        figures: Figures = self._receive()
        return figures

    def close(self) -> None:
        self._process.kill()
        self._process.join()

    def _receive(self) -> Figures:
        if not self._pipe.poll(ANSWER_LIMIT):
            raise SystemExit(f"the normal sender does not answer within {ANSWER_LIMIT:g} s")
        answer: Figures = self._pipe.recv()
        return answer


def content_of(uid: str) -> bytes:
    return data_set(uid, pixels=(uid.encode() + b"\n") * (PIXELS // (len(uid) + 1)))


def missing(images: Path, uids: list[str]) -> list[str]:
    """What is wrong with acknowledged objects on disk. Those that are right are removed, to keep the folder small."""
    faults = []
    for uid in uids:
        path = images / "PAT1" / "7" / "3" / f"{uid}.dcm"
        if not path.exists():
            faults.append(f"{uid} was acknowledged and is not there")
        elif stored_data_set(path) != content_of(uid):
            faults.append(f"{uid} is not what was sent")
        else:
            path.unlink()
    return faults


def _may_try_again(error: Exception) -> bool:
    """There was no room, in the standard's words or without any; what else is answered is wrong."""
    if isinstance(error, WrongAnswer):
        return error.arrived in (None, negotiation.LOCAL_LIMIT_EXCEEDED)
    return isinstance(error, OSError)


def _run(pipe: Connection, port: int) -> None:
    number = 0
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            opens_anew = pipe.recv()
            sender = _Sender(port, number, opens_anew=opens_anew)
            sender.run(pipe.poll, lambda: pipe.send(None))
            number = sender.number
            pipe.recv()
            pipe.send(sender.figures)


class _Sender:
    """Sends until it shall end, or something is wrong."""

    def __init__(self, port: int, number: int, *, opens_anew: bool) -> None:
        self.figures = Figures()
        self.number = number
        self._port = port
        self._opens_anew = opens_anew

    def run(self, is_ended: Callable[[], bool], began: Callable[[], None]) -> None:
        peer = self._open()
        began()
        due = time.monotonic()
        sent = 0
        while peer is not None and not is_ended():
            if self._opens_anew and sent == OBJECTS_EACH:
                self._close(peer)
                peer, sent = self._open(), 0
                continue
            if not self._send(peer):
                break
            sent += 1
            due = max(due + PACE, time.monotonic())
            time.sleep(max(due - time.monotonic(), 0))
        if peer is not None:
            self._close(peer)

    def _open(self) -> Peer | None:
        started = time.monotonic()
        for _ in range(OPENINGS):
            try:
                peer = Peer(self._port)
                peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer.associate()
            except (OSError, WrongAnswer, DcmStoreError) as error:
                if not _may_try_again(error):
                    self.figures.faults.append(f"a normal sender can't open an association: {error!r}")
                    return None
                self.figures.retries += 1
                time.sleep(PACE)
                continue
            self.figures.openings.append(time.monotonic() - started)
            return peer
        self.figures.faults.append(f"no association for a normal sender in {OPENINGS} attempts")
        return None

    def _send(self, peer: Peer) -> bool:
        self.number += 1
        uid = f"1.2.826.{self.number}"
        encoded = content_of(uid)
        started = time.monotonic()
        try:
            status = peer.store(encoded, uid).status
        except (OSError, WrongAnswer, DcmStoreError) as error:
            self.figures.faults.append(f"a normal sender lost its association: {error!r}")
            return False
        self.figures.stores.append(time.monotonic() - started)
        if status != Status.SUCCESS:
            self.figures.faults.append(f"a normal sender was answered with {status:04X}H")
            return False
        self.figures.acknowledged.append(uid)
        return True

    def _close(self, peer: Peer) -> None:
        try:
            peer.release()
        except (OSError, WrongAnswer, DcmStoreError) as error:
            self.figures.faults.append(f"a normal sender's release was not answered: {error!r}")
