"""measurements -> Markdown: medians, their spread, and ratios that were taken inside each round."""

import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

from bench import goals
from bench.clients import Client
from bench.measure import Measurement
from bench.plan import Plan
from bench.receivers import BEST, RECEIVERS, ROOT, Receiver, versions
from bench.sets import ObjectSet
from tools import pages

OURS = ("dcmstore", "dcmstore-fast", "dcmstore-workers", "dcmstore-index")
PAGE = ROOT / "docs" / "performance.md"
NEAR_CEILING = 0.8  # of the bare sink's rate: beyond it, the generator may be what was measured


def markdown(plan: Plan, measurements: Sequence[Measurement]) -> str:
    """The whole report."""
    parts = ["# Benchmark", "", *_heading(plan, measurements), *_goals(measurements), *_summaries(plan, measurements)]
    for chosen in plan.sets:
        for client in plan.clients_for(chosen):
            parts += _section(plan, chosen, client, measurements)
    return "\n".join([*parts, *_faults(measurements), *_notes(measurements)]) + "\n"


# --- what was measured on ------------------------------------------------------------------------


def _heading(plan: Plan, measurements: Sequence[Measurement]) -> list[str]:
    facts = {
        "Date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "Command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "Machine": f"{_processor()}, {os.cpu_count()} logical CPUs, {_memory() / 1e9:.1f} GB of memory",
        "System": f"{platform.system()} {platform.release()}, {_file_system(plan.folder)}",
        "Load average at the end": f"{os.getloadavg()[2]:.1f} over 15 minutes, this program's own part included",
        "Rounds": _rounds(plan, measurements),
        **versions(),
    }
    return [*table(["", ""], [[key, value] for key, value in facts.items()]), ""]


