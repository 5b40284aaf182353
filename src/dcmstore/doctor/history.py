"""the newest lines of the log -> who was turned away and why, what was not taken, and how fast the disk fills."""

import contextlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dcmstore import logs, profile, uids, wiring
from dcmstore.config import Configuration
from dcmstore.doctor.findings import Finding, fail, note, ok
from dcmstore.doctor.needed import GIGABYTE
from dcmstore.doctor.port import OWN_TITLE
from dcmstore.errors import reason_of
from dcmstore.logs import Line
from dcmstore.settings import Settings
from dcmstore.storage.filing import Root
from dcmstore.ul import negotiation
from dcmstore.ul.pdu import AAssociateRQ

MAX_READ = 16 * 1024 * 1024  # bytes of the log, the newest; some 60,000 lines
MAX_SHOWN = 8  # kinds of refusal that are told, the newest first
SOON = 7.0  # days until a disk is full, below which that is a fault
FAR = 3650.0  # days that nobody needs to hear of
_DAY = timedelta(days=1)

_TOOK_ROOM = ("stored", "numbered")  # outcomes; what was identical is on the disk once

# Event -> the facts that are needed to tell of it. A line without them was cut off by a crash or a full disk.
_NEEDED = {
    "receiver.failed": ("reason",),
    "receiver.fault": ("reason",),
    "receiver.listening": (),
    "instance.stored": ("outcome", "bytes", "root"),
    "association.rejected": ("peer", "calling", "called", "reason"),
    "context.rejected": ("calling", "sop_class", "uid", "transfer_syntaxes", "reason"),
    "instance.refused": ("calling", "status", "reason"),
}
# Event -> the facts in which refusals are alike to a reader.
_REFUSALS = {
    "association.rejected": ("calling", "called", "reason", "because"),
    "context.rejected": ("uid", "reason", "transfer_syntaxes"),
    "instance.refused": ("calling", "status", "reason"),
}


@dataclass(slots=True)
class Summary:
    """What the lines come to. Of refusals that are alike, the newest line stands for all."""

    first: datetime | None = None
    refused: dict[tuple[str, ...], Line] = field(default_factory=dict)
    times: Counter[tuple[str, ...]] = field(default_factory=Counter)
    failed: Line | None = None  # the last start or the last end, unless a start went well since
    faults: list[Line] = field(default_factory=list)  # ends that nobody asked for
    stored: Counter[str] = field(default_factory=Counter)  # bytes, by root

    def add(self, line: Line) -> None:
        self.first = self.first or line.moment
        if line.event in ("receiver.failed", "receiver.fault"):
            self.failed = line
            if line.event == "receiver.fault":
                self.faults.append(line)
        elif line.event == "receiver.listening":
            self.failed = None
        elif line.event == "instance.stored" and line["outcome"] in _TOOK_ROOM:
            self.stored[line["root"]] += _number(line["bytes"])
        elif line.event in _REFUSALS and line["calling"] != OWN_TITLE:
            kind = (line.event, *(line[name] for name in _REFUSALS[line.event]))
            self.refused.pop(kind, None)  # the newest comes last
            self.refused[kind] = line
            self.times[kind] += _number(line["times"]) or 1  # refusals that repeat share a line a minute


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
    yield from _ends(summary, is_running=is_running)
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
        for raw in text.splitlines(keepends=True):
            line = parse(raw)
            if line is not None:
                summary.add(line)
    return summary


def parse(raw: str) -> Line | None:
    """A line of the log that has something to tell, else None."""
    line = logs.parse(raw)
    if line is None or line.event not in _NEEDED or not line.facts.keys() >= set(_NEEDED[line.event]):
        return None
    return line


def _number(text: str) -> int:
    """0 for what is none. A longer one stands in no log: 13 digits of bytes are 9 TiB in one object."""
    return int(text) if re.fullmatch("[0-9]{1,13}", text) else 0


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


# --- starts and ends -------------------------------------------------------------------------------


