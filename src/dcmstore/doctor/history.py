"""the newest lines of the log -> who was turned away and why, what was not taken, and how fast the disk fills."""

import contextlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dcmstore import profile, uids, wiring
from dcmstore.config import Configuration
from dcmstore.doctor.findings import Finding, fail, note, ok
from dcmstore.doctor.needed import GIGABYTE
from dcmstore.doctor.port import OWN_TITLE
from dcmstore.errors import reason_of
from dcmstore.logs import quote
from dcmstore.settings import Settings
from dcmstore.storage.filing import Root
from dcmstore.ul import negotiation
from dcmstore.ul.pdu import AAssociateRQ

MAX_READ = 16 * 1024 * 1024  # bytes of the log, the newest; some 60,000 lines
MAX_SHOWN = 8  # kinds of refusal that are told, the newest first
SOON = 7.0  # days until a disk is full, below which that is a fault
FAR = 3650.0  # days that nobody needs to hear of
_DAY = timedelta(days=1)

_FACT = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"]\S*)')


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log."""

    moment: datetime
    event: str
    facts: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """A fact, empty where the line does not have it."""
        return self.facts.get(name, "")

    def shown(self, name: str) -> str:
        """A fact for a terminal: a peer may have put into it what a terminal obeys."""
        text = self[name]
        return text if text.isprintable() else quote(text)

    @property
    def times(self) -> int:
        """How often it happened: refusals that repeat share a line a minute."""
        return int(self["times"]) if self["times"].isdecimal() else 1


@dataclass(slots=True)
class Summary:
    """What the lines come to. Of refusals that are alike, the newest line stands for all."""

    first: datetime | None = None
    refused: dict[tuple[str, ...], Line] = field(default_factory=dict)
    times: Counter[tuple[str, ...]] = field(default_factory=Counter)
    failed: Line | None = None  # the last start, unless one went well since
    stored: Counter[str] = field(default_factory=Counter)  # bytes, by root

    def add(self, line: Line) -> None:
        self.first = self.first or line.moment
        if line.event == "receiver.failed":
            self.failed = line
        elif line.event == "receiver.listening":
            self.failed = None
        elif line.event == "instance.stored" and line["bytes"].isdecimal():
            self.stored[line["root"]] += int(line["bytes"])
        elif line.event in _REFUSALS and line["calling"] != OWN_TITLE:
            kind = (line.event, *(line[name] for name in _REFUSALS[line.event]))
            self.refused.pop(kind, None)  # the newest comes last
            self.refused[kind] = line
            self.times[kind] += line.times


# Event -> the facts in which refusals are alike to a reader.
_REFUSALS = {
    "association.rejected": ("calling", "called", "reason", "because"),
    "context.rejected": ("uid", "reason", "transfer_syntaxes"),
    "instance.refused": ("calling", "status", "reason"),
}
_EVENTS = {*_REFUSALS, "receiver.failed", "receiver.listening", "instance.stored"}


def findings(configuration: Configuration, *, is_running: bool) -> Iterator[Finding]:
    """What the log shows that these settings have not mended yet."""
    settings = configuration.settings
    path = configuration.path.absolute().parent / wiring.LOG_NAME
    if not settings.logfile:
        yield note("logfile= 0: there is no log to look at", "with logfile= 1 refusals of the past are told here")
        return
    try:
        summary = summarize(path)
    except FileNotFoundError:
        yield note(f"there is no {path.name} yet")
        return
    except OSError as error:
        yield note(f"{path} can't be read: {reason_of(error)}", "run this as a user who may read it")
        return
    if summary.first is None:
        yield note(f"{path.name} has nothing to tell yet")
        return
    since = f"{path.name} since {summary.first:%Y-%m-%d %H:%M}"
    if summary.failed is not None and not is_running:
        reason = summary.failed.shown("reason")
        yield fail(f"the last start failed, {_at(summary.failed)}: {reason}", _what_to_do(summary.failed))
    told = [*_refusals(summary, settings)]
    yield from told[:MAX_SHOWN]
    if len(told) > MAX_SHOWN:
        yield note(f"{len(told) - MAX_SHOWN} other kinds of refusal are in {since}")
    if not told:
        yield ok(f"{since}: nobody was turned away who would be again")
    yield from filling(summary, wiring.roots_of(settings), datetime.now(UTC))


def summarize(path: Path) -> Summary:
    """The newest MAX_READ bytes of a log, of the files put aside too. Raises OSError."""
    summary = Summary()
    for text in _newest(path):
        for raw in text.splitlines():
            line = parse(raw)
            if line is not None:
                summary.add(line)
    return summary


def parse(raw: str) -> Line | None:
    """A line of the log that has something to tell, else None."""
    parts = raw.split(None, 3)
    if len(parts) < 3 or parts[2] not in _EVENTS:
        return None
    try:
        moment = datetime.fromisoformat(parts[0])
        found = _FACT.findall(parts[3] if len(parts) > 3 else "")
        facts = {name: str(json.loads(value)) if value[0] == '"' else value for name, value in found}
    except ValueError:  # a line that a crash cut off
        return None
    return Line(moment, parts[2], facts)


def _newest(path: Path) -> Iterator[str]:
    """The ends of the newest log files that fit into MAX_READ, the oldest first. Raises OSError without any."""
    left, pieces = MAX_READ, [_end_of(path, MAX_READ)]
    number = 1
    while (left := left - len(pieces[-1])) > 0 and (aside := path.with_name(f"{path.name}.{number}")).exists():
        pieces.append(_end_of(aside, left))
        number += 1
    return (piece.decode("utf-8", "replace") for piece in reversed(pieces))


def _end_of(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        start = max(file.seek(0, 2) - most, 0)
        file.seek(start)
        return file.read(most)


def filling(summary: Summary, roots: Mapping[Root, Path], now: datetime) -> Iterator[Finding]:
    """For how long each disk lasts if objects keep coming as they did. A log of hours is taken for a whole day's."""
    assert summary.first is not None
    days = max((now - summary.first) / _DAY, 1)
    disks: dict[int, list[Root]] = {}
    for root, folder in roots.items():
        with contextlib.suppress(OSError):  # told elsewhere
            disks.setdefault(folder.stat().st_dev, []).append(root)
    for on_disk in disks.values():
        daily = sum(summary.stored[root.value] for root in on_disk) / days
        left = shutil.disk_usage(roots[on_disk[0]]).free / daily if daily else FAR
        if left < FAR:
            names = " and ".join(root.value for root in on_disk)
            rate = f"at {daily / GIGABYTE:.2g} GiB a day, as in the log"
            text = f"{names}: {rate}, the disk is full in {left:.0f} days"
            yield ok(text) if left >= SOON else fail(text, "make room, or move what is old elsewhere")


