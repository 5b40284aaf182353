"""a receiver's ports -> what a hostile peer does to them: one function an attack, in the table at the end.

An attack goes on until its time is over, counts what the receiver answered, and notes what it must not answer. What it
leaves open stays open until the receiver's resources have been looked at: a hostile peer closes nothing.
"""

import contextlib
import itertools
import multiprocessing
import os
import random
import select
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from dcmstore import uids
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.dimse.message import MAX_COMMAND_SET
from dcmstore.dimse.status import Status
from dcmstore.errors import DcmStoreError
from dcmstore.storage.header import MAX_HEADER
from dcmstore.storage.space import MAX_PASSED_OVER, MEGABYTE
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.pdu import AAbort, AAssociateAC, AAssociateRJ, AReleaseRQ
from tests.support import (
    CT,
    Peer,
    WrongAnswer,
    association_request,
    data_set,
    fragment,
    store_command,
    store_request,
)
from torture.bystander import ANSWER_LIMIT

# What the receiver is set to; the attacks are made for these.
MAX_ASSOCIATIONS = 40
MAX_EACH = 36  # of one host, and of one calling AE title
MAX_OBJECT = 1  # MB
TIMEOUTS = {"artim_timeout": 1, "stall_timeout": 1, "idle_timeout": 2}  # seconds

A_ABORT = b"\x07"
CONNECTS = 5_000
THREADS = 4  # attackers at once, where one would be too slow
SLOW_EACH = 8  # slow senders in each phase
HALF_OPEN_EACH = 5
STALLED_HANDSHAKES = 60
OPEN_AT_ONCE = 1_000  # connections that an attacker keeps open
LET_GO_LIMIT = 30.0  # seconds after which a slow sender counts as never let go
_NICENESS = 10  # an attacker would have a processor of its own: this one shall not take the receiver's
_SPAWN = multiprocessing.get_context("spawn")
_BIND_ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: a port for each destination, and so no end of ports
_HOSTS = [f"127.0.{host // 250}.{host % 250 + 2}" for host in range(1000)]  # Linux has all of 127.0.0.0/8


@dataclass
class Toll:
    """What an attack did, as numbers of what happened, and what must not have happened."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Attacker:
    """What attacks are made with: connections from chosen hosts, the time that is left, and the toll.

    `share` of the numbers above is what a short form does.
    """

    def __init__(self, port: int, tls_port: int, seconds: float, share: float) -> None:
        self.toll = Toll()
        self.held: list[socket.socket] = []
        self.share = share
        self._port = port
        self._tls_port = tls_port
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds until the attack is over."""
        return self._end - time.monotonic()

    @property
    def is_over(self) -> bool:
        return self.remaining <= 0

    def count(self, what: str) -> None:
        self.toll.counts[what] += 1

    def fault(self, what: str) -> None:
        if len(self.toll.faults) < 10:
            self.toll.faults.append(what)

    def connect(self, host: str = _HOSTS[0], *, tls: bool = False, small: bool = False) -> socket.socket:
        """`small` is for peers that do not read: their buffers are soon full."""
        connection = socket.socket()
        connection.settimeout(LET_GO_LIMIT)
        if small:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.bind((host, 0))
        connection.connect(("127.0.0.1", self._tls_port if tls else self._port))
        return connection

    def peer(self, host: str = _HOSTS[0]) -> Peer:
        return Peer(self._port, connection=self.connect(host))

    @contextlib.contextmanager
    def held_peer(self, host: str = _HOSTS[0]) -> Iterator[Peer]:
        """A peer that stays open when the block is left."""
        peer = self.peer(host)
        self.held.append(peer.socket)
        yield peer

    def repeat(self, step: Callable[[int], None], threads: int = THREADS) -> None:
        """Do it again and again until the time is over. The receiver may cut a connection at any point."""

        def work(first: int) -> None:
            for number in itertools.count(first, threads):
                try:
                    step(number)
                except OSError:
                    pass
                except Exception as error:  # noqa: BLE001  else a thread ends, and what it has found is not told
                    self.fault(repr(error))
                if self.is_over:
                    return

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def _command(field_: int, sop_class: str = uids.VERIFICATION, *, has_data: bool = False) -> bytes:
    command_set = CommandSet(
        field_,
        message_id=1,
        affected_sop_class_uid=sop_class,
        command_data_set_type=0 if has_data else command.NO_DATA_SET,
    )
    return pdu.encode_p_data(1, command.encode(command_set), is_command=True, peer_max_length=0)


