"""A request survives the queue, and the same one again is the same job."""

from dataclasses import replace

from dcmstore.commitment.action import Reference
from dcmstore.commitment.asked import Asked
from tests.commitment.support import TRANSACTION, ct
from tests.support import CT, MR

REFERENCES = (*ct("1.2.1", "1.2.2"), Reference(MR, "1.3.1"), Reference(CT, "1.2.3"))
ASKED = Asked(TRANSACTION, REFERENCES, "CT1", "10.0.0.1", "2026-11-26T00:00:00.000+00:00", "token")


def test_a_request_comes_out_of_a_job_as_it_went_in() -> None:
    for asked in (ASKED, replace(ASKED, is_duplicate=True), replace(ASKED, line="")):
        assert Asked.of(asked.job()) == asked


def test_the_same_request_on_another_association_is_the_same_job() -> None:
    again = replace(ASKED, line="another", asked_at="2026-11-26T01:00:00.000+00:00")
    assert again.job().key == ASKED.job().key
    assert replace(ASKED, references=ct("1.2.1")).job().key != ASKED.job().key
    assert replace(ASKED, transaction_uid="1.2.9").job().key != ASKED.job().key
