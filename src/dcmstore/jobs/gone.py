"""what a job was for and is not there -> whether it may come back."""

from dcmstore.jobs.work import JobFailed
from dcmstore.storage import examine


def gone(root: str, what: str, before: str) -> JobFailed:
    """A file that is gone does not come back, unless all are: then its disk is away.

    `root` is its root folder as the system wants it, `what` as in "its file", `before` as in "it was sent".
    """
    if examine.is_away(root):
        reason = f"{what} is missing, and its root folder is empty or missing; is its disk away?"
        return JobFailed(reason, is_about_one=True)
    return JobFailed(f"{what} is gone: moved or deleted before {before}", is_final=True)