# --- slow, silent, half-open ----------------------------------------------------------------------


def slow_senders(attacker: Attacker) -> None:
    """A byte a second, in the association request, in the command set and in the data set."""
    request, store = pdu.encode(association_request()), store_request(data_set(pixels=bytes(400)))
    command_end = 6 + pdu.PDU_HEADER.unpack_from(store)[1]
    phases = {"request": request, "command set": store[:command_end], "data set": store[command_end:]}
    while not attacker.is_over:
        slow = {}
        for phase, slowly in phases.items():
            for _ in range(SLOW_EACH):
                peer = attacker.peer()
                if phase != "request":
                    peer.associate()
                if phase == "data set":
                    peer.send(store[:command_end])
                slow[peer.socket] = (phase, iter(slowly))
        _send_slowly(attacker, slow)


def _send_slowly(attacker: Attacker, slow: dict[socket.socket, tuple[str, Iterator[int]]]) -> None:
    deadline = time.monotonic() + LET_GO_LIMIT
    while slow and time.monotonic() < deadline:
        for connection, (phase, slowly) in list(slow.items()):
            try:
                connection.sendall(bytes((next(slowly),)))
                is_over = bool(select.select([connection], [], [], 0)[0])
                if is_over and connection.recv(1) not in (b"", A_ABORT):
                    attacker.fault(f"a slow sender in its {phase} was answered")
            except OSError:
                is_over = True
            if is_over:
                attacker.count(f"let go in the {phase}")
                connection.close()
                del slow[connection]
        if slow:
            time.sleep(1)
    for connection, (phase, _) in slow.items():
        attacker.fault(f"a slow sender in its {phase} was not let go within {LET_GO_LIMIT:g} s")
        connection.close()


def silent_connects(attacker: Attacker) -> None:
    """Connects without a word: a third stays, a third is half-closed, a third is reset at once."""
    kept: deque[socket.socket] = deque()
    for number in itertools.count():
        if attacker.is_over and number >= CONNECTS * attacker.share:
            break
        connection = attacker.connect(_HOSTS[number % 3])
        attacker.count("connects")
        if number % 3 == 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            continue
        if number % 3 == 1:
            with contextlib.suppress(OSError):  # it was cut already
                connection.shutdown(socket.SHUT_WR)
        kept.append(connection)
        if len(kept) > OPEN_AT_ONCE:
            kept.popleft().close()
    attacker.held.extend(kept)


def half_open_peers(attacker: Attacker) -> None:
    """Peers that go silent at some point and never close, and peers that never read what they ask for."""
    for _ in range(max(1, int(HALF_OPEN_EACH * attacker.share))):
        with attacker.held_peer() as silent:  # an association without a message
            silent.associate()
        with attacker.held_peer() as in_message:
            in_message.associate()
            in_message.send(store_request(data_set())[:-3])
        with attacker.held_peer() as released:
            released.associate()
            released.send(pdu.encode(AReleaseRQ()))
        with attacker.held_peer() as broken:  # is aborted, and does not care
            broken.send(b"\x01\x00\xff\xff\xff\xff")
        _read_nothing(attacker)
    while not attacker.is_over:
        time.sleep(0.05)


