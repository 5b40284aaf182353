"""DcmStore.ini -> a receiver at work, as long as its host wants it: start, reload, stop."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dcmstore import alone, config, needs, profile, wiring
from dcmstore.alone import NotAlone
from dcmstore.audit.trail import Trail
from dcmstore.audit.transfers import Recipient
from dcmstore.config import Configuration
from dcmstore.connection import Connection, Shared
from dcmstore.dimse.command import CommandField
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.events import AssociationEvents, FileIndex, FolderUpdater
from dcmstore.hosting import Host, Request
from dcmstore.logs import Log
from dcmstore.profile import Profile
from dcmstore.server import CannotListen, Server
from dcmstore.services.storage import StorageService
from dcmstore.services.verification import VerificationService
from dcmstore.settings import KEYS, Settings, shown
from dcmstore.storage.store import Store
from dcmstore.ul.timers import Limits

if TYPE_CHECKING:
    from dcmstore.follow_up import FollowUp
    from dcmstore.services.commitment import CommitmentService
    from dcmstore.workers import messages
    from dcmstore.workers.pool import Pool

# Seconds for which a thread that computes keeps the others from it. Who sends what takes long to read, such as endless
# headers, would else hold up each step of every other association ten times as long.
SWITCH_INTERVAL = 0.0005
WORKERS_WAIT = 10.0  # seconds that workers without a connection have to end, for what they still have to tell
# Of these, a reload changes nothing: they are as they were when the receiver started, or when it got an index
_FIXED_AT_START = ("workers",)
_FIXED_WITH_INDEX = ("hook_timeout", "webhook_secret")
CHECK_PATIENCE = 5.0  # seconds that the server has to show that it still answers


@dataclass(frozen=True, slots=True)
class Reading:
    """The files of settings as they were read once, the root folders looked at."""

    configuration: Configuration
    profile: Profile | None

    @property
    def settings(self) -> Settings:
        return self.configuration.settings

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self.configuration.warnings, *(self.profile.warnings if self.profile else ()))


def read(path: Path) -> Reading:
    """Raises ConfigurationError when nothing can be received by these settings."""
    configuration = config.read(path)
    needs.require_roots(configuration)
    return Reading(configuration, profile.in_force(configuration))


def run(path: Path, host: Host, *, with_console: bool = True) -> int:
    """Receive until the host wants it to end; return the exit code: 1 when that was for a fault.

    `path` is the ini's. Raises ConfigurationError.
    """
    reading = read(path)
    sys.setswitchinterval(SWITCH_INTERVAL)
    wiring.apply_permissions(reading.settings)
    log = wiring.open_log(reading.configuration, with_console=with_console)
    with contextlib.closing(log), contextlib.ExitStack() as resources:
        return _Receiver(path, host, log, resources, with_console=with_console).run(reading)


def shared_of(
    settings: Settings,
    store: Store,
    log: Log,
    sop_classes: Mapping[str, tuple[str, ...]] | None = None,
    updater: FolderUpdater | None = None,
    trail: Recipient | None = None,
    index: FileIndex | None = None,
    commitment: CommitmentService | None = None,
    *,
    tls_may_wait: bool = False,
) -> Shared:
    """What connections under these settings get; `sop_classes` is what a profile alone accepts.

    `tls_may_wait` for certificates that can be used; else there is a ConfigurationError without them.
    """
    return Shared(
        policy=wiring.negotiation_policy_of(settings, sop_classes),
        access=wiring.access_of(settings),
        tls=wiring.tls_of(settings, log, may_wait=tls_may_wait),
        limits=Limits(settings.artim_timeout, settings.idle_timeout, settings.stall_timeout),
        services={
            CommandField.C_ECHO_RQ: VerificationService(),
            CommandField.C_STORE_RQ: StorageService(store, log_patient=settings.log_patient),
        },
        log=log,
        new_events=lambda: AssociationEvents(store, updater, trail, index),
        commitment=commitment,
    )


class _NotStarted(Exception):
    """The receiver can't work; the text says why, `advice` what to do."""

    def __init__(self, reason: str, advice: str | None = None) -> None:
        super().__init__(reason)
        self.advice = advice


