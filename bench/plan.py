"""choice -> runs in rounds: the receivers take turns, so that a busy minute hits them all.

Each round begins with another one (A B C, B C A, …): the first run after a change of set or client pays for memory
that the machine has not used for a while, and would always be the same receiver's.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench import ground, sets
from bench.clients import CLIENTS, Client
from bench.measure import Measurement, measure
from bench.receivers import RECEIVERS, Receiver
from bench.sets import ObjectSet

MAX_DISK = 4 * 1024**3  # bytes that the objects and one receiver's folder may take together
SPARE_DISK = 2 * 1024**3  # bytes that stay free on the disk
FULL_ROUNDS = 5
# What a set is sent with, where nothing else is chosen: dcmsend tells of many objects, and who opens an association for
# each object sends dose reports.
_MANY = ("raw1", "raw4", "dcmsend-nodelay", "dcmsend")
CLIENTS_OF = {"ct": _MANY, "small": _MANY, "large": ("raw1", "raw4"), "rdsr": ("each4",)}
SHORT_CLIENTS = "raw1,raw4,dcmsend"

T = TypeVar("T", ObjectSet, Client, Receiver)


class ChoiceError(Exception):
    """An option names what does not exist, or asks for more than this machine has."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    sets: tuple[ObjectSet, ...]
    clients: tuple[Client, ...]
    receivers: tuple[Receiver, ...]
    rounds: int
    folder: Path  # where the temporary folder is made
    patience: int  # how long to wait for calm ground
    is_usual: bool  # what each set is usually sent with, in place of all clients

    def clients_for(self, chosen: ObjectSet) -> tuple[Client, ...]:
        return tuple(one for one in self.clients if not self.is_usual or one.name in CLIENTS_OF[chosen.name])

    @property
    def needed_disk(self) -> int:
        """Bytes: all objects, and the largest set once more in a receiver's folder and its temporary files."""
        return sum(chosen.total_size for chosen in self.sets) + 2 * max(chosen.total_size for chosen in self.sets)


def choose(options: argparse.Namespace) -> Plan:
    """Read the options. Raises ChoiceError."""
    available = sets.short() if options.short else sets.full()
    plan = Plan(
        pick("--sets", available, options.sets),
        pick("--clients", CLIENTS, options.clients or (SHORT_CLIENTS if options.short else "")),
        pick("--receivers", RECEIVERS, options.receivers),
        options.rounds or (1 if options.short else FULL_ROUNDS),
        options.folder,
        1 if options.short else ground.PATIENCE,
        is_usual=not (options.clients or options.short),
    )
    if plan.needed_disk > MAX_DISK:
        raise ChoiceError(f"--sets: needs {plan.needed_disk} bytes of disk, at most {MAX_DISK} are taken")
    free = shutil.disk_usage(plan.folder).free
    if free - plan.needed_disk < SPARE_DISK:
        raise ChoiceError(f"{plan.folder}: {free} bytes free, {plan.needed_disk + SPARE_DISK} are needed")
    return plan


def pick(option: str, available: Sequence[T], names: str) -> tuple[T, ...]:
    """Those that an option names, all where it names none. Raises ChoiceError."""
    by_name = {one.name: one for one in available}
    wanted = names.split(",") if names else list(by_name)
    for name in wanted:
        if name not in by_name:
            raise ChoiceError(f"{option} {name!r}: allowed are {', '.join(by_name)}")
    return tuple(by_name[name] for name in wanted)


def run(plan: Plan) -> Iterator[Measurement]:
    """Make the objects, yield a measurement a run, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="dcmstore-bench-", dir=plan.folder) as name:
        folder = Path(name)
        paths = {}
        for chosen in plan.sets:
            print(f"making {chosen.about}", file=sys.stderr)
            paths[chosen.name] = sets.write(chosen, folder / chosen.name)
        for number in range(1, plan.rounds + 1):
            for chosen in plan.sets:
                for client, receiver in _pairs(plan, chosen, number):
                    yield measure(
                        number, chosen.name, receiver, client, paths[chosen.name], folder / "receiver", plan.patience
                    )


def _pairs(plan: Plan, chosen: ObjectSet, number: int) -> Iterator[tuple[Client, Receiver]]:
    first = (number - 1) % len(plan.receivers)
    for client in plan.clients_for(chosen):
        for receiver in plan.receivers[first:] + plan.receivers[:first]:
            if client.is_installed and receiver.is_installed:
                yield client, receiver
