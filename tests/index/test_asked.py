"""What a person asks the index, and how the answer looks."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from dcmstore.index import entries, printing, questions, times
from dcmstore.index.database import Database
from dcmstore.index.entries import Came, Root
from dcmstore.index.questions import Filters
from tests.index.support import image, write

NOON = datetime(2026, 11, 25, 12, 0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Two studies of two patients: one in two series from two senders, the other from one."""
    database = Database(str(tmp_path / "DcmStore.index"))
    root = Root(str(tmp_path), str(tmp_path))
    for number, (patient, name, series, modality, calling, host, seconds) in enumerate(
        (
            (b"P1", "Müller^Jörg".encode(), "1.1", b"CT", "CT1", "192.0.2.1", 1000.0),
            (b"P1", "Müller^Jörg".encode(), "1.1", b"CT", "CT2", "192.0.2.2", 2000.0),
            (b"P1", "Müller^Jörg".encode(), "1.2", b"SR", "CT2", "192.0.2.2", 3000.0),
            (b"P_2", b"Roe^100%", "1.3", b"MR", "MR1", "192.0.2.3", 500.0),
        )
    ):
        uid, date_of = f"1.2.{number}", b"20261120" if patient == b"P_2" else b"20261125"
        encoded = image(
            uid,
            patient_id=patient,
            name=name,
            study=f"1.9.{patient.decode()[-1]}",
            series=series,
            modality=modality,
            study_date=date_of,
            character_set=b"ISO_IR 192",
        )
        write(root, f"{uid}.dcm", encoded, uid=uid)
        came = Came(calling, host, seconds, is_new=True)
        database.write([entries.read(root, f"{uid}.dcm", came)])
    yield database
    database.close()


def patients(database: Database, **filters: object) -> list[str]:
    return [record["patient_id"] for record in questions.studies(database, Filters(**filters))]  # type: ignore[arg-type]


# --- questions -----------------------------------------------------------------------------------


def test_a_study_is_told_with_its_counts_and_senders(database: Database) -> None:
    record = list(questions.studies(database, Filters()))[-1]
    assert (record["patient_id"], record["patient_name"]) == ("P1", "Müller^Jörg")
    assert (record["modalities"], record["series"], record["instances"]) == (["CT", "SR"], 2, 3)
    assert (record["calling_ae_titles"], record["hosts"]) == (["CT1", "CT2"], ["192.0.2.1", "192.0.2.2"])
    assert record["first_stored"] < record["last_stored"] == "1970-01-01T00:50:00.000Z"
    assert tuple(record) == questions.STUDY_FIELDS


def test_series_and_instances_have_records_of_their_own(database: Database) -> None:
    found = list(questions.series(database, Filters(patient="P1")))
    assert [(one["series_instance_uid"], one["instances"]) for one in found] == [("1.1", 2), ("1.2", 1)]
    assert tuple(found[0]) == questions.SERIES_FIELDS
    found = list(questions.instances(database, Filters(patient="P1")))
    assert [one["sop_instance_uid"] for one in found] == ["1.2.0", "1.2.1", "1.2.2"]
    assert tuple(found[0]) == questions.INSTANCE_FIELDS


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["P_2", "P1"]),  # the newest last
        ({"patient": "P1"}, ["P1"]),
        ({"patient": "P"}, []),
        ({"patient": "p1"}, ["P1"]),
        ({"calling_ae_title": "ct2"}, ["P1"]),
        ({"patient": "P*"}, ["P_2", "P1"]),
        ({"patient": "P_*"}, ["P_2"]),
        ({"name": "muller"}, ["P1"]),
        ({"name": "JÖRG"}, ["P1"]),
        ({"name": "100%"}, ["P_2"]),
        ({"name": "%"}, ["P_2"]),
        ({"calling_ae_title": "CT2"}, ["P1"]),
        ({"calling_ae_title": "MR*"}, ["P_2"]),
        ({"host": "192.0.2.3"}, ["P_2"]),
        ({"modality": "sr"}, ["P1"]),
        ({"study_dates": ("20261101", "20261121")}, ["P_2"]),
        ({"since": datetime.fromtimestamp(1000, UTC)}, ["P1"]),
        ({"until": datetime.fromtimestamp(1000, UTC)}, ["P_2"]),
    ],
)
def test_filters(database: Database, filters: dict[str, object], expected: list[str]) -> None:
    assert patients(database, **filters) == expected


def test_what_a_filter_leaves_out_is_not_counted(database: Database) -> None:
    (record,) = questions.studies(database, Filters(calling_ae_title="CT1"))
    assert (record["series"], record["instances"], record["calling_ae_titles"]) == (1, 1, ["CT1"])


@pytest.mark.parametrize("ask", [questions.studies, questions.series, questions.instances])
def test_a_limit_keeps_the_newest(database: Database, ask: object) -> None:
    (record,) = ask(database, Filters(), 1)  # type: ignore[operator]
    assert record["patient_id"] == "P1"


