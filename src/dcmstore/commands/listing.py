"""`dcmstore list`: filters -> what came, as a table for a person or as JSON or CSV for a program."""

import argparse
import contextlib
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dcmstore import index, needs, wiring
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError
from dcmstore.index import printing

if TYPE_CHECKING:
    from dcmstore.index.questions import Filters, Record

KINDS = ("studies", "series", "instances", "collisions")

# heads of the columns, and what stands in them
_Column = tuple[str, Callable[[dict[str, Any]], str]]


def command(options: argparse.Namespace) -> int:
    records, fields = _ask(needs.read(options.config), options)
    if options.json:
        printing.write_json(records, sys.stdout)
    elif options.csv:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(newline="")  # Windows would add a carriage return to the one of CSV
        printing.write_csv(records, fields, sys.stdout)
    elif records:
        _print_table(options.kind, records)
    else:
        print("dcmstore: nothing was found", file=sys.stderr)
    return 0 if records else 1


def _ask(configuration: Configuration, options: argparse.Namespace) -> tuple[list["Record"], tuple[str, ...]]:
    """The records, and the names of their fields."""
    index.require("dcmstore list")
    from dcmstore.index import collisions, questions  # and with it SQLAlchemy, which other commands do without

    if options.kind == "collisions":
        return _collisions(configuration, options), collisions.FIELDS
    kinds = {
        "studies": (questions.studies, questions.STUDY_FIELDS),
        "series": (questions.series, questions.SERIES_FIELDS),
        "instances": (questions.instances, questions.INSTANCE_FIELDS),
    }
    ask, fields = kinds[options.kind]
    with wiring.index_opened(configuration) as database:
        records = ask(database, _filters(options), options.limit)
    if options.kind == "studies":
        return list(_with_states(records, configuration)), (*fields, "state")
    return records, fields


def _with_states(records: list["Record"], configuration: Configuration) -> Iterator["Record"]:
    """How far each study is, where the queue knows it."""
    keys = [(str(record["study_instance_uid"]), str(record["patient_id"])) for record in records]
    states: dict[tuple[str, str], str] = {}
    path = wiring.queue_path_of(configuration)
    if keys and path.exists():
        from dcmstore.jobs.queue import Queue, QueueTrouble
        from dcmstore.studies.states import states as states_of

        try:
            with contextlib.closing(Queue(str(path), may_write=False)) as queue, queue.transaction() as connection:
                states = states_of(connection, keys, time.time(), configuration.settings.study_quiet)
        except QueueTrouble as trouble:
            raise ConfigurationError(str(trouble)) from None
    for record, key in zip(records, keys, strict=True):
        yield {**record, "state": states.get(key, "")}


def _collisions(configuration: Configuration, options: argparse.Namespace) -> list["Record"]:
    from dcmstore.index import collisions, questions

    if _filters(options) != questions.Filters():
        raise ConfigurationError("list collisions: takes no filter but --limit: a folder is mixed or it is not")
    with wiring.index_opened(configuration) as database:
        return collisions.collisions(database, by_study=configuration.settings.order_by_study, limit=options.limit)


def _filters(options: argparse.Namespace) -> "Filters":
    from dcmstore.index.questions import Filters

    return Filters(
        patient=options.patient,
        name=options.name,
        calling_ae_title=options.ae,
        host=options.host,
        modality=options.modality,
        study_dates=options.study_date,
        since=options.since,
        until=options.until,
    )


# --- the table -----------------------------------------------------------------------------------


def _print_table(kind: str, records: list["Record"]) -> None:
    columns = _COLUMNS[kind]
    rows = [[of(record) for _, of in columns] for record in records]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in printing.table([head for head, _ in columns], rows, width):
        print(line)


def _text(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: str(record[name])


def _values(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: ", ".join(record[name])


def _moment(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: printing.local(record[name])[:16]  # to the minute


def _study_date(record: dict[str, Any]) -> str:
    value = str(record["study_date"])
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdigit() else value


_COLUMNS: dict[str, tuple[_Column, ...]] = {
    "studies": (
        ("LAST CAME", _moment("last_stored")),
        ("PATIENT ID", _text("patient_id")),
        ("NAME", _text("patient_name")),
        ("STUDY DATE", _study_date),
        ("MODALITY", _values("modalities")),
        ("DESCRIPTION", _text("study_description")),
        ("SERIES", _text("series")),
        ("OBJECTS", _text("instances")),
        ("STATE", _text("state")),
        ("FROM", _values("calling_ae_titles")),
        ("HOST", _values("hosts")),
    ),
    "series": (
        ("LAST CAME", _moment("last_stored")),
        ("PATIENT ID", _text("patient_id")),
        ("STUDY DATE", _study_date),
        ("MODALITY", _text("modality")),
        ("NUMBER", _text("series_number")),
        ("DESCRIPTION", _text("series_description")),
        ("OBJECTS", _text("instances")),
        ("FROM", _values("calling_ae_titles")),
        ("HOST", _values("hosts")),
    ),
    "instances": (
        ("CAME", _moment("stored_at")),
        ("PATIENT ID", _text("patient_id")),
        ("MODALITY", _text("modality")),
        ("SERIES", _text("series_number")),
        ("NUMBER", _text("instance_number")),
        ("FROM", _text("calling_ae_title")),
        ("HOST", _text("host")),
        ("FILE", _text("path")),
    ),
    "collisions": (
        ("LAST CAME", _moment("last_stored")),
        ("STUDIES", _text("studies")),
        ("PATIENTS", _text("patients")),
        ("OBJECTS", _text("instances")),
        ("PATIENT IDS", _values("patient_ids")),
        ("FOLDER", lambda record: os.path.join(record["root"], *record["folder"].split("/"))),
    ),
}
