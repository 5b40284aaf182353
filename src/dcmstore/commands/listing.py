"""`dcmstore list`: filters -> what came, as a table for a person or as JSON or CSV for a program."""

import argparse
import contextlib
import io
import itertools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dcmstore import index, needs, wiring
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError
from dcmstore.index import printing

if TYPE_CHECKING:
    from dcmstore.index.database import Database
    from dcmstore.index.questions import Filters, Record

MAX_VALUES = 10  # values of one cell that are printed: a folder may hold those of a whole hospital, as --json says

KINDS = ("studies", "series", "instances", "collisions")

# heads of the columns, and what stands in them
_Column = tuple[str, Callable[[dict[str, Any]], str]]


def command(options: argparse.Namespace) -> int:
    configuration = needs.read(options.config)
    index.require("dcmstore list")
    needs.note_idle_index(configuration)
    with wiring.index_opened(configuration) as database:
        records, fields = _ask(database, configuration, options)
        first = next(records, None)
        _show([] if first is None else itertools.chain([first], records), fields, options)
    return 1 if first is None else 0


def _ask(
    database: "Database", configuration: Configuration, options: argparse.Namespace
) -> tuple[Iterator["Record"], tuple[str, ...]]:
    """The records, for which the database has to stay open, and the names of their fields."""
    from dcmstore.index import collisions, questions  # and with it SQLAlchemy, which other commands do without

    if options.kind == "collisions":
        if _filters(options) != questions.Filters():
            raise ConfigurationError("list collisions: takes no filter but --limit: a folder is mixed or it is not")
        by_study = configuration.settings.order_by_study
        return iter(collisions.collisions(database, by_study=by_study, limit=options.limit)), collisions.FIELDS
    kinds = {
        "studies": (questions.studies, questions.STUDY_FIELDS),
        "series": (questions.series, questions.SERIES_FIELDS),
        "instances": (questions.instances, questions.INSTANCE_FIELDS),
    }
    ask, fields = kinds[options.kind]
    records = ask(database, _filters(options), options.limit)
    if options.kind == "studies":
        return _with_states(records, configuration), (*fields, "state")
    return records, fields


def _with_states(records: Iterator["Record"], configuration: Configuration) -> Iterator["Record"]:
    """How far each study is, where the queue knows it."""
    path = wiring.queue_path_of(configuration)
    if not path.exists():
        yield from ({**record, "state": ""} for record in records)
        return
    from dcmstore.index.questions import PAGE
    from dcmstore.jobs.queue import Queue, QueueTrouble
    from dcmstore.studies.states import states as states_of

    try:
        with contextlib.closing(Queue(str(path), may_write=False)) as queue:
            while some := list(itertools.islice(records, PAGE)):
                keys = [(str(record["study_instance_uid"]), str(record["patient_id"])) for record in some]
                with queue.transaction() as connection:
                    states = states_of(connection, keys, time.time(), configuration.settings.study_quiet)
                for record, key in zip(some, keys, strict=True):
                    yield {**record, "state": states.get(key, "")}
    except QueueTrouble as trouble:
        raise ConfigurationError(str(trouble)) from None


def _show(records: Iterable["Record"], fields: tuple[str, ...], options: argparse.Namespace) -> None:
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


def _filters(options: argparse.Namespace) -> "Filters":
    from dcmstore.index.questions import Filters

    # What a terminal with another encoding sends is no text, and no database takes it; it finds nothing.
    texts = (options.patient, options.name, options.ae, options.host, options.modality)
    patient, name, calling_ae_title, host, modality = (text.encode("utf-8", "replace").decode() for text in texts)
    return Filters(
        patient=patient,
        name=name,
        calling_ae_title=calling_ae_title,
        host=host,
        modality=modality,
        study_dates=options.study_date,
        since=options.since,
        until=options.until,
    )


# --- the table -----------------------------------------------------------------------------------


def _print_table(kind: str, records: Iterable["Record"]) -> None:
    columns = _COLUMNS[kind]
    rows = ([of(record) for _, of in columns] for record in records)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in printing.table([head for head, _ in columns], rows, width):
        print(line)


def _text(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: str(record[name])


def _values(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: ", ".join([*record[name][:MAX_VALUES], *(["…"] if len(record[name]) > MAX_VALUES else [])])


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