@pytest.mark.parametrize("ask", [questions.studies, questions.series, questions.instances])
@pytest.mark.parametrize("limit", [None, 1, 2, 3, 4, 5])
def test_the_answer_is_the_same_whatever_is_asked_for_together(
    database: Database, ask: Callable[..., Iterator[object]], limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(ask(database, Filters()))
    monkeypatch.setattr(questions, "PAGE", 1)
    assert list(ask(database, Filters(), limit)) == whole[-(limit or 9) :]


def test_instances_that_came_at_the_same_time_are_each_told_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE instances SET stored_at = (SELECT min(stored_at) FROM instances)")
    monkeypatch.setattr(questions, "PAGE", 1)
    found = [record["sop_instance_uid"] for record in questions.instances(database, Filters(), 3)]
    assert found == ["1.2.1", "1.2.2", "1.2.3"]


# --- times ---------------------------------------------------------------------------------------


def here(*parts: int) -> datetime:
    return datetime(*parts).astimezone(UTC)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "since", "until"),
    [
        ("today", here(2026, 11, 25), here(2026, 11, 26)),
        ("Yesterday", here(2026, 11, 24), here(2026, 11, 25)),
        ("24h", here(2026, 11, 24, 12), here(2026, 11, 24, 12)),
        ("7d", here(2026, 11, 18, 12), here(2026, 11, 18, 12)),
        ("2026-11-01", here(2026, 11, 1), here(2026, 11, 2)),
        ("20261101", here(2026, 11, 1), here(2026, 11, 2)),
        ("2026-11-01T14:30", here(2026, 11, 1, 14, 30), here(2026, 11, 1, 14, 30)),
        (
            "2026-11-01 14:30+00:00",
            datetime(2026, 11, 1, 14, 30, tzinfo=UTC),
            datetime(2026, 11, 1, 14, 30, tzinfo=UTC),
        ),
    ],
)
def test_moments(value: str, since: datetime, until: datetime) -> None:
    assert (times.since(value, NOON), times.until(value, NOON)) == (since, until)


@pytest.mark.parametrize("value", ["", "noon", "24", "2026-13-01", "2026-1-1", "9999-12-31", "0001-01-01T00:00", "٣h"])
def test_what_is_no_moment_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        times.until(value, NOON)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("today", ("20261125", "20261125")),
        ("2026-11-01", ("20261101", "20261101")),
        ("20261101-20261130", ("20261101", "20261130")),
        ("20261101-", ("20261101", "99991231")),
        ("-20261130", ("", "20261130")),
    ],
)
def test_study_dates(value: str, expected: tuple[str, str]) -> None:
    assert times.study_dates(value, date(2026, 11, 25)) == expected


@pytest.mark.parametrize("value", ["-", "", "202611", "20261301", "24h", "20261130-20261101"])
def test_what_is_no_study_date_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        times.study_dates(value)


# --- the answer ----------------------------------------------------------------------------------

EVIL = "Doe\x1b[2J\x9b1m\u202e\x7f\r\n\ud800"


def test_nothing_that_a_peer_wrote_can_steer_a_terminal() -> None:
    assert printing.safe(EVIL) == "Doe?[2J?1m?????"
    assert printing.safe("Müller\u00a0山田") == "Müller 山田"
    lines = "".join(printing.table(["NAME"], [[EVIL]]))
    files = io.StringIO(), io.StringIO()
    printing.write_json([{"name": EVIL}], files[0])
    printing.write_csv([{"name": EVIL}], ["name"], files[1])
    for text in (lines, files[0].getvalue().replace("\n", ""), files[1].getvalue().replace("\r\n", "")):
        assert text.isprintable()


def test_a_table_is_aligned_whatever_the_script() -> None:
    lines = list(printing.table(["NAME", "N"], [["山田", "1"], ["Doe", "20"], ["e\u0301", "3"]]))
    assert lines == ["NAME  N", "山田  1", "Doe   20", "e\u0301     3"]


def test_a_table_fits_its_terminal_by_cutting_the_widest_column() -> None:
    lines = list(printing.table(["A", "B"], [["x" * 30, "short"]], 20))
    assert lines == ["A              B", "x" * 12 + "…  short"]
    assert list(printing.table(["A"], [["山" * 10]], 8))[1] == "山山山…"


def test_json_is_one_array_with_every_value() -> None:
    file = io.StringIO()
    records = [{"patient_id": EVIL, "modalities": ["CT", "SR"]}, {"patient_id": "2", "modalities": []}]
    printing.write_json(records, file)
    assert json.loads(file.getvalue()) == records


def test_no_record_is_an_empty_array_and_a_header_alone() -> None:
    files = io.StringIO(), io.StringIO()
    printing.write_json([], files[0])
    printing.write_csv([], ["a", "b"], files[1])
    assert (json.loads(files[0].getvalue()), files[1].getvalue()) == ([], "a,b\r\n")


def test_csv_quotes_what_has_to_be() -> None:
    file = io.StringIO()
    printing.write_csv([{"name": 'Doe, "Jane"', "modalities": ["CT", "SR"]}], ["name", "modalities"], file)
    assert file.getvalue() == 'name,modalities\r\n"Doe, ""Jane""",CT\\SR\r\n'
    assert list(csv.reader(io.StringIO(file.getvalue())))[1] == ['Doe, "Jane"', "CT\\SR"]


def test_a_long_table_has_one_head_and_is_aligned_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "TOGETHER", 2)
    lines = list(printing.table(["A", "B"], iter([["1", "x"], ["22", "x"], ["3", "x"]])))
    assert lines == ["A  B", "1  x", "22  x", "3   x"]
