"""measurements -> goals: what this receiver is meant to be beside others, and what a run has found of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.measure import Measurement
from bench.receivers import BEST

_QUICK = ("dcmstore-fast", "dcmstore-workers")
_AS_INSTALLED = ("dcmstore",)
_PEERS_AT_BEST = (BEST, "pynetdicom", "orthanc")


@dataclass(frozen=True, slots=True)
class Goal:
    """The rate of the quickest of `ours` by that of the quickest of `against`, in the same round, is `at_least`."""

    about: str
    object_set: str
    client: str
    ours: tuple[str, ...]
    against: tuple[str, ...]
    at_least: float


@dataclass(frozen=True, slots=True)
class Found:
    """A goal, and the ratios of the rounds; `ours` is which of them was the quickest."""

    goal: Goal
    ours: str
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return median(self.ratios)


def _raw(about: str, object_set: str, ours: tuple[str, ...], against: str, at_least: float) -> tuple[Goal, ...]:
    """The goal for one association and for four."""
    return tuple(
        Goal(f"{about}, {client[-1]} at a time", object_set, client, ours, (against,), at_least)
        for client in ("raw1", "raw4")
    )


_MANY = "an association an object"

GOALS = (
    Goal("8 kB, dcmsend, as installed, to DCMTK", "small", "dcmsend", _AS_INSTALLED, ("dcmtk",), 100),
    Goal("8 kB, dcmsend, as installed, to Orthanc", "small", "dcmsend", _AS_INSTALLED, ("orthanc",), 100),
    Goal("8 kB, dcmsend, as installed, to pynetdicom", "small", "dcmsend", _AS_INSTALLED, ("pynetdicom",), 50),
    Goal("8 kB, dcmsend, best switches, to the best peer", "small", "dcmsend-nodelay", _QUICK, _PEERS_AT_BEST, 1.3),
    *_raw("CT, durable=0, to DCMTK's best", "ct", _QUICK, BEST, 2),
    *_raw("CT, durable=0, to the bare loop", "ct", _QUICK, "bare", 0.8),
    *_raw("8 kB, durable=0, to DCMTK's best", "small", _QUICK, BEST, 2.5),
    *_raw("200 MB, durable=0, to the bare loop", "large", _QUICK, "bare", 0.9),
    *_raw("CT, durable=1, to the bare loop that syncs", "ct", _AS_INSTALLED, "bare-sync", 0.85),
    *_raw("8 kB, durable=1, to the bare loop that syncs", "small", _AS_INSTALLED, "bare-sync", 0.85),
    *_raw("CT, durable=1, to the one that syncs the folder too", "ct", _AS_INSTALLED, "bare-durable", 0.85),
    *_raw("8 kB, durable=1, to the one that syncs the folder too", "small", _AS_INSTALLED, "bare-durable", 0.85),
    *_raw("CT, durable=1, to Orthanc", "ct", _AS_INSTALLED, "orthanc", 2),
    Goal(f"dose reports, {_MANY}, to DCMTK", "rdsr", "each4", _AS_INSTALLED, ("dcmtk",), 5),
    Goal(f"dose reports, {_MANY}, to pynetdicom", "rdsr", "each4", _AS_INSTALLED, ("pynetdicom",), 20),
    *_raw("8 kB, index=1, to index=0", "small", ("dcmstore-index",), "dcmstore-fast", 0.95),
    *_raw("CT, index=1, to index=0", "ct", ("dcmstore-index",), "dcmstore-fast", 0.95),
)


def found(measurements: Sequence[Measurement]) -> Iterator[Found]:
    """Those goals of which both sides were measured."""
    for goal in GOALS:
        each = [Found(goal, ours, ratios) for ours in goal.ours if (ratios := _ratios(measurements, goal, ours))]
        if each:
            yield max(each, key=lambda one: one.ratio)


def _ratios(measurements: Sequence[Measurement], goal: Goal, ours: str) -> tuple[float, ...]:
    rates: dict[str, dict[int, float]] = {}
    for one in measurements:
        if (one.object_set, one.client) == (goal.object_set, goal.client) and not one.fault:
            rates.setdefault(one.receiver, {})[one.round] = one.rate
    ratios = []
    for number, rate in rates.get(ours, {}).items():
        others = [rates[other][number] for other in goal.against if number in rates.get(other, {})]
        if others:
            ratios.append(rate / max(others))
    return tuple(ratios)
