"""entries and time -> jobs: what is to be done about what was stored. For the index's thread, and before the index.

Jobs are in their queue for good before the index has what they are about. Where the program is killed in between, the
walk of the next start finds the same again, and the same jobs come of it: each is done at least once.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from dcmstore import hooks
from dcmstore.errors import DcmStoreError
from dcmstore.index.indexer import Arrival, Held
from dcmstore.jobs.opening import Intake, is_damage
from dcmstore.jobs.work import Facts, Job
from dcmstore.studies.associations import Associations
from dcmstore.studies.events import Event, Happening, InstanceStored, StudyEvent

if TYPE_CHECKING:
    from dcmstore.index.entries import Entry
    from dcmstore.jobs.opening import Transaction
    from dcmstore.studies.tracker import Tracker

DAMAGED_TRIES = 2  # until a damaged queue that nobody has put aside is told of: by then all of it was looked at

_TOLD = {Happening.COMPLETE: "study.complete", Happening.REOPENED: "study.reopened"}
_TOLD_FACTS = ("study_instance_uid", "instances", "reason")

# What is to be done about a fact; called for each object and for each event of a study.
Planner: TypeAlias = Callable[[Facts], Iterable[Job]]


class Afterwards:
    """Makes jobs of what came, and of studies that are complete. What is raised is tried again by who called.

    `root_key` says which root a folder is: `images` or `rdsr`. `quiet`, in seconds, and the planners may change at any
    time.
    """

    def __init__(
        self,
        path: str,
        like: str,
        associations: Associations,
        new_tracker: Callable[[], Tracker],
        quiet: Callable[[], float],
        planners: Callable[[], Sequence[Planner]],
        root_key: Callable[[str], str],
        wake: Callable[[], None],
        doubt: Callable[[], None],
        is_doubted: Callable[[], bool],
        report: Callable[..., None],
    ) -> None:
        """`path` is that of the queue, which belongs to who has the folder `like` when it is made.

        `wake` tells that there are jobs, and `doubt` that the queue seems to be damaged; while it `is_doubted`, it is
        not kept open. `report` gets `study.complete`, `study.reopened`, `job.not_made`, `queue.failed` and
        `queue.recovered`.
        """
        self.began, self.ended = associations.began, associations.ended
        self._new_tracker = new_tracker
        self._quiet = quiet
        self._planners = planners
        self._root_key = root_key
        self._is_doubted = is_doubted
        self._report = report
        self._path = path
        self._failures = 0  # in a row
        self._told = ""
        self._intake = Intake(path, like, wake, lambda connection: self._tracker.resume(connection), doubt=doubt)

    @functools.cached_property
    def _tracker(self) -> Tracker:
        """Made on the thread that needs it, for it brings SQLAlchemy."""
        return self._new_tracker()

    def entered(self, arrivals: Sequence[Arrival]) -> None:
        """What is about to be entered into the index. Raises Held."""
        if arrivals:
            self._follow(lambda connection: self._tracker.entered(connection, arrivals))

    def is_due(self, now: float) -> bool:
        if self._is_doubted():
            self._intake.close()  # so that another may be put in its place
        self._tracker.quiet = self._quiet()
        return self._tracker.is_due(now)

    def look(self, now: float) -> None:
        """Time has passed: `now` as `Tracker.due` has it. Raises Held."""
        self._follow(lambda connection: self._tracker.due(connection, now))

    def close(self) -> None:
        self._intake.close()

    def _follow(self, events_of: Callable[[Transaction], Sequence[Event]]) -> None:
        """Make jobs of events, and tell of them once both are written for good."""
        events: list[Event] = []
        faults: Counter[tuple[str, str]] = Counter()

        def plan(connection: Transaction) -> Iterator[Job]:
            events.extend(events_of(connection))
            return self._jobs(events, faults)

        try:
            self._intake.plan(plan)
        except DcmStoreError as trouble:
            self._failed(trouble)
            raise Held(str(trouble)) from trouble
        self._worked()
        for event in events:
            if isinstance(event, StudyEvent):
                told = {name: event.facts[name] for name in _TOLD_FACTS if event.facts[name]}
                self._report(_TOLD[event.happening], **told)
        for (study, error), number in faults.items():
            self._report("job.not_made", study_instance_uid=study, events=number, error=error)

    def _jobs(self, events: Iterable[Event], faults: Counter[tuple[str, str]]) -> Iterator[Job]:
        """Those that could be made. A fault of ours is there at each try, and may not keep objects from the index."""
        planners: Sequence[Planner] = ()
        for event in events:
            study = event.entry.study.study_instance_uid if isinstance(event, InstanceStored) else event.order
            with _counted(faults, study):
                planners = planners or self._planners()
                facts = facts_of(event.entry, self._root_key) if isinstance(event, InstanceStored) else event.facts
                for planner in planners:
                    with _counted(faults, study):
                        yield from list(planner(facts))  # all of them or none

    # --- the queue makes trouble -----------------------------------------------------------------

    def _failed(self, trouble: DcmStoreError) -> None:
        """Tell it once for each reason. A damaged queue is put aside by who does the jobs, who tells that."""
        self._failures += 1
        if is_damage(trouble) and self._failures <= DAMAGED_TRIES:
            return
        if str(trouble) != self._told:
            self._told = str(trouble)
            self._report("queue.failed", reason=self._told, stores="not affected", index="waits for it")

    def _worked(self) -> None:
        if self._told:
            self._report("queue.recovered", path=self._path, index="goes on")
        self._failures, self._told = 0, ""


@contextlib.contextmanager
def _counted(faults: Counter[tuple[str, str]], study: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:  # which passes, so it is tried again
        raise
    except Exception as error:  # noqa: BLE001  a fence: what is stored is entered, whatever is done about it
        faults[study, f"{type(error).__name__}: {error}"] += 1


def facts_of(entry: Entry, root_key: Callable[[str], str]) -> dict[str, str | int]:
    """What a job about an object knows of it; docs/hooks.md names them."""
    path = os.path.join(entry.root, *entry.path.split("/"))
    return {
        "event": hooks.STORED,
        "path": path,
        "root": entry.root,
        "root_key": root_key(entry.root),
        "folder": os.path.dirname(path),
        "sop_class_uid": entry.sop_class_uid,
        "sop_instance_uid": entry.sop_instance_uid,
        "transfer_syntax": entry.transfer_syntax,
        "instance_number": entry.instance_number,
        "calling_ae_title": entry.calling_ae_title,
        "host": entry.host,
        "stored_at": entry.stored_at,
        "size": entry.size,
        "sha256": entry.sha256,
        **entry.study._asdict(),
        **entry.series._asdict(),
    }
