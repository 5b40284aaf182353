"""entries -> tables: the schema of the index, in SQLAlchemy Core so that a server's database can follow."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, UniqueConstraint

SCHEMA = "1"  # raised when a table changes; an older index is built anew, for it is derived

metadata = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, String, nullable=False, default="")


# `schema`; `made`, by which one index is told from the next; `token` of the last clean end
state = Table("state", metadata, Column("name", String, primary_key=True), Column("value", String, nullable=False))

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("study_instance_uid"),
    _text("patient_id"),
    _text("patient_name"),
    _text("name_key"),  # the name as it is searched: without accents and upper case
    _text("birth_date"),
    _text("study_id"),
    _text("study_date"),
    _text("accession_number"),
    _text("study_description"),
    UniqueConstraint("study_instance_uid", "patient_id"),
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", ForeignKey("studies.id"), nullable=False),
    _text("series_instance_uid"),
    _text("modality"),
    _text("series_number"),
    _text("series_description"),
    UniqueConstraint("study", "series_instance_uid"),
)

# A file is a row. One SOP Instance UID may stand at several paths: `duplicates= both` numbers them.
instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series", ForeignKey("series.id"), nullable=False),
    _text("sop_instance_uid"),
    _text("sop_class_uid"),
    _text("instance_number"),
    _text("root"),  # a root folder, absolute, as the ini named it
    _text("path"),  # below it, with slashes
    Column("size", BigInteger, nullable=False),  # of the file, in bytes
    Column("modified", BigInteger, nullable=False),  # of the file, in nanoseconds
    _text("sha256"),  # of the data set, in hexadecimal
    _text("transfer_syntax"),
    _text("calling_ae_title"),
    _text("host"),
    _text("stored_at"),  # UTC, ISO 8601 with milliseconds
    UniqueConstraint("root", "path"),
    Index("instances_by_uid", "sop_instance_uid"),
    Index("instances_by_series", "series"),
    Index("instances_by_time", "stored_at"),
)
