"""jobs -> what is to be done next: it survives a restart, and of one order nothing overtakes."""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from dcmstore.jobs import rows, tables
from dcmstore.jobs.rows import Queued, Target
from dcmstore.jobs.tables import BEHIND, DEAD, LACKS, NEXT, jobs, state, targets
from dcmstore.jobs.work import Job
from dcmstore.sqlite import Contents, SqliteFile, SqliteTrouble


class QueueTrouble(SqliteTrouble):
    """The queue can't be read or written; the text says what to do. `is_damaged` where only a new one will do."""


_CONTENTS = Contents(
    tables.state,
    tables.SCHEMA,
    "FULL",  # nothing else knows what is to be done
    QueueTrouble,
    ("there is no queue yet", "a receiver that has hooks or forwards makes it"),
    "the receiver puts it aside and makes a new one, when it runs: what was received is safe, but hooks, forwards and "
    "commitments that waited in it are not done any more",
    "start the version of dcmstore that made it, for hooks, forwards and commitments wait in it; or do without them: "
    "stop the receiver, move the file away and start again",
)


class Queue(SqliteFile):
    """The queue, as SqliteFile has it. Everything here raises QueueTrouble. Times are those of time.time."""

    def __init__(
        self, path: str, *, like: str = "", may_write: bool = True, patience: float = 30.0, is_glance: bool = False
    ) -> None:
        super().__init__(path, _CONTENTS, may_write=may_write, like=like, patience=patience, is_glance=is_glance)

    # --- what is to be done ----------------------------------------------------------------------

    def add(self, added: Iterable[Job], now: float) -> None:
        """All of them or none. Of one that is there already, the facts are renewed; a dead one waits again."""
        with self.transaction() as connection:
            enter(connection, added, now)

    def targets(self) -> list[Target]:
        """Those for which a job waits."""
        waits = select(jobs.c.id).where(jobs.c.target == targets.c.id, jobs.c.state == NEXT).exists()
        question = select(targets.c.id, targets.c.kind, targets.c.name).where(waits).order_by(targets.c.id)
        return [Target(row.id, row.kind, row.name) for row in self.rows(question)]

    def next_of(self, target: Target, limit: int, busy: Collection[int] = ()) -> list[Queued]:
        """The jobs of a target that nothing has to be done before, without those in hand; the first due comes first.

        Some of them may not be due yet.
        """
        found = self.rows(rows.next_question(target.id).limit(limit + len(busy)))
        return [rows.queued(row, target) for row in found if row.id not in busy][:limit]

    def waiting(self, target: Target) -> int:
        """How many jobs of a target wait."""
        return self._count(target, NEXT, BEHIND)

    def dead(self, target: Target) -> int:
        """How many are dead."""
        return self._count(target, DEAD)

    def _count(self, target: Target, *states: str) -> int:
        question = select(func.count()).where(jobs.c.target == target.id, jobs.c.state.in_(states))
        return int(self.rows(question)[0][0])

    def pauses(self) -> dict[int, float]:
        """Until when which targets are left alone, by their rows."""
        return rows.pauses(self.rows(rows.PAUSES))

    def end_pauses(self) -> None:
        """Those of a run that is over: the next one knows nothing of them, and tries everything."""
        with self.transaction() as connection:
            connection.execute(rows.END_PAUSES)

    def lacks(self, since: float) -> None:
        """Of what was stored since then, a queue that was here before may have had no jobs; the earliest stays."""
        question = select(state.c.value).where(state.c.name == LACKS)
        with self.transaction() as connection:
            said = connection.execute(question).scalar_one_or_none()
            earliest = since if said is None else min(since, float(said))
            connection.execute(rows.set_state(LACKS, repr(earliest)))

    # --- what became of it -----------------------------------------------------------------------

    def done(self, job: Queued, now: float) -> None:
        """Remove a job; one whose facts have changed since it was taken in hand is due again."""
        with self.transaction() as connection:
            connection.execute(rows.tell(job, ""))
            connection.execute(rows.end_pause(job.target))
            is_gone = connection.execute(delete(jobs).where(rows.is_still(job))).rowcount
            _go_on(connection, job, now, is_out_of_the_way=bool(is_gone))

    def failed(self, job: Queued, reason: str, due_at: float, paused_until: float | None = None) -> None:
        """It is tried again then; `paused_until` where its target is left alone meanwhile."""
        values = {"attempts": job.attempts + 1, "due_at": due_at, "reason": rows.clean(reason)}
        with self.transaction() as connection:
            connection.execute(rows.tell(job, reason))
            connection.execute(update(jobs).where(jobs.c.id == job.id, jobs.c.state == NEXT).values(**values))
            if paused_until is not None:
                connection.execute(rows.pause(job.target, paused_until))

    def died(self, job: Queued, reason: str, now: float, paused_until: float | None = None) -> None:
        """It waits for a person and holds up no other; one whose facts have changed meanwhile is due again."""
        values = {"attempts": job.attempts + 1, "due_at": now, "reason": rows.clean(reason), "state": DEAD}
        with self.transaction() as connection:
            connection.execute(rows.tell(job, reason))
            is_dead = connection.execute(update(jobs).where(rows.is_still(job)).values(**values)).rowcount
            _go_on(connection, job, now, is_out_of_the_way=bool(is_dead))
            if paused_until is not None:
                connection.execute(rows.pause(job.target, paused_until))


def enter(connection: Connection, added: Iterable[Job], now: float) -> bool:
    """What `add` does, within a transaction; false where there was nothing to add."""
    made = [((job.kind, rows.clean(job.target)), rows.row_of(job, now)) for job in added]
    if not made:
        return False
    ids = _target_ids(connection, {target for target, _ in made})
    entered = [{**row, "target": ids[target]} for target, row in made]
    connection.execute(rows.ENTER, entered)
    orders = dict.fromkeys((row["target"], row["order"]) for row in entered)
    connection.execute(rows.ADVANCE, [rows.order_of(*order) for order in orders])
    return True


def _go_on(connection: Connection, job: Queued, now: float, *, is_out_of_the_way: bool) -> None:
    """With the job behind, or with this one anew."""
    if is_out_of_the_way:
        connection.execute(rows.ADVANCE, rows.order_of(job.target.id, job.job.order))
    else:
        connection.execute(rows.again(job, now))


def _target_ids(connection: Connection, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The row of each kind and name, made where there is none."""
    made = [{"kind": kind, "name": name} for kind, name in sorted(wanted)]
    connection.execute(insert(targets).on_conflict_do_nothing(), made)
    return {(row.kind, row.name): row.id for row in connection.execute(select(targets))}
