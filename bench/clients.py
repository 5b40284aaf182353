"""files -> command line -> seconds: who sends."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.receivers import NAGLE_OBJECTS, OF_THIS_CHECKOUT, TCP_NODELAY
from tools.programs import find_program

DCMSEND = find_program("dcmsend")


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client says it has sent. `busy` is the share of the time in which it computed itself, if known."""

    seconds: float
    busy: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """A program that sends files to a port. `max_objects` bounds a set where that program takes minutes."""

    name: str
    about: str
    is_installed: bool
    command: Callable[[int, Sequence[Path]], list[str]]
    result: Callable[[str, float], Sent]  # its output and the time from its start to its end
    environment: Mapping[str, str] = field(default_factory=dict)
    max_objects: int | None = None


def _load(associations: int, pace: str = "answer") -> Callable[[int, Sequence[Path]], list[str]]:
    def command(port: int, paths: Sequence[Path]) -> list[str]:
        switches = ["--port", str(port), "--associations", str(associations), "--pace", pace]
        return [sys.executable, "-m", "bench.load", *switches, *map(str, paths)]

    return command


def _load_result(output: str, seconds: float) -> Sent:
    load = json.loads(output.splitlines()[-1])
    seconds = load["ended"] - load["started"]
    return Sent(seconds, load["cpu"] / seconds if seconds else None, load["failure"])


def _dcmsend(port: int, paths: Sequence[Path]) -> list[str]:
    return [DCMSEND or "", "127.0.0.1", str(port), *map(str, paths)]


def _dcmsend_result(output: str, seconds: float) -> Sent:
    return Sent(seconds)


_HAS_DCMSEND = DCMSEND is not None
# fmt: off
CLIENTS = (
    Client("raw1", "raw generator, 1 association", True, _load(1), _load_result, OF_THIS_CHECKOUT),
    Client("raw4", "raw generator, 4 associations", True, _load(4), _load_result, OF_THIS_CHECKOUT),
    Client("each4", "raw generator, an association an object, 4 at a time", True, _load(4, "each"), _load_result,
           OF_THIS_CHECKOUT),
    Client("dcmsend-nodelay", "TCP_NODELAY=1 dcmsend", _HAS_DCMSEND, _dcmsend, _dcmsend_result, TCP_NODELAY),
    Client("dcmsend", "dcmsend as it comes", _HAS_DCMSEND, _dcmsend, _dcmsend_result, max_objects=NAGLE_OBJECTS),
)
# fmt: on
