"""associations -> seldom writes: the thread behind them that updates each folder when it has become quiet."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from dcmstore.dicomdir.folder import Updated, update
from dcmstore.dicomdir.journal import Journal

QUIET = 2.0  # seconds without a new object before a folder is written: most studies then cost one write
PATIENCE = 60.0  # seconds after which a folder is written although objects keep coming
REST = 10  # times the duration of its last write that a folder is then left alone: at most 1/11 of the time
RETRY = 300.0  # seconds until a folder that could not be written is tried again

Report: TypeAlias = Callable[..., None]
Clock: TypeAlias = Callable[[], float]


@dataclass(slots=True)
class _Pending:
    """What a folder waits for: its paths, when the first and the last of them came, and until when it rests."""

    paths: dict[str, None] = field(default_factory=dict)
    first: float = 0.0
    last: float = 0.0
    rest_until: float = 0.0

    def add(self, path: str, now: float) -> None:
        self.first = self.first if self.paths else now
        self.last = now
        self.paths[path] = None

    @property
    def due(self) -> float:
        return max(min(self.last + QUIET, self.first + PATIENCE), self.rest_until)


class Updater:
    """Keeps DICOMDIRs up to date on one thread. `start` before use, `close` at the end.

    A folder is written when no object has come to it for QUIET seconds, or PATIENCE seconds after the first; and
    then not again for REST times as long as the write took. A write costs as much as the directory is long, so
    without the rest n objects would cost n² / 2 records; with it, a folder never takes more than 1 / (REST + 1) of
    the time, however many objects come to it.

    Reports `dicomdir.written` and `dicomdir.failed` with facts as keywords, from this thread or the caller's of
    `add`. What failed is tried again after RETRY seconds, when `close` is called, and at the next start.
    """

    def __init__(
        self,
        journal: str,
        report: Report,
        *,
        clock: Clock = time.monotonic,
        update: Callable[[str, Iterable[str]], Updated] = update,
    ) -> None:
        """`journal` is the path of a file that is this updater's alone. Raises OSError when it can't be written."""
        self._report = report
        self._clock = clock
        self._update = update
        self._folders: dict[str, _Pending] = {}
        self._changed = threading.Condition()
        self._is_closing = False
        self._deadline = 0.0
        self._journal = Journal(journal)
        for folder, path in self._journal.entries:
            self._folders.setdefault(folder, _Pending()).add(path, clock())
        self._thread = threading.Thread(target=self._run, name="dicomdir", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, folder: str, path: str) -> None:
        """A new or changed file below a patient's folder; both absolute. Cheap; never raises."""
        reason = ""
        with self._changed:
            try:
                self._journal.append(folder, path)
            except OSError as error:
                reason = f"{self._journal.path}: {error.strerror}"
            self._folders.setdefault(folder, _Pending()).add(path, self._clock())
            self._changed.notify()
        if reason:
            self._report("dicomdir.failed", folder=folder, reason=reason)

    def close(self, timeout: float) -> bool:
        """Write what is pending, whether it is due or not; return false when some of it is left for the next start.

        Call it when nothing calls `add` any more.
        """
        with self._changed:
            self._is_closing = True
            self._deadline = self._clock() + timeout
            self._changed.notify()
        if self._thread.ident is None:
            self._finish()
        else:
            self._thread.join(timeout)
        return not self._thread.is_alive() and not self._pending()

    def work(self) -> float | None:
        """Write every folder that is due; return the seconds until the next one is, None when nothing is pending.

        The thread's own method; public for tests, which turn the clock themselves.
        """
        with contextlib.suppress(OSError):
            self._journal.sync()
        while not self._is_closing:
            with self._changed:
                now = self._clock()
                self._folders = {folder: it for folder, it in self._folders.items() if it.paths or it.rest_until > now}
                waiting = {folder: pending.due for folder, pending in self._folders.items() if pending.paths}
            if not waiting:
                return None
            folder = min(waiting, key=waiting.__getitem__)
            if waiting[folder] > now:
                return waiting[folder] - now
            self._write(folder)
        return None

    def _run(self) -> None:
        while not self._is_closing:
            seconds = self.work()
            with self._changed:
                if not self._is_closing and self._journal.is_synced:  # else something came meanwhile
                    self._changed.wait(seconds)
        self._finish()

    def _finish(self) -> None:
        for folder in dict(self._pending()):
            if self._clock() <= self._deadline:
                self._write(folder)
        self._journal.close()

    def _write(self, folder: str) -> None:
        with self._changed:
            pending = self._folders[folder]
            paths, pending.paths = pending.paths, {}
        started = self._clock()
        failure = ""
        try:
            if not _is_gone(folder):
                self._report_written(folder, self._update(folder, paths), self._clock() - started)
        except Exception as error:  # noqa: BLE001  a fence: one folder's trouble is not another's
            failure = getattr(error, "strerror", None) or repr(error)
            self._report("dicomdir.failed", folder=folder, reason=failure)
        with self._changed:
            now = self._clock()
            pending.rest_until = now + (RETRY if failure else REST * (now - started))
            if failure:
                pending.paths = paths | pending.paths
            with contextlib.suppress(OSError):  # a line that stays only costs a write at the next start
                self._journal.settle(self._pending())

    def _report_written(self, folder: str, updated: Updated, seconds: float) -> None:
        self._report(
            "dicomdir.written",
            folder=folder,
            files=updated.files,
            added=updated.added,
            dropped=updated.dropped or None,
            left_out=len(updated.left_out) or None,
            reason=next((f"{path}: {reason}" for path, reason in updated.left_out.items()), None),
            put_aside=updated.put_aside or None,
            seconds=f"{seconds:.3f}",
        )

    def _pending(self) -> list[tuple[str, str]]:
        return [(folder, path) for folder, pending in self._folders.items() for path in pending.paths]


def _is_gone(folder: str) -> bool:
    """True where somebody removed a patient's folder; false where the disk it was on is away."""
    return not os.path.isdir(folder) and os.path.isdir(os.path.dirname(folder))