def _read_nothing(attacker: Attacker) -> None:
    """Ask until all buffers are full of answers that nobody reads."""
    connection = attacker.connect(small=True)
    attacker.held.append(connection)
    connection.sendall(pdu.encode(association_request(uids.VERIFICATION)))
    connection.setblocking(False)
    echoes = _command(CommandField.C_ECHO_RQ) * 1000
    deadline = time.monotonic() + LET_GO_LIMIT
    with contextlib.suppress(ConnectionError):  # cut, as it should be
        while time.monotonic() < deadline and select.select([], [connection], [], 0.5)[1]:
            position = connection.send(echoes)
            echoes = echoes[position:] + echoes[:position]
            attacker.toll.counts["bytes asked without reading"] += position


# --- endless --------------------------------------------------------------------------------------


def _pour(attacker: Attacker, name: str, first: bytes, endless: bytes, abstract_syntax: str, *, most: int) -> None:
    """Send without end, until the connection is cut or the time is over; beyond `most` bytes it must be aborted."""
    with attacker.peer() as peer:
        if not _associate(attacker, peer, abstract_syntax):
            return
        peer.send(first)
        sent, is_aborted = 0, False
        while not attacker.is_over or (sent > most and not is_aborted):
            peer.send(endless)
            sent += len(endless)
            attacker.toll.counts[f"bytes of {name}s"] += len(endless)
            if not is_aborted and select.select([peer.socket], [], [], 0)[0]:
                arrived = peer.receive()
                if not isinstance(arrived, AAbort):
                    attacker.fault(f"endless {name} was answered with {arrived}")
                    return
                attacker.count("aborted")
                is_aborted = True


def endless_command_sets(attacker: Attacker) -> None:
    endless = fragment(bytes(8_000), is_command=True)
    attacker.repeat(
        lambda number: _pour(attacker, "command set", b"", endless, uids.VERIFICATION, most=MAX_COMMAND_SET)
    )


def endless_data_sets(attacker: Attacker) -> None:
    """Far more than the largest object, of which nothing may be kept, neither on disk nor in memory."""
    endless, most = fragment(bytes(16_000)), MAX_OBJECT * MEGABYTE + MAX_PASSED_OVER
    attacker.repeat(lambda number: _pour(attacker, "data set", store_command(), endless, CT, most=most))


