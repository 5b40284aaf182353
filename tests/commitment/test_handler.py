"""A job is done when its report was taken; what stands in the way is told, and it is tried again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dcmstore.commitment import reporting
from dcmstore.commitment.action import Reference
from dcmstore.commitment.asked import Asked
from dcmstore.commitment.checking import Studies, Verdict
from dcmstore.commitment.event import FailureReason, Report
from dcmstore.commitment.handler import CommitmentHandler
from dcmstore.commitment.line import Lines
from dcmstore.commitment.reporting import Reporter, Way
from dcmstore.dimse.command import CommandSet
from dcmstore.errors import DcmStoreError
from dcmstore.jobs.work import JobFailed
from tests.commitment.support import TRANSACTION, Called, ct

ASKED = Asked(TRANSACTION, ct("1.2.1", "1.2.2"), "CT1", "10.0.0.1", "2026-11-26T00:00:00.000+00:00", "token")
STUDIES: Studies = {("1.9.1", "PAT1"): {"1.2.1"}}
MISSING = ((ct("1.2.2")[0], FailureReason.NO_SUCH_OBJECT_INSTANCE),)


class Parts:
    """A handler whose checker and reporter say what the test wants."""

    def __init__(self, problem: DcmStoreError | None = None, refusal: JobFailed | None = None) -> None:
        self.problem, self.refusal = problem, refusal
        self.reports: list[Report] = []
        self.told: list[tuple[str, dict[str, object]]] = []
        self.asked: list[Studies] = []
        checker: Any = self
        reporter: Any = self
        self.handler = CommitmentHandler(checker, reporter, self.tell, self.asked.append)

    def check(self, references: Sequence[Reference]) -> Verdict:
        if self.problem is not None:
            raise self.problem
        return Verdict(ct("1.2.1"), MISSING, STUDIES)

    def report(self, asked: Asked, found: Report) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.reports.append(found)
        return "new"

    def tell(self, event: str, /, **facts: object) -> None:
        self.told.append((event, facts))


def test_what_was_found_is_reported_and_told() -> None:
    parts = Parts()
    parts.handler.do(ASKED.job())
    assert parts.reports == [Report(TRANSACTION, ct("1.2.1"), MISSING)]
    assert parts.asked == [STUDIES]
    facts = {"calling": "CT1", "transaction": TRANSACTION, "kept": 1, "failed": 1, "reasons": "0112 1"}
    assert parts.told == [("commitment.failed", {**facts, "association": "new"})]


def test_a_duplicate_fails_whole_and_is_not_checked() -> None:
    parts = Parts(problem=DcmStoreError("not asked"))
    parts.handler.do(replace(ASKED, is_duplicate=True).job())
    reason = FailureReason.DUPLICATE_TRANSACTION_UID
    assert parts.reports == [Report(TRANSACTION, (), tuple((one, reason) for one in ASKED.references))]
    assert parts.asked == []


@pytest.mark.parametrize("problem", [DcmStoreError("the index is locked"), JobFailed("the index is locked")])
def test_an_index_in_trouble_is_asked_again(problem: DcmStoreError) -> None:
    parts = Parts(problem=problem)
    with pytest.raises(JobFailed, match="the index is locked") as failure:
        parts.handler.do(ASKED.job())
    assert not failure.value.is_final
    assert parts.told == []


def test_a_job_of_another_form_is_dead() -> None:
    job = ASKED.job()
    facts = {name: value for name, value in job.facts.items() if name != "references"}
    with pytest.raises(JobFailed, match="this version does not know") as failure:
        Parts().handler.do(replace(job, facts=facts))
    assert failure.value.is_final


@pytest.mark.parametrize("status", [0x0110, 0x0112, 0xA700, None])
def test_a_report_that_is_refused_is_tried_again(status: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting.call, "report", lambda *_: CommandSet(0x8100, status=status))
    reporter = Reporter(lambda: "OURS1", lambda: Way.NEW, {"CT1": Called("CT1", "h", 1)}.get, Lines())
    with pytest.raises(JobFailed, match="N-EVENT-REPORT answered") as failure:
        reporter.report(ASKED, Report(TRANSACTION, ASKED.references))
    assert not failure.value.is_final


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0x0107])
def test_a_warning_is_no_refusal(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting.call, "report", lambda *_: CommandSet(0x8100, status=status))
    reporter = Reporter(lambda: "OURS1", lambda: Way.NEW, {"CT1": Called("CT1", "h", 1)}.get, Lines())
    assert reporter.report(ASKED, Report(TRANSACTION, ASKED.references)) == "new"
