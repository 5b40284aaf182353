"""what a person says of a day -> a date or moment: `today`, `yesterday`, `24h`, `2026-11-25`."""

import re
from datetime import UTC, date, datetime, timedelta

MOMENT_ALLOWED = "today, yesterday, 30m, 24h, 7d, a date as 2026-11-25, or that with a time as 2026-11-25T14:30"
STUDY_DATE_ALLOWED = (
    "today, yesterday, a date as 2026-11-25 or 20261125, or two of them, the earlier first, as 20261101-20261130"
)

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_DAYS = {"today": 0, "yesterday": 1}


def since(value: str, now: datetime | None = None) -> datetime:
    """The first moment that counts, in UTC; a day begins at midnight here. `now` is local. Raises ValueError."""
    return _moment(value, now, is_end=False)


def until(value: str, now: datetime | None = None) -> datetime:
    """The moment from which nothing counts any more: a day counts whole. Raises ValueError."""
    return _moment(value, now, is_end=True)


def study_dates(value: str, today: date | None = None) -> tuple[str, str]:
    """The first and the last day, as DICOM writes them. Raises ValueError."""
    today = today or date.today()
    if match := re.fullmatch(r"([0-9]{8})?-([0-9]{8})?", value):
        first, last = (part and _day(part, today) for part in match.groups())
        if not (first or last):
            raise ValueError
        if first and last and last < first:
            raise ValueError
        return _written(first) if first else "", _written(last) if last else "99991231"
    day = _written(_day(value, today))
    return day, day


def _moment(value: str, now: datetime | None, *, is_end: bool) -> datetime:
    """A time without a zone is that of this machine, as it was on that day."""
    now = now or datetime.now()
    try:
        if match := re.fullmatch(r"([0-9]{1,5})([mhd])", value.lower()):
            return (now.astimezone() - timedelta(**{_UNITS[match[2]]: int(match[1])})).astimezone(UTC)
        if "T" in value or " " in value:
            return datetime.fromisoformat(value).astimezone(UTC)
        day = _day(value, now.date())
        if is_end:
            day += timedelta(days=1)
        return datetime(day.year, day.month, day.day).astimezone(UTC)
    except OverflowError:
        raise ValueError from None


def _day(value: str, today: date) -> date:
    if value.lower() in _DAYS:
        return today - timedelta(days=_DAYS[value.lower()])
    if not re.fullmatch(r"[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError
    return date.fromisoformat(value)


def _written(day: date) -> str:
    return f"{day:%Y%m%d}"