def endless_headers(attacker: Attacker) -> None:
    """Small data sets that unpack to sequences and nothing else: no byte sent costs the receiver more."""
    sequence = struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFF_FFFF) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(sequence * (2 * MAX_HEADER // len(sequence))) + packer.flush()

    def step(number: int) -> None:
        with attacker.peer() as peer:
            if not _associate(attacker, peer, CT, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN):
                return
            while not attacker.is_over:
                response = peer.store(packed)
                attacker.count("data sets")
                if response.status != Status.CANNOT_UNDERSTAND:
                    attacker.fault(f"a header without an end was answered with {response}")

    attacker.repeat(step)


def dust(attacker: Attacker) -> None:
    """Data sets a byte a PDU, as fast as they go: nothing costs the receiver more for each byte."""
    threads = max(1, int(THREADS * attacker.share))  # what lies in the buffers at the end takes its seconds too
    attacker.repeat(lambda number: _pour_dust(attacker, store_command()), threads)


def _pour_dust(attacker: Attacker, first: bytes) -> None:
    grains = 2_000
    blob = fragment(b"\0") * grains
    with attacker.peer() as peer:
        if not _associate(attacker, peer, CT):
            return
        peer.send(first)
        while not attacker.is_over:
            peer.send(blob)
            attacker.toll.counts["PDUs of a byte"] += grains


# --- storms and floods ----------------------------------------------------------------------------


def abort_storm(attacker: Attacker) -> None:
    """Associate and abort; every other time without awaiting the answer."""
    request, abort = pdu.encode(association_request()), pdu.encode(AAbort(0, 0))

    def step(number: int) -> None:
        with attacker.peer(_HOSTS[number % len(_HOSTS)]) as peer:
            if number % 2:
                peer.send(request + abort)
            else:
                peer.send(request)
                _expect(attacker, peer, "an association request", AAssociateAC, AAssociateRJ)
                peer.send(abort)
            attacker.count("aborts")

    attacker.repeat(step)


def _expect(attacker: Attacker, peer: Peer, question: str, *allowed: type) -> object:
    arrived = peer.receive()
    if arrived is not None and not isinstance(arrived, allowed):
        attacker.fault(f"{question} was answered with {arrived}")
    if isinstance(arrived, AAssociateRJ) and arrived != negotiation.LOCAL_LIMIT_EXCEEDED:
        attacker.fault(f"{question} over the limit was rejected with {arrived}, which senders do not try again after")
    return arrived


def _associate(
    attacker: Attacker, peer: Peer, abstract_syntax: str, transfer_syntax: str = uids.EXPLICIT_VR_LITTLE_ENDIAN
) -> bool:
    """False when there is no room."""
    peer.send(pdu.encode(association_request(abstract_syntax, transfer_syntax=transfer_syntax)))
    arrived = _expect(attacker, peer, "an association request", AAssociateAC, AAssociateRJ)
    return isinstance(arrived, AAssociateAC)


def _client_hello() -> bytes:
    context, outgoing = ssl.create_default_context(), ssl.MemoryBIO()
    handshake = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outgoing.read()


def garbage(attacker: Attacker) -> None:
    """What other programs say, PDUs of 4 GB, random bytes: at both ports."""
    source = random.Random(5)
    known = [
        b"GET / HTTP/1.1\r\nHost: receiver\r\n\r\n",
        _client_hello(),
        b"SSH-2.0-OpenSSH_9.6\r\n",
        *(bytes((kind, 0, 255, 255, 255, 255)) + bytes(100) for kind in range(9)),
        pdu.encode(association_request())[:-9],
        pdu.encode(association_request()).replace(CT.encode(), b"\xff" * len(CT)),
    ]

    def step(number: int) -> None:
        data = known[number % len(known)] if number % 2 else source.randbytes(source.choice((1, 6, 100, 10_000)))
        connection = attacker.connect(_HOSTS[number % 3], tls=number % 5 == 0)
        with Peer(0, connection=connection) as peer:
            peer.send(data)
            peer.socket.shutdown(socket.SHUT_WR)
            attacker.count("connections")
            if number % 5:
                _expect(attacker, peer, repr(data[:20]), AAbort, AAssociateAC)
            else:
                while connection.recv(4096):  # the alert of TLS
                    pass

    attacker.repeat(step)


def _flood(attacker: Attacker, limit: int, host_of: Callable[[int], str], calling_of: Callable[[int], str]) -> None:
    """Ask for associations as fast as they are answered, and keep every one."""
    kept: deque[Peer] = deque()
    for number in itertools.count():
        if attacker.is_over and attacker.toll.counts["rejected"]:
            break
        with contextlib.suppress(OSError):
            peer = attacker.peer(host_of(number))
            peer.send(pdu.encode(association_request(calling=calling_of(number))))
            arrived = _expect(attacker, peer, "an association request", AAssociateAC, AAssociateRJ)
            if isinstance(arrived, AAssociateAC):
                attacker.count("accepted")
                kept.append(peer)
            else:
                attacker.count("rejected" if arrived is not None else "cut")
                peer.socket.close()
        while kept and select.select([kept[0].socket], [], [], 0)[0]:  # idle-timeout has let it go
            kept.popleft().socket.close()
        if len(kept) > limit and sum(not select.select([one.socket], [], [], 0)[0] for one in kept) > limit:
            attacker.fault(f"more than {limit} associations were accepted at once")
            break
    attacker.held.extend(one.socket for one in kept)


def flood_of_a_host(attacker: Attacker) -> None:
    _flood(attacker, MAX_EACH, lambda number: _HOSTS[0], lambda number: f"AE{number % 5000}")


def flood_of_an_ae_title(attacker: Attacker) -> None:
    _flood(attacker, MAX_EACH, lambda number: _HOSTS[number % len(_HOSTS)], lambda number: "MIGRATION")


def flood_of_all(attacker: Attacker) -> None:
    """From many hosts with many AE titles: here only who is in is served, and the others are told to try again."""
    _flood(attacker, MAX_ASSOCIATIONS, lambda number: _HOSTS[number % len(_HOSTS)], lambda number: f"AE{number % 5000}")


# --- TLS ------------------------------------------------------------------------------------------


def stalled_handshakes(attacker: Attacker) -> None:
    """At the TLS port: no word, half a ClientHello, a whole one and then nothing, or a byte of it a second."""
    hello = _client_hello()
    starts = [b"", hello[:1], hello[: len(hello) // 2], hello]
    while True:
        opened = []
        for number in range(STALLED_HANDSHAKES):
            connection = attacker.connect(_HOSTS[number % 3], tls=True)
            connection.sendall(starts[number % len(starts)])
            attacker.count("handshakes begun")
            opened.append(connection)
        rest = itertools.cycle(hello[1:])
        deadline = time.monotonic() + 2 * TIMEOUTS["artim_timeout"]
        while time.monotonic() < deadline and not attacker.is_over:
            time.sleep(min(1, max(attacker.remaining, 0)))
            byte = bytes((next(rest),))
            for connection in opened[1 :: len(starts)]:
                with contextlib.suppress(OSError):
                    connection.sendall(byte)
        attacker.held.extend(opened)
        if attacker.is_over:
            return


def handshake_storm(attacker: Attacker) -> None:
    """Whole handshakes, each of which costs the receiver a signature, and then nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def step(number: int) -> None:
        with context.wrap_socket(attacker.connect(_HOSTS[number % 3], tls=True)):
            attacker.count("handshakes")

    attacker.repeat(step)


@dataclass(frozen=True, slots=True)
class Attack:
    """`lets_in` is false where no new association can be had: a normal sender then keeps the one that it has."""

    run: Callable[[Attacker], None]
    lets_in: bool = True


ATTACKS: dict[str, Attack] = {
    "slow senders, a byte a second": Attack(slow_senders),
    "connects without a word": Attack(silent_connects),
    "half-open peers": Attack(half_open_peers),
    "endless command sets": Attack(endless_command_sets),
    "endless data sets": Attack(endless_data_sets),
    "headers without an end": Attack(endless_headers),
    "PDUs of one byte": Attack(dust),
    "abort storm": Attack(abort_storm),
    "garbage": Attack(garbage),
    "flood from one host": Attack(flood_of_a_host),
    "flood of one AE title": Attack(flood_of_an_ae_title),
    "flood from everywhere": Attack(flood_of_all, lets_in=False),
    "stalled TLS handshakes": Attack(stalled_handshakes),
    "storm of TLS handshakes": Attack(handshake_storm),
}


class Attacks:
    """The process of the attackers. `begin` one, `end` it, look at the receiver, and then `let_go`."""

    def __init__(self, port: int, tls_port: int, share: float) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_run, args=(theirs, port, tls_port, share), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, name: str, seconds: float) -> None:
        self._pipe.send((name, seconds))

    def end(self) -> Toll:
        """Wait for the end of the attack. What it holds open is still open."""
        if not self._pipe.poll(2 * ANSWER_LIMIT):
            raise SystemExit("an attack does not end")
        toll: Toll = self._pipe.recv()
        return toll

    def let_go(self) -> None:
        self._pipe.send(None)

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _run(pipe: Connection, port: int, tls_port: int, share: float) -> None:
    os.nice(_NICENESS)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            name, seconds = pipe.recv()
            attacker = Attacker(port, tls_port, seconds, share)
            try:
                ATTACKS[name].run(attacker)
            except (OSError, WrongAnswer, DcmStoreError) as error:
                attacker.fault(f"the attack broke off: {error!r}")
            pipe.send(attacker.toll)
            pipe.recv()
            for connection in attacker.held:
                connection.close()
