"""studies -> tables of DcmStore.queue, in SQLAlchemy Core. They are not derived: what was told is known only here."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, UniqueConstraint

metadata = MetaData()

# `run`, whose clock the moments are of; `began`, when studies were first kept; `alive`, when they were last (both on
# the system's clock)
state = Table(
    "study_state", metadata, Column("name", String, primary_key=True), Column("value", String, nullable=False)
)

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", String, nullable=False),
    Column("patient_id", String, nullable=False),
    Column("openings", Integer, nullable=False),  # how often it has begun to come
    Column("last", Float, nullable=False),  # when the newest instance came, on the clock of this run
    Column("seen", Float, nullable=False),  # the same on the system's clock
    Column("instances", Integer, nullable=False),
    Column("announced", Integer, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("look_at", Float),  # when to look whether it is complete; nothing once it is, or while it is carried
    Column("reason", String, nullable=False),  # empty while it comes
    Column("completed", Float),  # on the system's clock
    Column("gathered", String, nullable=False),  # JSON
    UniqueConstraint("study_instance_uid", "patient_id"),
    Index("studies_to_look_at", "look_at"),
    Index("studies_by_completion", "completed"),
)

# What was told already. The digests are short so that a month of a hospital fits.
instances = Table(
    "study_instances",
    metadata,
    Column("study", Integer, primary_key=True, autoincrement=False),
    Column("instance", BigInteger, primary_key=True, autoincrement=False),  # digest of the SOP Instance UID
    Column("content", BigInteger, primary_key=True, autoincrement=False),  # digest of the data set
    Column("stored", BigInteger, nullable=False),  # when, in milliseconds of the system's clock
    Column("is_asked", Boolean, nullable=False, default=False),  # storage commitment was asked for it
    sqlite_with_rowid=False,
)

# Which open associations have carried which studies
carriers = Table(
    "study_carriers",
    metadata,
    Column("association", Integer, primary_key=True, autoincrement=False),
    Column("study", Integer, primary_key=True, autoincrement=False),
    Index("study_carriers_by_study", "study"),
    sqlite_with_rowid=False,
)