class _Receiver:
    """A server and the settings that are in force. `resources` is closed at the stop, or by the caller without one."""

    def __init__(
        self, path: Path, host: Host, log: Log, resources: contextlib.ExitStack, *, with_console: bool
    ) -> None:
        self._path = path
        self._host = host
        self._log = log
        self._resources = resources
        self._with_console = with_console
        self._updater: FolderUpdater | None = None
        self._follow_up: FollowUp | None = None
        self._pool: Pool | None = None
        self._fixed: dict[str, object] = {}  # field -> the value that is in use until the next start
        self._trail = resources.enter_context(contextlib.closing(Trail(log)))

    def run(self, reading: Reading) -> int:
        self._reading = reading
        self._warn(reading)
        try:
            self._start()
        except _NotStarted as problem:
            self._log.error("receiver.failed", reason=problem, what_to_do=problem.advice)
            return 1
        handlers: dict[Request, Callable[[], None]] = {Request.RELOAD: self._reload, Request.CHECK: self._check}
        try:
            while (request := self._host.wait()) is not Request.STOP:
                handlers[request]()
        finally:
            self._stop()
        return int(self._server.has_fault)

    # --- start and stop ---------------------------------------------------------------------------

    def _start(self) -> None:
        settings = self._reading.settings
        try:
            self._resources.enter_context(alone.held(self._path.absolute().parent))
        except NotAlone as problem:
            raise _NotStarted(str(problem), "stop that one, or give this one's ini a folder of its own") from None
        self._fix(settings, _FIXED_AT_START)
        self._store, self._shared = self._opened(self._reading, tls_may_wait=not settings.tls_only)
        if settings.workers > 1:
            from dcmstore.workers.pool import Pool  # which takes long to load, so only where it is wanted

            self._pool = Pool(settings.workers, self._log, self._hear, lambda: self._server.fail())
        connect = self._pool.connect if self._pool is not None else Connection
        self._server = Server(settings, self._shared, self._log, self._host.wake, self._trail, connect)
        with _closed_on_failure(self._store), _port_problems(self._reading):
            self._trail.use(wiring.reporter_of(settings), wiring.audit_sink(self._reading.configuration))
            self._start_workers()
            self._server.start()
        self._trail.started()
        self._announce("receiver.listening")
        self._start_index()

    def _stop(self) -> None:
        seconds = self._reading.settings.stop_timeout
        self._host.stopping(seconds)
        self._log.info("receiver.stopping", associations=self._server.associations, timeout=seconds)
        self._server.stop(seconds)
        if self._pool is not None:
            self._pool.close(WORKERS_WAIT)
        self._store.close()
        self._trail.stopped(has_fault=self._server.has_fault)
        self._resources.close()  # which writes the DICOMDIRs, and tells the trail
        self._log.info("receiver.stopped")

    def _opened(self, reading: Reading, *, tls_may_wait: bool = False) -> tuple[Store, Shared]:
        """A store, open, and what connections to it get."""
        store = wiring.store_of(reading.settings)
        try:
            removed = store.open()
        except OSError as error:
            store.close()
            raise _NotStarted(wiring.as_written(f"{error.filename}: {reason_of(error)}")) from None
        if removed:
            self._log.warning("store.cleared", unfinished_objects=removed, of="a run that did not end by itself")
        with _closed_on_failure(store), reading.configuration.locating():
            wiring.require_index(reading.configuration)
            if self._pool is not None:  # also where the ini has another number by now
                wiring.require_new_association(reading.settings)
            follow_up = self._follow_up_for(reading)
            return store, shared_of(
                reading.settings,
                store,
                self._log,
                _accepted(reading),
                self._updater_for(reading),
                self._trail,
                follow_up.index if follow_up is not None else None,
                follow_up.commitment if follow_up is not None else None,
                tls_may_wait=tls_may_wait,
            )

    def _fix(self, settings: Settings, field_names: Iterable[str]) -> None:
        self._fixed |= {field_name: getattr(settings, field_name) for field_name in field_names}

    def _start_workers(self) -> None:
        if self._pool is None:
            return
        self._resources.callback(self._pool.close, WORKERS_WAIT)
        self._pool.use(self._shared, self._reading.configuration, _accepted(self._reading))
        try:
            self._pool.start(self._server.seldom)
        except OSError as error:
            raise _NotStarted(f"workers= {self._reading.settings.workers}: {reason_of(error)}") from None

    def _updater_for(self, reading: Reading) -> FolderUpdater | None:
        """What keeps the DICOMDIRs, if any are wanted: made once, for its journal is one file."""
        if not wiring.wants_dicomdir(reading.settings):
            return None
        if self._updater is None:
            making = wiring.dicomdir_updater(reading.configuration, self._log, lambda: self._reading.settings)
            self._updater = self._resources.enter_context(making)
        return self._updater

    def _follow_up_for(self, reading: Reading) -> FollowUp | None:
        """What follows a store, if an index is wanted: made once, for it is one database."""
        if not reading.settings.index:
            wiring.forget_that_index_is_whole(reading.configuration)
            return None
        from dcmstore import follow_up  # which is much to load, so only where it is wanted

        follow_up.require(reading.configuration)
        if self._follow_up is None:
            self._fix(reading.settings, _FIXED_WITH_INDEX)
            self._follow_up = follow_up.FollowUp(
                reading.configuration,
                self._log,
                lambda: self._reading.settings,
                lambda: _accepted(self._reading),
                self._resources,
                lambda: self._pool is None or self._pool.have_told_all(CHECK_PATIENCE),
            )
        return self._follow_up

    def _hear(self, news: messages.News) -> None:
        """What workers have stored goes the way of what is stored here."""
        from dcmstore.workers import messages

        match news:
            case messages.InFolder(folder, path):
                if self._updater is not None:
                    self._updater.add(folder, path)
            case messages.ForTrail(peer, counts):
                self._trail.transferred(peer, counts)
            case _ if self._follow_up is None:
                return
            case messages.Began(association):
                self._follow_up.index.began(association)
            case messages.ForIndex(note):  # it came when it is heard of here, behind what was heard before
                self._follow_up.index.add(note._replace(at=time.monotonic()))
            case messages.Ended(association):
                self._follow_up.index.ended(association)
            case messages.Promised():
                self._follow_up.wake()
            case messages.Missed():
                self._follow_up.index.miss()
            case messages.Gone(process, is_orderly):
                self._follow_up.ended_all(process)
                if not is_orderly:
                    self._follow_up.index.miss()

    def _start_index(self) -> None:
        """It reads much that nobody should wait for, so its thread starts when the receiver listens."""
        if self._follow_up is not None:
            self._follow_up.start()

    # --- while it runs ----------------------------------------------------------------------------

    def _reload(self) -> None:
        """Read the settings again; when they can't be used, those that are in force stay."""
        self._host.reloading()
        try:
            reading = read(self._path)
            wiring.apply_permissions(reading.settings)  # before files are made by them
            with self._all_or_nothing(), contextlib.ExitStack() as opened:
                sinks = wiring.log_sinks(reading.configuration, with_console=self._with_console)
                for sink in sinks:
                    opened.enter_context(contextlib.closing(sink))
                audit_sink = wiring.audit_sink(reading.configuration)
                if audit_sink is not None:
                    opened.enter_context(contextlib.closing(audit_sink))
                self._replace(reading)
                opened.pop_all()
        except (ConfigurationError, _NotStarted, OSError) as problem:
            wiring.apply_permissions(self._reading.settings)
            self._log.error("config.not_reloaded", reason=problem, in_force="the settings from before")
            self._host.ready(self._status())
            return
        self._log.use(sinks, reading.settings.log_level)
        self._trail.use(wiring.reporter_of(reading.settings), audit_sink)
        changed = _changes(self._reading, reading, self._fixed)
        self._reading = reading
        self._warn(reading)
        for field_name, value in self._fixed.items():
            if (new := getattr(reading.settings, field_name)) != value:
                key = KEYS[field_name].name
                text = f"{key}= {shown(new)} counts from the next start; until then it is {shown(value) or 'empty'}"
                self._log.warning("config.warning", text=text)
        self._announce("config.reloaded", changed=", ".join(changed) or "nothing")
        self._start_index()
        if self._follow_up is not None and KEYS["index"].name in changed:
            self._follow_up.index.miss()

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """What is made for settings that are then refused, is ended again."""
        before = self._updater, self._follow_up, dict(self._fixed), self._resources
        self._resources = contextlib.ExitStack()
        try:
            yield
        except BaseException:
            made = self._resources
            self._updater, self._follow_up, self._fixed, self._resources = before
            made.close()
            raise
        made, self._resources = self._resources, before[-1]
        self._resources.push(made)

    def _replace(self, reading: Reading) -> None:
        store, shared = self._opened(reading)
        with _closed_on_failure(store), _port_problems(reading), self._told(shared, reading):
            self._server.apply(reading.settings, shared, partial(self._retire, self._store, self._shared))
        self._store, self._shared = store, shared

    @contextlib.contextmanager
    def _told(self, shared: Shared, reading: Reading) -> Iterator[None]:
        """The workers know these settings, unless nothing comes of them."""
        if self._pool is None:
            yield
            return
        self._pool.use(shared, reading.configuration, _accepted(reading))
        try:
            yield
        except BaseException:
            self._pool.retire(shared)
            raise

    def _retire(self, store: Store, shared: Shared) -> None:
        """Nobody has these settings any more."""
        if self._pool is None:
            store.close()
            return
        # Who calls is the thread that hears a worker; neither a slow share nor another worker may keep it from that.
        beside(partial(_retire, self._pool, store, shared), "retiring")

    def _check(self) -> None:
        if self._pool is not None:
            self._pool.require_answers(CHECK_PATIENCE)
        if self._server.answers(CHECK_PATIENCE):
            self._host.alive(self._status())

    # --- what is told -----------------------------------------------------------------------------

    def _warn(self, reading: Reading) -> None:
        for warning in reading.warnings:
            self._log.warning("config.warning", text=warning)
        if problem := needs.raise_open_files(reading.settings):
            self._log.warning("config.warning", text=problem)

    def _announce(self, event: str, **facts: object) -> None:
        settings, in_force = self._reading.settings, self._reading.profile
        self._log.info(
            event,
            **facts,
            ae=settings.local_ae,
            port=None if settings.tls_only else self._server.address[1],
            tls_port=settings.tls_port or None,
            images=settings.img_dir,
            rdsr=settings.rdsr_dir,
            profile=in_force.name if in_force else None,
        )
        self._host.ready(self._status())

    def _status(self) -> str:
        server = self._server
        return (
            f"{self._reading.settings.local_ae} on port {server.address[1]}, "
            f"{server.associations} associations open, {server.stored} objects stored"
        )


