"""To whom an object is to be sent."""

from pathlib import Path

import pytest

from dcmstore.forwarding import peers, planning
from tests.forwarding.support import facts_of

STORED = Path("/data/images/1.2.3.4.dcm")
KNOWN = peers.by_ae_title(("PACS@192.0.2.7:104", "QA@[2001:db8::7]:104", "NAMED@pacs.example:104"))


def targets(lines: list[str], **changed: str | int) -> list[str]:
    return [job.target for job in planning.jobs_for(peers.forwards_of(lines, KNOWN), facts_of(STORED, **changed))]


def test_each_line_whose_rule_counts_makes_a_job() -> None:
    lines = ["[modality=CT] PACS", "[modality=MR] QA", "X@h:1"]
    assert targets(lines) == ["PACS", "X@h:1"]
    assert targets(lines, modality="MR") == ["QA", "X@h:1"]


def test_an_object_goes_to_a_peer_once() -> None:
    assert len(targets(["[modality=CT] PACS", "[ae=CT1] PACS", "PACS@192.0.2.7:104"])) == 1


def test_the_same_file_is_the_same_job_also_with_another_content() -> None:
    forwards = peers.forwards_of(["PACS"], KNOWN)
    (first,) = planning.jobs_for(forwards, facts_of(STORED, sha256="aa"))
    (second,) = planning.jobs_for(forwards, facts_of(STORED, sha256="bb"))
    assert (first.kind, first.key) == ("forward", second.key)
    (beside,) = planning.jobs_for(forwards, facts_of(STORED.with_name("1.2.3.4 (2).dcm"), sop_instance_uid="1.2.3.4"))
    assert beside.key != first.key
    assert beside.order == first.order


def test_a_complete_study_is_not_sent_again() -> None:
    assert targets(["PACS"], event="study-complete") == []


@pytest.mark.parametrize(
    ("ae_title", "host", "expected"),
    [
        ("PACS", "192.0.2.7", []),
        ("PACS", "::ffff:192.0.2.7", []),  # how a socket of both kinds names it
        ("PACS", "192.0.2.8", ["PACS"]),
        ("CT1", "192.0.2.7", ["PACS"]),
        ("PACS", "", ["PACS"]),  # after a crash nobody knows the host
    ],
)
def test_what_came_from_a_peer_is_not_sent_back_to_it(ae_title: str, host: str, expected: list[str]) -> None:
    assert targets(["PACS"], calling_ae_title=ae_title, host=host) == expected


def test_addresses_are_compared_and_not_texts() -> None:
    assert targets(["QA"], calling_ae_title="QA", host="2001:0db8:0::0007") == []


def test_a_host_that_is_a_name_is_looked_up_only_when_it_is_called() -> None:
    assert targets(["NAMED"], calling_ae_title="NAMED", host="192.0.2.7") == ["NAMED"]
