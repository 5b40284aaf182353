"""jobs -> tables: the schema of the queue, which can't be built anew from anything."""

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, UniqueConstraint

SCHEMA = "1"  # raised when a table changes; then the queue of the version before has to be carried over

# The states of a job. Of those that wait with one order, exactly one is next; dead ones wait for a person.
NEXT, BEHIND, DEAD = "next", "behind", "dead"

metadata = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, String, nullable=False, default="")


# `schema`; `made`, by which one queue is told from the next; `lacks`, a moment: a damaged queue was here before, and of
# what was stored since then it may have had no jobs; `pause 7`, until when target 7 is left alone
LACKS, PAUSE = "lacks", "pause"
state = Table("state", metadata, Column("name", String, primary_key=True), Column("value", String, nullable=False))

# What jobs work for; a row stays when its last job is done
targets = Table(
    "targets",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("kind"),
    _text("name"),
    _text("reason"),  # why the last job failed; blank when one has been done since
    UniqueConstraint("kind", "name"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("target", ForeignKey("targets.id"), nullable=False),
    _text("key"),
    _text("order"),
    _text("facts"),  # JSON
    Column("made_at", Float, nullable=False),  # seconds of time.time, as all times here
    Column("due_at", Float, nullable=False),  # of a dead one, when it died
    Column("attempts", Integer, nullable=False, default=0),
    _text("state"),
    _text("reason"),  # why it failed last
    UniqueConstraint("target", "key"),
    Index("jobs_by_due", "target", "state", "due_at", "id", "made_at"),
    Index("jobs_by_order", "target", "order", "state", "id"),
    sqlite_autoincrement=True,  # what a person has read of a number never becomes true of another job
)
