"""notes -> the index: the thread behind the receiver that enters what has come, and catches up on what it missed."""

from __future__ import annotations

import contextlib
import gc
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from dcmstore.errors import CannotUnderstand, DcmStoreError, reason_of
from dcmstore.index import entries, mark
from dcmstore.index.entries import Came, Entry, Root
from dcmstore.index.notes import MAX_NOTES, Note, Notes, Unread

if TYPE_CHECKING:
    from dcmstore.index.database import Database

PAUSE = 0.5  # seconds in which notes come together: one transaction for many costs little more than for one
BATCH = 100  # notes in a transaction: about 20 ms of work
# The thread has the interpreter to itself for as long as it computes, and a store may not become slower than 0.95 of
# its speed. Where many objects come it waits for a pause, and where there is none, it rests so many times as long as
# it worked.
REST = 25
MAX_REST = 5.0  # seconds; also of the wait for a pause
RETRY = (2.0, 5.0, 15.0, 60.0, 300.0)  # seconds until a database that made trouble is tried again; the last one repeats
PATIENCE = 3.0  # seconds to wait for another process that is writing; it is added to the time of a stop
# Seconds between two lines about files that can't be read, and between the walks that look for them: a walk that
# begins anew for each of many files would never come to its end.
LOST = 60.0
_UNREAD_ADVICE = "let the user that runs dcmstore read it, or see to that disk; the next start then enters it"

Report: TypeAlias = Callable[..., None]
LOOK = 1.0  # seconds between looks at what is due because time has passed; study-quiet counts in seconds


class Arrival(NamedTuple):
    """An entry, when it came, and over which association: 0 for none, as for what a walk has found just then.

    `at` is on the monotonic clock.
    """

    entry: Entry
    at: float
    association: int = 0


class Held(DcmStoreError):
    """A follower can't do its part now, and has told why. Nothing is entered until it can."""


class Follower(Protocol):
    """Who acts upon what came. For the index's thread; what is raised is told, and done again."""

    @property
    def began(self) -> Callable[[int], None]:
        """An association, before its first instance, and `ended` after its last; for any thread, and never raise."""

    @property
    def ended(self) -> Callable[[int], None]: ...

    def entered(self, arrivals: Sequence[Arrival]) -> None:
        """What is about to be entered; after a fault the same may come again."""

    def is_due(self, now: float) -> bool: ...

    def look(self, now: float) -> None:
        """Time has passed, and all that came before `now` is entered."""

    def close(self) -> None: ...


Roots: TypeAlias = Callable[[], Sequence[Root]]


