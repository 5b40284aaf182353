"""`dcmstore queue`, `dcmstore hooks`: the queue -> what waits and is dead; dead jobs -> tried again, or dropped."""

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dcmstore import index, jobs, needs, wiring
from dcmstore.errors import ConfigurationError
from dcmstore.index import printing
from dcmstore.index.entries import moment
from dcmstore.jobs import patience

if TYPE_CHECKING:
    from dcmstore.jobs.overview import Summary
    from dcmstore.jobs.queue import Queue
    from dcmstore.jobs.rows import Queued

    Dead = Mapping[int, Sequence[Queued]]  # by the id of their target

ALL = 0  # in place of the ID of a dead job
DEAD_ALLOWED = "all, or the ID of a dead job"
MOST_SHOWN = 20  # dead jobs of a target; --json has all

_PEERS = (patience.FORWARD, patience.COMMITMENT)
_HEADS = ("KIND", "TARGET", "WAITING", "DEAD", "OLDEST", "NEXT TRY", "LAST REASON")
_DEAD_HEADS = ("DEAD ID", "DIED", "TRIED", "TARGET", "FILE", "REASON")


def queue(options: argparse.Namespace) -> int:
    """Forwards and commitments; exit code 1 where one is dead, or none of those that were named."""
    return _command(options, "dcmstore queue", are_hooks=False)


def hooks(options: argparse.Namespace) -> int:
    """The same for all other jobs."""
    return _command(options, "dcmstore hooks", are_hooks=True)


def dead_id(value: str) -> int:
    """Which dead job is meant, or ALL. Raises ValueError."""
    if value.lower() == "all":
        return ALL
    if not (value.isascii() and value.isdigit() and len(value) <= 18 and int(value)):  # 18: what SQLite takes
        raise ValueError
    return int(value)


def _command(options: argparse.Namespace, name: str, *, are_hooks: bool) -> int:
    configuration = needs.read(options.config)
    index.require(name)
    from dcmstore.jobs.queue import Queue, QueueTrouble  # and with it SQLAlchemy, which other commands do without

    wiring.apply_permissions(configuration.settings)
    path = configuration.path.absolute().parent / jobs.FILE_NAME
    is_changed = options.retry is not None or options.drop is not None
    if not path.exists():
        return _told(0, "") if is_changed else _show([], {}, is_json=options.json)
    try:
        with contextlib.closing(Queue(str(path), may_write=is_changed)) as opened:
            return _answer(opened, options, are_hooks=are_hooks)
    except QueueTrouble as trouble:
        raise ConfigurationError(str(trouble)) from None


def _answer(opened: "Queue", options: argparse.Namespace, *, are_hooks: bool) -> int:
    from dcmstore.jobs import overview

    found = [summary for summary in overview.summaries(opened) if (summary.target.kind not in _PEERS) is are_hooks]
    targets = [summary.target for summary in found]
    if options.retry is not None:
        return _told(overview.retry(opened, targets, options.retry or None, time.time()), "to be tried again")
    if options.drop is not None:
        return _told(overview.drop(opened, targets, options.drop or None, time.time()), "dropped")
    most = None if options.json else MOST_SHOWN
    return _show(found, {target.id: overview.dead(opened, target, most) for target in targets}, is_json=options.json)


def _told(count: int, what: str) -> int:
    if not count:
        print("dcmstore: no such job is dead", file=sys.stderr)
        return 1
    print(f"{count} {what}")
    return 0


def _show(found: "Sequence[Summary]", dead: "Dead", *, is_json: bool) -> int:
    if is_json:
        printing.write_json([_record(summary, dead[summary.target.id]) for summary in found], sys.stdout)
    elif found:
        _print(_HEADS, map(_row, found))
        if rows := [_dead_row(job) for summary in found for job in dead[summary.target.id]]:
            print()
            _print(_DEAD_HEADS, rows)
    else:
        print("dcmstore: nothing waits", file=sys.stderr)
    return int(any(summary.dead for summary in found))


# --- the tables ----------------------------------------------------------------------------------


def _print(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in printing.table(heads, list(rows), width):
        print(line)


def _row(summary: "Summary") -> tuple[str, ...]:
    target = summary.target
    counts = str(summary.waiting), str(summary.dead)
    return target.kind, target.name, *counts, _local(summary.oldest), _local(summary.next_try), summary.reason


def _dead_row(job: "Queued") -> tuple[str, ...]:
    return str(job.id), _local(job.due_at), str(job.attempts), job.target.name, _file_of(job), job.reason


def _file_of(job: "Queued") -> str:
    return str(job.job.facts.get("path") or job.job.facts.get("folder") or job.job.key)


def _local(seconds: float | None) -> str:
    return "" if seconds is None else printing.local(moment(seconds))


# --- for a program -------------------------------------------------------------------------------


def _record(summary: "Summary", dead: "Sequence[Queued]") -> dict[str, Any]:
    return {
        "kind": summary.target.kind,
        "target": summary.target.name,
        "waiting": summary.waiting,
        "dead": summary.dead,
        "oldest": _moment(summary.oldest),
        "next_try": _moment(summary.next_try),
        "last_reason": summary.reason,
        "dead_jobs": [_dead_record(job) for job in dead],
    }


def _dead_record(job: "Queued") -> dict[str, Any]:
    return {
        "id": job.id,
        "made": _moment(job.made_at),
        "died": _moment(job.due_at),
        "attempts": job.attempts,
        "reason": job.reason,
        "facts": dict(job.job.facts),
    }


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else moment(seconds)