def _rounds(plan: Plan, measurements: Sequence[Measurement]) -> str:
    begun = max((one.round for one in measurements), default=0)
    return str(plan.rounds) if begun == plan.rounds else f"{begun}, for it was ended before the {plan.rounds} were done"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _file_system(folder: Path) -> str:
    """The type of the file system on which a folder lies: syncing costs nothing on a tmpfs."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    at, kind = max(
        (mount for mount in mounts if folder.resolve().is_relative_to(mount[0])), key=lambda mount: len(mount[0])
    )
    return f"objects and receivers on {kind} mounted at {at}"


# --- goals ---------------------------------------------------------------------------------------


def _goals(measurements: Sequence[Measurement]) -> list[str]:
    rows = [
        [
            found.goal.about,
            found.ours,
            f"{found.goal.at_least:g}",
            f"**{found.ratio:.2f}**" if found.ratio >= found.goal.at_least else f"{found.ratio:.2f}",
            f"{min(found.ratios):.2f} to {max(found.ratios):.2f}",
        ]
        for found in goals.found(measurements)
    ]
    columns = ["how many times as fast", "receiver", "goal", "found", "min to max"]
    return ["## Goals", "", *table(columns, rows), ""] if rows else []


# --- ratios --------------------------------------------------------------------------------------


def _summaries(plan: Plan, measurements: Sequence[Measurement]) -> Iterator[str]:
    chosen = [receiver.name for receiver in plan.receivers]
    if BEST in chosen:
        yield from _summary(
            "How many times as fast as DCMTK's best",
            plan,
            lambda workload, receiver: ratio(measurements, workload, receiver, BEST),
        )
    for ours in OURS:
        if ours in chosen:
            yield from _summary(
                f"How many times as fast `{ours}` is as each of them",
                plan,
                lambda workload, receiver, ours=ours: ratio(measurements, workload, ours, receiver),  # type: ignore[misc]
            )


Workload = tuple[str, str]  # object set, client


def _summary(title: str, plan: Plan, value: Callable[[Workload, str], float | None]) -> Iterator[str]:
    workloads = [(chosen.name, client.name) for chosen in plan.sets for client in plan.clients_for(chosen)]
    yield from (f"## {title}", "")
    rows = [
        [receiver.about, *(_shown(value(workload, receiver.name), ".2f") for workload in workloads)]
        for receiver in plan.receivers
    ]
    yield from table(["", *(" ".join(workload) for workload in workloads)], rows)
    yield ""


def ratio(measurements: Sequence[Measurement], workload: Workload, receiver: str, base: str) -> float | None:
    """The median over the rounds of one receiver's rate by another's in the same round."""
    rates = _rates(measurements, workload, receiver)
    bases = _rates(measurements, workload, base)
    ratios = [rates[number] / bases[number] for number in rates if number in bases]
    return median(ratios) if ratios else None


def _rates(measurements: Sequence[Measurement], workload: Workload, receiver: str) -> dict[int, float]:
    return {one.round: one.rate for one in _of(measurements, workload, receiver) if not one.fault}


def _of(measurements: Sequence[Measurement], workload: Workload, receiver: str) -> list[Measurement]:
    return [one for one in measurements if (one.object_set, one.client) == workload and one.receiver == receiver]


# --- one client, one set -------------------------------------------------------------------------

_COLUMNS = [
    "",
    "sent",
    "objects/s",
    "min to max",
    "MB/s",
    "÷ DCMTK's best",
    "peak MB",
    "CPU ms/object",
    "generator busy",
]


def _section(plan: Plan, chosen: ObjectSet, client: Client, measurements: Sequence[Measurement]) -> Iterator[str]:
    yield from (f"## {client.about}: {chosen.about}", "")
    if not client.is_installed:
        yield from (f"{client.about}: **not installed**", "")
        return
    workload = chosen.name, client.name
    rows = [_row(receiver, workload, measurements) for receiver in plan.receivers]
    yield from table(_COLUMNS, rows)
    yield ""
    yield from _warn_of_ceiling(plan, workload, measurements)


def _row(receiver: Receiver, workload: Workload, measurements: Sequence[Measurement]) -> list[str]:
    if not receiver.is_installed:
        return [receiver.about, "", "**not installed**", *[""] * (len(_COLUMNS) - 3)]
    runs = _of(measurements, workload, receiver.name)
    good = [one for one in runs if not one.fault]
    failed = f" (**{len(runs) - len(good)} of {len(runs)} runs failed**)" if len(good) < len(runs) else ""
    if not good:
        return [receiver.about, "", failed.strip() or "not run", *[""] * (len(_COLUMNS) - 3)]
    rates = [one.rate for one in good]
    busy = [one.busy for one in good if one.busy is not None]
    return [
        receiver.about,
        str(good[0].objects),
        f"{median(rates):.1f}{failed}",
        f"{min(rates):.1f} to {max(rates):.1f}",
        f"{median(one.size / one.seconds / 1e6 for one in good):.1f}",
        _shown(ratio(measurements, workload, receiver.name, BEST), ".2f"),
        f"{median(one.usage.peak / 1e6 for one in good):.0f}",
        f"{median(one.usage.cpu / one.objects * 1000 for one in good):.2f}",
        f"{median(busy):.0%}" if busy else "",
    ]


def _warn_of_ceiling(plan: Plan, workload: Workload, measurements: Sequence[Measurement]) -> Iterator[str]:
    """Name the receivers that came so near the bare sink that the generator may have held them back."""
    near = [
        receiver.about
        for receiver in plan.receivers
        if receiver.stored and (ratio(measurements, workload, receiver.name, "sink") or 0) > NEAR_CEILING
    ]
    if near:
        yield from (
            f"Within {1 - NEAR_CEILING:.0%} of the bare sink, so really faster than shown: {', '.join(near)}.",
            "",
        )


# --- the end -------------------------------------------------------------------------------------


def _faults(measurements: Sequence[Measurement]) -> Iterator[str]:
    faults = [one for one in measurements if one.fault]
    yield from ("## Lost objects and crashes", "")
    if not faults:
        yield from ("None: every object of every run was answered with success and is stored.", "")
    for one in faults:
        yield f"- round {one.round}, {one.object_set}, {one.client}, {one.receiver}: {one.fault}"
    yield ""


def _notes(measurements: Sequence[Measurement]) -> Iterator[str]:
    yield from ("## How to read this", "")
    missing = [one.about for one in RECEIVERS if not one.is_installed]
    yield f"- Not installed: {', '.join(missing) or 'nothing'}."
    yield "- A receiver is started for each run, with an empty folder; another begins each round; figures are medians."
    yield "- sent: where either end waits for delayed acknowledgements, the first objects of a set stand for all."
    yield "- raw generator: from the first connection to the last response. dcmsend: its whole run, reading included."
    yield "- ÷ DCMTK's best: taken inside each round, with the same client, and then the median of that."
    yield "- peak MB: VmHWM of the receiver and of its forked processes added up; what they share counts for each."
    yield "- CPU ms/object: user and system time of the receiver from listening to the last response."
    yield "- generator busy: its own CPU time by the time that passed; near 100 % it would be the bottleneck."
    yield "- Only dcmstore with durable=1, Orthanc and the bare loop with `sync` sync an object before they answer."
    if costs := [one.file_cost * 1e6 for one in measurements]:
        span = f"{median(costs):.0f} µs ({min(costs):.0f} to {max(costs):.0f})"
        yield f"- An empty file cost {span} before the runs; where it is much more, see bench/ground.py."
    yield "- The bare loop and the bare sink are yardsticks, not receivers: see bench/bare.py."


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def record(plan: Plan, measurements: Sequence[Measurement]) -> None:
    """Put the figures of a run in place of the last one's."""
    _record("goals", [*_heading(plan, measurements), *_goals(measurements)[2:]])
    _record("all", _lowered(markdown(plan, measurements).splitlines()[1:]))


def show(part: str, lines: Sequence[str], *, is_recorded: bool) -> None:
    """What a program of its own has found, with what it was measured on."""
    facts = {name: value for name, value in versions().items() if name in ("dcmstore", "Python")}
    facts = {"Machine": f"{_processor()}, {os.cpu_count()} logical CPUs", **facts}
    lines = [*lines, "", "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."]
    print("\n".join(lines))
    if is_recorded:
        _record(part, lines)


def _record(part: str, lines: Sequence[str]) -> None:
    begin, end = f"<!-- {part}: figures of the last `make performance` -->", f"<!-- {part}: end -->"
    pages.replace_part(PAGE, begin, end, "\n".join(lines).strip("\n") + "\n")


def _lowered(lines: Sequence[str]) -> list[str]:
    """With headings for a page that has its own."""
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|--:" * (len(head) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
