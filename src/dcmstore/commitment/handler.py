"""a job -> what it asks for is checked and reported; one that fails is tried again, for days (see jobs.work)."""

from collections import Counter
from collections.abc import Callable

from dcmstore.commitment.asked import Asked
from dcmstore.commitment.checking import Checker, Studies, Verdict
from dcmstore.commitment.event import FailureReason, Report
from dcmstore.commitment.reporting import Reporter
from dcmstore.errors import DcmStoreError
from dcmstore.jobs.work import Job, JobFailed, Tell


class CommitmentHandler:
    """Does the jobs of kind `commitment`.

    `on_asked` is told of the studies, before the report and maybe more than once; it may raise DcmStoreError, and then
    the job is tried again. Tells of `commitment.reported`, and of `commitment.failed` where not all is kept.
    """

    def __init__(
        self,
        checker: Checker,
        reporter: Reporter,
        tell: Tell,
        on_asked: Callable[[Studies], None] | None = None,
    ) -> None:
        self._checker = checker
        self._reporter = reporter
        self._tell = tell
        self._on_asked = on_asked

    def do(self, job: Job) -> None:
        """Raises JobFailed."""
        try:
            asked = Asked.of(job)
        except (KeyError, ValueError):
            raise JobFailed("the queue holds it in a form that this version does not know", is_final=True) from None
        try:
            verdict = self._verdict(asked)
        except JobFailed:
            raise
        except DcmStoreError as error:  # the index; it will be well again
            raise JobFailed(str(error)) from None
        way = self._reporter.report(asked, Report(asked.transaction_uid, verdict.kept, verdict.failed))
        self._tell_of(asked, verdict, way)

    def _verdict(self, asked: Asked) -> Verdict:
        if asked.is_duplicate:
            reason = FailureReason.DUPLICATE_TRANSACTION_UID
            return Verdict((), tuple((reference, reason) for reference in asked.references), {})
        verdict = self._checker.check(asked.references)
        if self._on_asked is not None and verdict.studies:
            self._on_asked(verdict.studies)
        return verdict

    def _tell_of(self, asked: Asked, verdict: Verdict, way: str) -> None:
        reasons = Counter(reason for _, reason in verdict.failed)
        self._tell(
            "commitment.failed" if verdict.failed else "commitment.reported",
            calling=asked.calling_ae_title,
            transaction=asked.transaction_uid,
            kept=len(verdict.kept),
            failed=len(verdict.failed) or None,
            reasons=", ".join(f"{reason:04X} {number}" for reason, number in sorted(reasons.items())) or None,
            association=way,
        )
