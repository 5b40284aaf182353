"""`dcmstore queue`, `dcmstore hooks`: the queue -> what waits and is dead; jobs -> tried now, or dropped."""

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dcmstore import index, jobs, needs, wiring
from dcmstore.errors import ConfigurationError
from dcmstore.forwarding import peers
from dcmstore.hooks import lines
from dcmstore.index import printing
from dcmstore.index.entries import moment
from dcmstore.jobs import patience
from dcmstore.settings import Settings

if TYPE_CHECKING:
    from dcmstore.jobs.overview import Summary
    from dcmstore.jobs.queue import Queue
    from dcmstore.jobs.rows import Queued

ALL, GONE = 0, -1  # in place of the ID of a job
ID_ALLOWED = "all, or the ID of a job"
DROP_ALLOWED = "the ID of a job, all (that are dead), or gone (all of a target that is not in the ini any more)"
MOST_SHOWN = 20  # jobs of a target that wait, and that are dead; --json has all
MOST_REASON = 160  # characters in a table: a sentence or two. What a program wrote may have 2,000; --json has it

_PEERS = (patience.FORWARD, patience.COMMITMENT)
_HEADS = ("KIND", "TARGET", "IN INI", "WAITING", "DEAD", "OLDEST", "NEXT TRY", "LAST REASON")
_WAITING_HEADS = ("WAITING ID", "NEXT TRY", "TRIED", "TARGET", "FILE", "REASON")
_DEAD_HEADS = ("DEAD ID", "DIED", "TRIED", "TARGET", "FILE", "REASON")
_IN_INI = {True: "yes", False: "no", None: ""}


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is told of a target. `is_in_ini` is None where no line makes its jobs."""

    summary: "Summary"
    is_in_ini: bool | None
    waiting: "Sequence[Queued]"
    dead: "Sequence[Queued]"


def queue(options: argparse.Namespace) -> int:
    """Forwards and commitments; exit code 1 where one is dead, or none of those that were named."""
    return _command(options, "dcmstore queue", are_hooks=False)


def hooks(options: argparse.Namespace) -> int:
    """The same for all other jobs."""
    return _command(options, "dcmstore hooks", are_hooks=True)


def job_id(value: str) -> int:
    """Which job is meant, or ALL. Raises ValueError."""
    if value.lower() == "all":
        return ALL
    if not (value.isascii() and value.isdigit() and len(value) <= 18 and int(value)):  # 18: what SQLite takes
        raise ValueError
    return int(value)


def job_id_to_drop(value: str) -> int:
    """The same, or GONE."""
    return GONE if value.lower() == "gone" else job_id(value)


def _command(options: argparse.Namespace, name: str, *, are_hooks: bool) -> int:
    configuration = needs.read(options.config)
    index.require(name)
    from dcmstore.jobs.queue import Queue, QueueTrouble  # and with it SQLAlchemy, which other commands do without

    wiring.apply_permissions(configuration.settings)
    path = configuration.path.absolute().parent / jobs.FILE_NAME
    is_changed = options.retry is not None or options.drop is not None
    if not path.exists():
        return _told(0, "") if is_changed else _show([], is_json=options.json)
    try:
        with contextlib.closing(Queue(str(path), may_write=is_changed)) as opened:
            return _answer(opened, options, configuration.settings, are_hooks=are_hooks)
    except QueueTrouble as trouble:
        raise ConfigurationError(str(trouble)) from None


def _answer(opened: "Queue", options: argparse.Namespace, settings: Settings, *, are_hooks: bool) -> int:
    from dcmstore.jobs import overview

    found = [summary for summary in overview.summaries(opened) if (summary.target.kind not in _PEERS) is are_hooks]
    targets = [summary.target for summary in found]
    in_ini = _in_ini(settings)
    if options.retry is not None:
        return _told(overview.retry(opened, targets, options.retry or None, time.time()), "to be tried now")
    if options.drop == GONE:
        gone = [target for target in targets if _is_in(in_ini, target.kind, target.name) is False]
        return _told(overview.drop_all(opened, gone), "dropped", "of no job is the target missing in the ini")
    if options.drop == ALL:
        return _told(overview.drop_dead(opened, targets), "dropped", "no job was given up; one that waits has a number")
    if options.drop is not None:
        return _told(overview.drop(opened, targets, options.drop), "dropped")
    most = None if options.json else MOST_SHOWN
    shown = [
        _Shown(
            summary,
            _is_in(in_ini, target.kind, target.name),
            overview.waiting(opened, target, most),
            overview.dead(opened, target, most),
        )
        for summary, target in zip(found, targets, strict=True)
    ]
    return _show(shown, is_json=options.json)


def _in_ini(settings: Settings) -> set[tuple[str, str]]:
    """Kind and name of the targets that lines of the ini name."""
    actions = [lines.parse(line).action for line in (*settings.on_stored, *settings.on_study_complete)]
    forwards = {(patience.FORWARD, peers.target_of(line)) for line in settings.forward_to}
    return {(action.kind, action.target) for action in actions} | forwards


def _is_in(in_ini: set[tuple[str, str]], kind: str, name: str) -> bool | None:
    """None for a commitment, for which somebody has asked."""
    return None if kind == patience.COMMITMENT else (kind, name) in in_ini


def _told(count: int, what: str, if_none: str = "there is no such job") -> int:
    if not count:
        print(f"dcmstore: {if_none}", file=sys.stderr)
        return 1
    print(f"{count} {what}")
    return 0


def _show(shown: Sequence[_Shown], *, is_json: bool) -> int:
    now = time.time()
    if is_json:
        printing.write_json([_record(of_target, now) for of_target in shown], sys.stdout)
    elif shown:
        _print(_HEADS, [_row(of_target, now) for of_target in shown])
        waiting = [_waiting_row(job, of_target, now) for of_target in shown for job in of_target.waiting]
        dead = [_dead_row(job) for of_target in shown for job in of_target.dead]
        for heads, rows in ((_WAITING_HEADS, waiting), (_DEAD_HEADS, dead)):
            if rows:
                print()
                _print(heads, rows)
    else:
        print("dcmstore: nothing waits", file=sys.stderr)
    return int(any(of_target.summary.dead for of_target in shown))


# --- the tables ----------------------------------------------------------------------------------


def _print(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in printing.table(heads, list(rows), width):
        print(line)


def _row(shown: _Shown, now: float) -> tuple[str, ...]:
    summary = shown.summary
    target, counts = summary.target, (str(summary.waiting), str(summary.dead))
    next_try = _next_try(summary.next_try, summary, now)
    times = _local(summary.oldest), next_try
    return target.kind, target.name, _IN_INI[shown.is_in_ini], *counts, *times, _cut(summary.reason)


def _waiting_row(job: "Queued", shown: _Shown, now: float) -> tuple[str, ...]:
    next_try = _next_try(job.due_at, shown.summary, now) if job.is_next else "in its turn"
    return str(job.id), next_try, str(job.attempts), job.target.name, _file_of(job), _cut(job.reason)


def _dead_row(job: "Queued") -> tuple[str, ...]:
    return str(job.id), _local(job.due_at), str(job.attempts), job.target.name, _file_of(job), _cut(job.reason)


def _next_try(due_at: float | None, summary: "Summary", now: float) -> str:
    """When a job is tried, as far as one can know: a receiver that has enough to do, or does not run, is later."""
    if due_at is None:
        return ""
    pause = _pause(summary, now) or 0.0
    due_at = 0.0 if patience.is_due(due_at, now) else due_at
    return _local(max(due_at, pause)) if due_at or pause else "now"


def _pause(summary: "Summary", now: float) -> float | None:
    """Until when its target is left alone; None where that is over, or the clock was set back."""
    pause = summary.paused_until
    return pause if pause is not None and now < pause <= now + patience.PAUSES[-1] else None


def _cut(reason: str) -> str:
    return reason if len(reason) <= MOST_REASON else reason[: MOST_REASON - 1] + "…"


def _file_of(job: "Queued") -> str:
    return str(job.job.facts.get("path") or job.job.facts.get("folder") or job.job.key)


def _local(seconds: float | None) -> str:
    return "" if seconds is None else printing.local(moment(seconds))


# --- for a program -------------------------------------------------------------------------------


def _record(shown: _Shown, now: float) -> dict[str, Any]:
    summary = shown.summary
    return {
        "kind": summary.target.kind,
        "target": summary.target.name,
        "in_ini": shown.is_in_ini,
        "waiting": summary.waiting,
        "dead": summary.dead,
        "oldest": _moment(summary.oldest),
        "next_try": _moment(summary.next_try),
        "paused_until": _moment(_pause(summary, now)),
        "last_reason": summary.reason,
        "waiting_jobs": [
            {**_job_record(job), "due": _moment(job.due_at), "is_next": job.is_next} for job in shown.waiting
        ],
        "dead_jobs": [{**_job_record(job), "died": _moment(job.due_at)} for job in shown.dead],
    }


def _job_record(job: "Queued") -> dict[str, Any]:
    return {
        "id": job.id,
        "made": _moment(job.made_at),
        "attempts": job.attempts,
        "reason": job.reason,
        "facts": dict(job.job.facts),
    }


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else moment(seconds)
