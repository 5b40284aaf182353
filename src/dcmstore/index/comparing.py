"""disk + index -> findings: what is missing, what has changed, and what nobody knows."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import NamedTuple

from dcmstore.errors import CannotUnderstand, reason_of
from dcmstore.index import entries, walk
from dcmstore.index.database import Database, Known
from dcmstore.index.entries import Root
from dcmstore.storage import files, part10

JUST_NOW = 60.0  # seconds since an object was written in which a busy receiver may not have entered it yet
# Seconds after which the index is asked again about a file that is not as it says. A store that replaces one has the
# index say so a moment later: twice the longest rest of the index's thread.
SETTLE = 10.0
MAX_DOUBTS = 50_000  # files that wait for that, about 50 MB; a disk of which all is wrong has more


# A receiver with much to do enters what it replaced later than SETTLE
_AGAIN = "written less than a minute ago: where a receiver may have replaced it, verify once more"


class Verdict(Enum):
    """What is wrong with one file."""

    MISSING = "missing"  # the index has it, the disk has not
    CHANGED = "changed"
    UNREADABLE = "unreadable"  # so nobody knows
    UNKNOWN = "unknown"  # a DICOM object that the index has not


@dataclass(frozen=True, slots=True)
class Finding:
    """A file, as the system names it, that is not as the index has it."""

    verdict: Verdict
    path: str
    reason: str = ""


@dataclass(slots=True)
class Comparison:
    """How it went: what was as it should be, and what was not looked at."""

    good: int = 0
    findings: int = 0
    others: int = 0  # files that are no DICOM objects
    just_now: int = 0  # objects that came too recently to be in the index for sure


class _Doubt(NamedTuple):
    """A file that is not as the index has it, and when the index is asked again, on the monotonic clock."""

    root: Root
    known: Known
    finding: Finding
    due: float


@dataclass(slots=True)
class Comparer:
    """Compares whole root folders. `moved` is told of bytes that are done with, `found_good` of each good file.

    `found_good` gets its path and the digest of the whole file, which costs no second look at it; None when nobody
    asks. With `is_quick`, a file of the right size is good. `sleep` waits for the index, in seconds.
    """

    database: Database
    moved: Callable[[int], object]
    is_quick: bool = False
    found_good: Callable[[str, str], None] | None = None
    sleep: Callable[[float], object] = time.sleep
    comparison: Comparison = field(default_factory=Comparison)
    _doubts: deque[_Doubt] = field(default_factory=deque)  # the one that is due first stands first

    def compare(self, roots: Iterable[Root]) -> Iterator[Finding]:
        """Raises IndexTrouble."""
        roots = list(roots)
        for root in roots:
            for some in self.database.all_known(root.name):
                for known in some:
                    yield from self._known(root, known)
                    self.moved(known.size)
                while self._doubts and (len(self._doubts) > MAX_DOUBTS or self._doubts[0].due <= time.monotonic()):
                    yield from self._settled(self._doubts.popleft())
        unread: list[Finding] = []
        for root in roots:
            for found in walk.files_of(root, partial(_note_unread, unread)):
                yield from self._unknown(root, found)
        self.comparison.findings += len(unread)
        yield from unread
        while self._doubts:
            yield from self._settled(self._doubts.popleft())

    def _known(self, root: Root, known: Known) -> Iterator[Finding]:
        finding = self._look(root, known)
        if finding is None:
            self.comparison.good += 1
        elif finding.verdict is Verdict.CHANGED:
            self._doubts.append(_Doubt(root, known, finding, time.monotonic() + SETTLE))
        else:  # replacing a file leaves no moment without one
            yield from self._settled(_Doubt(root, known, finding, time.monotonic()))

    def _settled(self, doubt: _Doubt) -> Iterator[Finding]:
        """What is left of a doubt when the index has had time to enter what came meanwhile."""
        root, known, finding, due = doubt
        if (seconds := due - time.monotonic()) > 0:
            self.sleep(seconds)
        now = self.database.known(root.name, [known.path]).get(known.path)
        if now is None:  # it left the index
            return
        still = finding if now == known else self._look(root, now)  # else it came again
        if still is None:
            self.comparison.good += 1
            return
        self.comparison.findings += 1
        if still.verdict is Verdict.CHANGED and _is_just_now(still.path):
            still = replace(still, reason=f"{still.reason}; {_AGAIN}")
        yield still

    def _look(self, root: Root, known: Known) -> Finding | None:
        path = root.path_of(known.path)
        try:
            size = os.stat(path).st_size
            if size != known.size:
                return Finding(Verdict.CHANGED, path, f"has {size} bytes, had {known.size}")
            if self.is_quick and self.found_good is None:
                return None
            digests = _digests(path, with_whole=self.found_good is not None)
        except FileNotFoundError:
            return Finding(Verdict.MISSING, path)
        except CannotUnderstand as error:
            return Finding(Verdict.CHANGED, path, str(error))
        except OSError as error:
            return Finding(Verdict.UNREADABLE, path, reason_of(error))
        if digests.data_set != known.sha256:
            return Finding(Verdict.CHANGED, path, "another content of the same size")
        if problem := _head_problem(digests, known):
            return Finding(Verdict.CHANGED, path, problem)
        if self.found_good is not None:
            self.found_good(path, digests.whole)
        return None

    def _unknown(self, root: Root, found: Sequence[walk.Found]) -> Iterator[Finding]:
        known = self.database.known(root.name, [file.path for file in found])
        for file in found:
            if file.path in known:
                continue
            path = root.path_of(file.path)
            try:
                entries.read(root, file.path)
            except (CannotUnderstand, FileNotFoundError):
                self.comparison.others += 1
                continue
            except OSError as error:
                self.comparison.findings += 1
                yield Finding(Verdict.UNREADABLE, path, reason_of(error))
                continue
            if _is_just_now(path) or self.database.known(root.name, [file.path]):
                self.comparison.just_now += 1
                continue
            self.comparison.findings += 1
            yield Finding(Verdict.UNKNOWN, path)


@dataclass(frozen=True, slots=True)
class _Digests:
    data_set: str
    whole: str
    transfer_syntax: str
    sop_class_uid: str
    sop_instance_uid: str


def _digests(path: str, *, with_whole: bool) -> _Digests:
    data_set, whole = hashlib.sha256(), hashlib.sha256()
    with files.open_to_read(path) as file:
        meta = part10.read_if_any(file)
        if with_whole:
            start = file.tell()
            file.seek(0)
            whole.update(file.read(start))
        while piece := file.read(entries.STEP):
            data_set.update(piece)
            if with_whole:
                whole.update(piece)
    return _Digests(
        data_set.hexdigest(),
        whole.hexdigest(),
        meta.transfer_syntax_uid,
        meta.media_storage_sop_class_uid,
        meta.media_storage_sop_instance_uid,
    )


def _head_problem(digests: _Digests, known: Known) -> str:
    """Where the head of a file contradicts what is known of it: then its data set is read as something else."""
    for name, is_now, was in (
        ("Transfer Syntax UID", digests.transfer_syntax, known.transfer_syntax),
        ("Media Storage SOP Class UID", digests.sop_class_uid, known.sop_class_uid),
        ("Media Storage SOP Instance UID", digests.sop_instance_uid, known.sop_instance_uid),
    ):
        if is_now and is_now != was:
            return f"its head has {name} {is_now}, had {was}"
    return ""


def _note_unread(findings: list[Finding], root: Root, path: str, error: OSError) -> None:
    findings.append(Finding(Verdict.UNREADABLE, root.path_of(path), reason_of(error)))


def _is_just_now(path: str) -> bool:
    """Whether an object came so recently that the index may not have it yet."""
    try:
        return abs(time.time() - os.stat(path).st_mtime) < JUST_NOW  # a share's clock may be ahead of ours
    except OSError:
        return False