def beside(do: Callable[[], None], name: str) -> None:
    """On a thread of its own, or where the system gives no more of them, here."""
    try:
        threading.Thread(target=do, name=name, daemon=True).start()
    except RuntimeError:
        do()


def _retire(pool: Pool, store: Store, shared: Shared) -> None:
    pool.retire(shared)
    store.close()


@contextlib.contextmanager
def _closed_on_failure(store: Store) -> Iterator[None]:
    with contextlib.ExitStack() as opened:
        opened.callback(store.close)
        yield
        opened.pop_all()


@contextlib.contextmanager
def _port_problems(reading: Reading) -> Iterator[None]:
    """What the system has against a port or an address, in words."""
    try:
        with reading.configuration.locating():
            yield
    except CannotListen as problem:
        reason = needs.port_problem(problem.error, problem.port)
        raise _NotStarted(f"port {problem.port}: {reason}", needs.port_advice(problem.error)) from None


def _changes(before: Reading, after: Reading, fixed: Collection[str]) -> list[str]:
    """The keys whose values differ, without the fixed ones, and the file of profiles if what it accepts does."""
    changed = [
        key.name
        for field_name, key in KEYS.items()
        if field_name not in fixed and getattr(before.settings, field_name) != getattr(after.settings, field_name)
    ]
    if _accepted(before) != _accepted(after):
        changed.append(profile.FILE_NAME)
    return changed


def _accepted(reading: Reading) -> Mapping[str, tuple[str, ...]] | None:
    return reading.profile.sop_classes if reading.profile else None
