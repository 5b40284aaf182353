"""arrivals and time -> events: what was stored, which study is presumed complete, which one comes again.

Everything but the open associations is in DcmStore.queue, and changes in the caller's transaction: what he makes of
the events, he puts there in the same one. So an event is told in full or will be told again, and none is lost.
"""

import math
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from dcmstore.index import entries
from dcmstore.index.indexer import Arrival
from dcmstore.studies import completeness, known, rows, tables
from dcmstore.studies.associations import Associations
from dcmstore.studies.completeness import Progress
from dcmstore.studies.events import Event, Happening, InstanceStored, StudyEvent
from dcmstore.studies.gathered import Gathered
from dcmstore.studies.known import News
from dcmstore.studies.rows import Held, Key

KEPT = 30 * 86400.0  # seconds that a complete study is known; what comes of it later is a study anew
AT_ONCE = 200  # studies looked at in one transaction
LOOK = 10.0  # seconds after which the file is asked in any case: other threads and what failed may have changed it
HOUSEKEEPING = 3600.0  # seconds between two times that old studies are forgotten


class Tracker:
    """Knows how far studies have come. For the index's thread; `associations` are told of by any.

    `quiet` is in seconds, and may be set anew. `root_key` says which root a folder is: `images` or `rdsr`. All moments
    are on the clock of `associations`, but for `wall`, which is the system's.
    """

    def __init__(
        self,
        quiet: float,
        root_key: Callable[[str], str],
        associations: Associations,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.quiet = quiet
        self._root_key = root_key
        self._wall = wall
        self._run = secrets.token_hex(8)
        self._open = associations
        self._carrying: set[int] = set()  # associations that may have rows
        self._look_at = -math.inf
        self._clean_at = -math.inf
        self._cleaned = math.inf  # on the system's clock

    def resume(self, connection: Connection) -> None:
        """Go on where another run left off. Call it each time the file was opened, before anything else."""
        tables.metadata.create_all(connection)
        if rows.state_of(connection, "run") == self._run:
            return
        wall = self._wall()
        rows.resume(connection, wall, self._open.clock(), self.quiet)
        rows.set_state(connection, "run", self._run)
        rows.lower_state(connection, "began", wall)
        rows.lower_state(connection, "alive", wall)
        self._look_at = -math.inf

    # --- what has come ---------------------------------------------------------------------------

    def entered(self, connection: Connection, arrivals: Iterable[Arrival]) -> list[Event]:
        """Events of what has come; those of one study are in order. What was told before gives none."""
        groups: dict[Key, list[Arrival]] = {}
        for arrival in arrivals:
            study = arrival.entry.study
            groups.setdefault((study.study_instance_uid, study.patient_id), []).append(arrival)
        held = {found.key: found for found in rows.find_all(connection, groups)}
        remembered: list[tuple[int, News]] = []
        events: list[Event] = []
        for key, group in groups.items():
            found = self._news(connection, held.get(key), group)
            if found:
                row, told = self._study_entered(connection, key, held.get(key), found)
                remembered += [(row, new) for new in found]
                events += told
        known.remember(connection, remembered)
        carried = {(new.arrival.association, row) for row, new in remembered if new.arrival.association in self._open}
        rows.carry(connection, carried)
        self._carrying |= {association for association, _ in carried}
        return events

    def _news(self, connection: Connection, held: Held | None, group: Sequence[Arrival]) -> list[News]:
        if held is not None:
            return known.news(connection, held.row, group)
        if not all(arrival.entry.is_new for arrival in group):
            horizon = self._horizon(connection)
            group = [arrival for arrival in group if arrival.entry.is_new or arrival.entry.stored_at >= horizon]
        return known.news(connection, None, group)

    def _study_entered(
        self, connection: Connection, key: Key, held: Held | None, found: Sequence[News]
    ) -> tuple[int, list[Event]]:
        """The row of the study, and the events."""
        events: list[Event] = []
        progress, gathered, openings = (held.progress, held.gathered, held.openings) if held else (None, None, 1)
        for new in found:
            entry, at, _ = new.arrival
            gathered = Gathered.of(entry) if gathered is None else gathered.with_entry(entry)
            progress, is_reopened = completeness.came(
                progress, at, is_another=new.is_another, announced=completeness.count_in(entry.announced)
            )
            if is_reopened:
                openings += 1
                events.append(self._told(Happening.REOPENED, key, openings, gathered, progress.instances))
            events.append(InstanceStored(entry))
        assert progress is not None and gathered is not None
        is_carried = progress.is_carried or any(new.arrival.association in self._open for new in found)
        progress = replace(progress, is_carried=is_carried)
        if held is not None and progress.asked:
            progress = replace(progress, asked=known.unask(connection, held.row, found))
        look_at = self._next_look(progress)
        self._look_at = min(self._look_at, math.inf if look_at is None else look_at)
        return rows.save(connection, key, openings, self._wall(), progress, look_at, gathered), events

    def _next_look(self, progress: Progress) -> float | None:
        outlook = completeness.expected(progress, self.quiet)
        return None if outlook is None else outlook.at

    def _horizon(self, connection: Connection) -> str:
        """What was stored before and is found by a walk, is no news: nobody asked then, or it was told and forgotten.

        The time at which somebody last looked counts, in place of now: the receiver may have been off for long. Where
        a damaged queue was before, it counts from when that one may not have heard of it any more.
        """
        began, alive = rows.state_of(connection, "began"), rows.state_of(connection, "alive")
        if not began:
            return ""
        return entries.moment(max(min(float(began), rows.lacks(connection)), float(alive) - KEPT))

    # --- time passes -----------------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Whether `due` has something to look at; costs nothing."""
        return now >= self._look_at or self._open.has_ended(now)

    def due(self, connection: Connection, now: float) -> list[Event]:
        """Events of studies that are complete by now; while there are many, `is_due` stays true.

        `now` is the moment, on the tracker's clock, up to which everything that came was entered. Don't call it while
        a walk is looking for what is missing, for that may be a part of any study.
        """
        self._release(connection, now)
        looked_at = rows.to_look_at(connection, now, AT_ONCE)
        events = [event for held in looked_at for event in self._look(connection, held, now)]
        self._clean(connection, now)
        following = rows.next_look(connection)
        self._look_at = now + LOOK if following is None else min(following, now + LOOK)
        return events

    def _look(self, connection: Connection, held: Held, now: float) -> list[Event]:
        reason = completeness.decide(held.progress, now, self.quiet)
        if reason is None:
            rows.look_later(connection, held.row, self._next_look(held.progress))
            return []
        rows.complete(connection, held.row, reason.value, self._wall())
        told = Happening.COMPLETE, held.key, held.openings, held.gathered, held.progress.instances, reason.value
        return [self._told(*told)]

    def _release(self, connection: Connection, now: float) -> None:
        """An association leaves `_carrying` when it has no rows any more: then that was committed."""
        self._open.forget_ended(now)
        over = {association for association in self._carrying if association not in self._open}
        self._carrying -= over - rows.release(connection, over, now)

    def _clean(self, connection: Connection, now: float) -> None:
        wall = self._wall()
        if now < self._clean_at and wall >= self._cleaned:  # it was not set back
            return
        self._cleaned = wall
        rows.set_state(connection, "alive", repr(wall))
        rows.lower_state(connection, "began", wall)
        if rows.forget(connection, wall - KEPT, AT_ONCE) < AT_ONCE:
            self._clean_at = now + HOUSEKEEPING

    def _told(
        self, happening: Happening, key: Key, openings: int, gathered: Gathered, instances: int, reason: str = ""
    ) -> StudyEvent:
        at = entries.moment(self._wall())
        facts = gathered.facts(happening.value, at, instances, reason, self._root_key)
        return StudyEvent(happening, f"{happening.value} {openings} {key[0]} {key[1]}", key[0], facts)