# --- refusals --------------------------------------------------------------------------------------


def _refusals(summary: Summary, settings: Settings) -> Iterator[Finding]:
    """The newest kind first."""
    for kind, line in reversed(summary.refused.items()):
        finding = _TELL[line.event](line, settings)
        if finding is not None:
            count = summary.times[kind]
            often = "once" if count == 1 else f"{count} times, the last time"
            yield note(f"{finding.text} ({often} {_at(line)})", finding.advice)


def _rejected_association(line: Line, settings: Settings) -> Finding | None:
    calling, called = line.shown("calling"), line.shown("called")
    host = line["peer"].rpartition(":")[0].strip("[]")
    who = f"{calling} at {host}"
    reason, because = line["reason"], line.shown("because") or line.shown("reason")
    if _is_mended(line, settings, host):
        return None
    if reason == "called-AE-title-not-recognized":
        advice = f"enter {settings.local_ae} at that sender as the AE title of this receiver, or set check-called-ae= 0"
        return note(f"{who} was rejected, for it calls {called} and this receiver is {settings.local_ae}", advice)
    if reason == "calling-AE-title-not-recognized":
        return note(f"{who} was rejected: {because}", f"add {calling} to allowed-ae if it may send")
    if reason == "local-limit-exceeded":
        advice = "senders try again by themselves; if it happens often, raise that limit"
        return note(f"{who} was rejected for the moment: {because}", advice)
    return note(f"{who} was rejected: {because}", "see to that at the sender, or in the ini if it may send")


def _is_mended(line: Line, settings: Settings, host: str) -> bool:
    """Whether the same request would be let in by the present settings."""
    if line["reason"] not in ("called-AE-title-not-recognized", "calling-AE-title-not-recognized", "no-reason-given"):
        return False
    request = AAssociateRQ(line["called"], line["calling"])
    policy = wiring.negotiation_policy_of(settings, None)
    is_refused = negotiation.rejection(request, policy) or wiring.access_of(settings).refusal(request, host)
    return not is_refused


def _rejected_context(line: Line, settings: Settings) -> Finding | None:
    text = f"{line.shown('calling')} offered {line.shown('sop_class')}, which was not accepted: {line.shown('reason')}"
    if line["uid"] in uids.OTHER_SOP_CLASSES:
        return note(text, "nothing is lost, for objects of it are not stored by any receiver")
    if line["reason"].startswith("transfer-syntaxes"):
        advice = f"add one of them to the profile in {profile.FILE_NAME}"
        return note(f"{text}, {line.shown('transfer_syntaxes')}", advice)
    advice = f"if its objects shall come, add it to the profile in {profile.FILE_NAME}, or set accept-unknown= 1"
    return note(text, advice)


def _refused_instance(line: Line, settings: Settings) -> Finding | None:
    text = f"objects of {line.shown('calling')} were refused with {line.shown('status')}: {line.shown('reason')}"
    return note(text, "docs/log.md says what to do about instance.refused; once it is done, send them again")


_TELL: dict[str, Callable[[Line, Settings], Finding | None]] = {
    "association.rejected": _rejected_association,
    "context.rejected": _rejected_context,
    "instance.refused": _refused_instance,
}


def _at(line: Line) -> str:
    return f"on {line.moment:%Y-%m-%d %H:%M}"


def _what_to_do(line: Line) -> str:
    return line.shown("what_to_do") or "correct what it names"
