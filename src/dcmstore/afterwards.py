"""entries and time -> jobs: what is to be done about what was stored. For the index's thread, and before the index.

Jobs are in their queue for good before the index has what they are about. Where the program is killed in between, the
walk of the next start finds the same again, and the same jobs come of it: each is done at least once.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from dcmstore import hooks
from dcmstore.index.indexer import Arrival
from dcmstore.jobs.opening import Intake
from dcmstore.jobs.work import Facts, Job
from dcmstore.studies.associations import Associations
from dcmstore.studies.events import Event, Happening, InstanceStored, StudyEvent

if TYPE_CHECKING:
    from dcmstore.index.entries import Entry
    from dcmstore.studies.tracker import Tracker

_TOLD = {Happening.COMPLETE: "study.complete", Happening.REOPENED: "study.reopened"}

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
        report: Callable[..., None],
    ) -> None:
        """`path` is that of the queue, which belongs to who has the folder `like` when it is made.

        `wake` tells that there are jobs; `report` gets `study.complete` and `study.reopened`.
        """
        self.began, self.ended = associations.began, associations.ended
        self._new_tracker = new_tracker
        self._quiet = quiet
        self._planners = planners
        self._root_key = root_key
        self._report = report
        self._intake = Intake(path, like, wake, lambda connection: self._tracker.resume(connection))

    @functools.cached_property
    def _tracker(self) -> Tracker:
        """Made on the thread that needs it, for it brings SQLAlchemy."""
        return self._new_tracker()

    def entered(self, arrivals: Sequence[Arrival]) -> None:
        """What is about to be entered into the index. Raises QueueTrouble."""
        if arrivals:
            self._intake.plan(lambda connection: self._jobs(self._tracker.entered(connection, arrivals)))

    def is_due(self, now: float) -> bool:
        self._tracker.quiet = self._quiet()
        return self._tracker.is_due(now)

    def look(self, now: float) -> None:
        """Time has passed: `now` as `Tracker.due` has it. Raises QueueTrouble."""
        self._intake.plan(lambda connection: self._jobs(self._tracker.due(connection, now)))

    def close(self) -> None:
        self._intake.close()

    def _jobs(self, events: Iterable[Event]) -> Iterator[Job]:
        planners = self._planners()
        for event in events:
            if isinstance(event, StudyEvent):
                facts = event.facts
                told = {name: facts[name] for name in ("study_instance_uid", "instances", "reason") if facts[name]}
                self._report(_TOLD[event.happening], **told)
            facts = facts_of(event.entry, self._root_key) if isinstance(event, InstanceStored) else event.facts
            for planner in planners:
                yield from planner(facts)


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