class Indexer:
    """Keeps the index on a thread of its own. `start` when the receiver listens, `close` at the end.

    `roots` gives the root folders in force. Reports `index.failed`, `index.recovered`, `index.behind`, `index.unread`
    and `index.caught_up` with facts as keywords.

    With `keeps_whole`, whatever the index lacks is caught up by a walk over the roots: after a run that did not end by
    itself, where there was no room for notes, and where a file could not be read. Without, as for a command that may
    be given again, it is not.
    """

    def __init__(
        self,
        path: str,
        roots: Roots,
        report: Report,
        *,
        follower: Follower | None = None,
        keeps_whole: bool = True,
        max_notes: int = MAX_NOTES,
    ) -> None:
        """`path` is the database's. Takes the mark of a clean end away, so make it before anything is stored."""
        self._path = path
        self._roots = roots
        self._report = report
        self._follower = follower
        self._keeps_whole = keeps_whole
        self._wake = threading.Event()
        self._is_closing = threading.Event()
        self._deadline = 0.0
        self._notes = Notes(self._note_came, max_notes)
        self._batch: list[Note] = []
        self._unread = Unread()
        self._lost: tuple[Note, str] | None = None  # the last that was given up and not told, and why it was
        self._lost_files = 0  # with it
        self._lost_told = -math.inf
        self._database: Database | None = None
        self._walk: Iterator[int] | None = None
        self._walk_began = 0.0
        self._walk_entered = 0
        self._walk_unread = 0  # files and folders that it could not read
        self._first_unread: dict[str, str] = {}  # facts of the first of them
        self._is_whole = not keeps_whole
        self._has_missed = False  # so a walk is to be begun, also where one is under way
        self._may_lack = False  # something that nobody will tell it of: the next start looks for it
        self._is_ending = False
        self._has_ended_well = False
        self._failures = 0
        self._told = ""
        self._made = ""  # which database it was
        self._mark = mark.of(path)
        self._token = ""
        if keeps_whole:
            with contextlib.suppress(OSError):  # then the database can't be written either, and says so
                self._token = self._mark.take()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)

    def start(self) -> None:
        """Harmless when it has been called before."""
        if self._thread.ident is None:
            self._thread.start()

    def began(self, association: int) -> None:
        """An association is about to bring its first file. Cheap; never waits, never raises. So is `ended`."""
        if self._follower is not None:
            self._follower.began(association)

    def ended(self, association: int) -> None:
        if self._follower is not None:
            self._follower.ended(association)

    def add(self, note: Note) -> None:  # hot: bench
        """Take a note of a file that was acknowledged. Cheap; never waits, never raises."""
        self._notes.add(note)
        if self._is_ending:  # a connection that outlives its server
            self._mark.forget()

    def miss(self) -> None:
        """Something may come, or have come, of which nobody takes a note: look for it now, and at the next start."""
        self._may_lack = self._has_missed = True
        self._wake.set()

    def close(self, timeout: float) -> bool:
        """Enter what is noted; return false when some of it is left for the next start to catch up.

        Call it when nothing calls `add` any more. One that was never wanted makes no database.
        """
        if self._thread.ident is None and not len(self._notes):
            if self._token:  # nothing has come since that end
                with contextlib.suppress(OSError):
                    self._mark.set(self._token)
            return True
        self._deadline = time.monotonic() + timeout
        self._is_closing.set()
        self._wake.set()
        self.start()  # what is noted is entered, also where it never came to that
        self._thread.join(timeout + PATIENCE)
        return self._has_ended_well

    def _note_came(self) -> None:
        if not self._wake.is_set():
            self._wake.set()

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        self._wake.set()  # to open the database, and to see whether something is missing
        while not self._is_closing.is_set():
            if self._wake.wait(LOOK if self._follower is not None or self._unread or self._lost else None):
                self._await_pause()
                self._wake.clear()
            while not self._is_closing.is_set() and (self._has_work or self._is_time_to_look):
                self._turn()
        self._finish()

    def _await_pause(self) -> None:
        """Let notes come together, and where many do, wait until no more come."""
        end = time.monotonic() + MAX_REST
        self._is_closing.wait(PAUSE)
        while len(self._notes) > BATCH and not self._is_closing.is_set():
            left = min(self._notes.last_added + PAUSE, end) - time.monotonic()
            if left <= 0:
                return
            self._is_closing.wait(left)

    @property
    def _has_work(self) -> bool:
        """True where something can be done now."""
        is_due = self._is_lost_due() or self._unread.due(time.monotonic(), 1)
        return not self._has_entered or self._database is None or bool(is_due)

    @property
    def _is_waiting(self) -> bool:
        """True where there are notes to enter, or where it is not known yet whether something is missing."""
        is_noted = self._batch or len(self._notes) or (self._unread and self._is_closing.is_set())
        return bool(is_noted) or (self._keeps_whole and self._database is None)

    @property
    def _has_entered(self) -> bool:
        is_whole = self._is_whole and not (self._keeps_whole and self._notes.dropped)
        return is_whole and not self._has_missed and not self._is_waiting

    @property
    def _has_all(self) -> bool:
        return self._has_entered and not self._unread and self._lost is None

    @property
    def _is_time_to_look(self) -> bool:
        """True where something is due because time has passed; not while a walk may find a part of it."""
        if self._follower is None or not self._is_whole:
            return False
        return self._follower.is_due(self._known_up_to())

    def _known_up_to(self) -> float:
        """The moment up to which everything that came is entered."""
        now = time.monotonic()  # first: what is noted after it came after it
        oldest = self._batch[0] if self._batch else self._notes.oldest()
        waiting = [*self._unread.notes(), *([oldest] if oldest is not None else [])]
        return min((note.at for note in waiting), default=now)

    @property
    def has_all(self) -> bool:
        """True where the index has everything that was stored."""
        return self._has_all

    def _turn(self) -> None:
        """One step, and the rest behind it or after a failure."""
        started = time.monotonic()
        if not self._attempt():
            self._is_closing.wait(RETRY[min(self._failures, len(RETRY)) - 1])
        elif self._notes.last_added > started:
            self._is_closing.wait(min((time.monotonic() - started) * REST, MAX_REST))

    def _attempt(self) -> bool:
        """One step; false when it failed, which is told once for each reason."""
        try:
            self._step()
        except Exception as error:  # noqa: BLE001  a fence: whatever a database does, receiving goes on
            self._failed(error)
            return False
        if self._told:
            self._report("index.recovered", path=self._path)
        self._failures, self._told = 0, ""
        return True

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._close_database()  # so that `reindex` may put another in its place
        if isinstance(error, Held):
            return
        reason = str(error) if isinstance(error, DcmStoreError) else f"{type(error).__name__}: {error}"
        if reason != self._told:
            self._report("index.failed", reason=reason, stores="not affected")
            self._told = reason

    def _step(self) -> None:
        if self._is_time_to_look and self._follower is not None:
            self._follower.look(self._known_up_to())
        database = self._opened()
        if self._is_lost_due():
            self._tell_lost()
        if self._has_missed:
            self._has_missed = False
            self._begin_walk()
        if not self._batch:
            now = math.inf if self._is_closing.is_set() else time.monotonic()
            self._batch = self._unread.due(now, BATCH) or self._notes.take(BATCH)
        if self._batch:
            self._enter(database, self._batch)
            self._batch = []
        elif self._notes.dropped and self._keeps_whole:
            self._report("index.behind", dropped=self._notes.dropped)
            self._notes.dropped = 0
            self._begin_walk()
        elif not self._is_whole:
            self._catch_up(database)

    def _opened(self) -> Database:
        """The database, opened where it is not, or where another has been put in its place."""
        if self._database is not None and self._database.is_replaced:
            self._close_database()
        if self._database is None:
            from dcmstore.index.database import Database  # and with it SQLAlchemy, when the receiver listens already

            database = Database(self._path, like=self._roots()[0].system, patience=PATIENCE)
            self._database = database
            token, self._token = self._token, ""
            if not self._made:
                gc.freeze()  # SQLAlchemy stays: a look for garbage in it would hold everybody up for 50 ms
                self._is_whole = self._is_whole or (token != "" and token == database.token)
            elif database.made != self._made:
                self._begin_walk()
            self._made = database.made
        return self._database

    def _close_database(self) -> None:
        database, self._database = self._database, None
        if self._follower is not None:
            self._follower.close()
        if database is not None:
            database.close()
        if self._walk is not None:
            self._begin_walk()  # anew: what it has entered, it passes over

    def _enter(self, database: Database, notes: list[Note]) -> None:
        roots = {root.system: root for root in self._roots()}
        arrivals = []
        unread = {}
        for note in notes:
            root = roots.get(note.root) or Root(note.root, note.root)
            if not note.is_new and database.known(root.name, [note.path]):
                continue
            came = Came(note.calling_ae_title, note.host, note.came, note.is_new)
            try:
                arrivals.append(Arrival(entries.read(root, note.path, came), note.at, note.association))
            except (FileNotFoundError, CannotUnderstand):
                continue  # gone again, or written over by somebody
            except OSError as error:  # somebody has it open just now, or the share was away for a moment
                unread[note] = reason_of(error)
        if self._follower is not None:
            self._follower.entered(arrivals)
        database.write([arrival.entry for arrival in arrivals])
        for note in notes:
            if note not in unread:
                self._unread.done(note)
            elif not self._unread.failed(note, time.monotonic()):
                self._may_lack, self._lost = True, (note, unread[note])
                self._lost_files += 1

    # --- files that can't be read ----------------------------------------------------------------

    def _is_lost_due(self) -> bool:
        return self._lost is not None and time.monotonic() >= self._lost_told + LOST

    def _tell_lost(self) -> None:
        """Tell of what was given up, and have a walk look for it."""
        if self._lost is None:
            return
        note, reason = self._lost
        facts = {"root": note.root, "path": note.path, "files": self._lost_files}
        self._report("index.unread", **facts, reason=f"{reason}; {_UNREAD_ADVICE}")
        self._lost, self._lost_files, self._lost_told = None, 0, time.monotonic()
        self._has_missed = True

    # --- catching up -----------------------------------------------------------------------------

    def _begin_walk(self) -> None:
        self._is_whole = not self._keeps_whole
        self._walk = None

    def _catch_up(self, database: Database) -> None:
        from dcmstore.index import walk

        if self._walk is None:
            self._walk = walk.catch_up(database, self._roots(), self._found, self._passed_over)
            self._walk_began, self._walk_entered, self._walk_unread = time.monotonic(), 0, 0
        added = next(self._walk, None)
        if added is not None:
            self._walk_entered += added
            return
        self._walk, self._is_whole = None, True
        if (
            self._walk_unread and time.monotonic() >= self._lost_told + LOST
        ):  # else it looked for what was told just now
            self._report("index.unread", **self._first_unread, files=self._walk_unread)
        seconds = f"{time.monotonic() - self._walk_began:.1f}"
        self._report("index.caught_up", files=self._walk_entered, seconds=seconds)

    def _passed_over(self, root: Root, path: str, error: OSError) -> None:
        """A file or folder that a walk can't read: a line for all of them, and the next start looks again."""
        if not self._walk_unread:
            self._first_unread = {"root": root.name, "path": path, "reason": f"{reason_of(error)}; {_UNREAD_ADVICE}"}
        self._walk_unread += 1
        self._may_lack = True

    def _found(self, found: Sequence[Entry]) -> None:
        """What a walk is about to enter."""
        if self._follower is not None:
            now = time.monotonic()
            self._follower.entered([Arrival(entry, now) for entry in found])

    # --- the end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Enter what is left while there is time. Only where nothing can be missing is the end a clean one."""
        while self._is_waiting and time.monotonic() < self._deadline:
            if not self._attempt():
                break
        self._tell_lost()
        self._is_ending = True
        has_all = self._has_all and not self._may_lack and not self._notes.dropped
        try:
            if has_all and self._keeps_whole and self._database is not None:
                token = mark.new_token()
                self._database.token = token
                self._close_database()
                self._mark.set(token)
                if len(self._notes):
                    self._mark.forget()
            self._has_ended_well = has_all
        except (DcmStoreError, OSError) as error:
            self._failed(error)
        self._close_database()