def _ends(summary: Summary, *, is_running: bool) -> Iterator[Finding]:
    failed = summary.failed if not is_running else None
    if failed is not None and failed.event == "receiver.failed":
        yield fail(f"the last start failed, {_at(failed)}: {_shown(failed, 'reason')}", _what_to_do(failed))
    if not summary.faults:
        return
    last = summary.faults[-1]
    often = f" {len(summary.faults)} times, the last time" if len(summary.faults) > 1 else ""
    text = f"the receiver ended by itself{often} {_at(last)}: {_shown(last, 'reason')}"
    if failed is last:
        yield fail(text, "start it again; docs/log.md says what to do about receiver.fault")
    else:
        yield note(text, "docs/log.md says what to do about receiver.fault")


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
    calling, called = _shown(line, "calling"), _shown(line, "called")
    host = line["peer"].rpartition(":")[0].strip("[]")
    who = f"{calling} at {host}"
    reason, because = line["reason"], _shown(line, "because" if line["because"] else "reason")
    if _is_mended(line, settings, host):
        return None
    if reason == "called-AE-title-not-recognized":
        advice = f"enter {settings.local_ae} at that sender as the AE title of this receiver, or set check-called-ae= 0"
        return note(f"{who} was rejected, for it calls {called} and this receiver is {settings.local_ae}", advice)
    if reason == "local-limit-exceeded":
        advice = "senders try again by themselves; if it happens often, raise that limit"
        return note(f"{who} was rejected for the moment: {because}", advice)
    _, advice = _rule_behind(line)
    return note(f"{who} was rejected: {because}", advice.format(calling=calling, host=host))


# How `because` begins or ends -> the setting that has to be off now for the sender to be let in, where the log can't
# tell whether it meets the rule (it has no passcode and no certificate); and what to do. The first that fits counts:
# the first two end in words of ours, and only these begin with words of a peer.
_RULES = (
    (r" is not in allowed-ae$", "", "add {calling} to allowed-ae if it may send"),
    (r" is not in allowed-hosts$", "", "add {host} to allowed-hosts if it may send"),
    (r"^allowed-ae binds ", "", "add {calling}@{host} to allowed-ae if it may send from there too"),
    (r"^tls-names binds ", "tls_names", "see to the certificate that it shows at tls-port, or correct tls-names"),
    (r"^require-user= 1, ", "require_user", "enter a user name and its passcode at that sender"),
    (r"^user ", "users", "enter both anew at that sender, or set the passcode with `dcmstore user add NAME`"),
)


def _rule_behind(line: Line) -> tuple[str, str]:
    found = ((setting, advice) for words, setting, advice in _RULES if re.search(words, line["because"]))
    return next(found, ("", "see to that at the sender, or in the ini if it may send"))


def _is_mended(line: Line, settings: Settings, host: str) -> bool:
    """Whether the same request would be let in by the present settings.

    Where its passcode or its certificate was refused, only without the rule that refused it.
    """
    if line["reason"] not in ("called-AE-title-not-recognized", "calling-AE-title-not-recognized", "no-reason-given"):
        return False
    setting, _ = _rule_behind(line)
    if setting and getattr(settings, setting):
        return False
    request = AAssociateRQ(line["called"], line["calling"])
    policy = wiring.negotiation_policy_of(settings, None)
    access = wiring.access_of(replace(settings, users=None, require_user=False, tls_names=()))
    return not (negotiation.rejection(request, policy) or access.refusal(request, host))


def _rejected_context(line: Line, settings: Settings) -> Finding | None:
    offer = f"{_shown(line, 'calling')} offered {_shown(line, 'sop_class')}"
    text = f"{offer}, which was not accepted: {_shown(line, 'reason')}"
    if line["uid"] in uids.OTHER_SOP_CLASSES:
        return note(text, "nothing is lost, for objects of it are not stored by any receiver")
    if line["reason"].startswith("transfer-syntaxes"):
        advice = f"add one of them to the profile in {profile.FILE_NAME}"
        return note(f"{text}, {_shown(line, 'transfer_syntaxes')}", advice)
    advice = f"if its objects shall come, add it to the profile in {profile.FILE_NAME}"
    if not settings.accept_unknown:  # which counts only without a profile
        advice += ", or without a profile set accept-unknown= 1"
    return note(text, advice)


def _refused_instance(line: Line, settings: Settings) -> Finding | None:
    text = f"objects of {_shown(line, 'calling')} were refused with {_shown(line, 'status')}: {_shown(line, 'reason')}"
    return note(text, "docs/log.md says what to do about instance.refused; once it is done, send them again")


_TELL: dict[str, Callable[[Line, Settings], Finding | None]] = {
    "association.rejected": _rejected_association,
    "context.rejected": _rejected_context,
    "instance.refused": _refused_instance,
}


def _at(line: Line) -> str:
    return f"on {line.moment:%Y-%m-%d %H:%M}"


def _what_to_do(line: Line) -> str:
    return _shown(line, "what_to_do") if line["what_to_do"] else "correct what it names"


def _shown(line: Line, name: str) -> str:
    """A fact for a terminal: a peer may have put into it what a terminal obeys, or nothing."""
    text = line[name]
    return text if text and text.isprintable() else logs.quote(text)
