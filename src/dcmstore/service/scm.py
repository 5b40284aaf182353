"""a verb -> what the Service Control Manager of Windows is asked to do for it, and what came of it."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from dcmstore import config, ports, wiring
from dcmstore.config import Configuration
from dcmstore.server import endpoints_of
from dcmstore.service import SERVICE_NAME, manager, windows_rights, windows_setup, winsvc
from dcmstore.service.advapi import CallError, Progress, Setup
from dcmstore.service.log_end import LogEnd
from dcmstore.service.manager import (
    DISPLAY_NAME,
    Action,
    InstallOptions,
    NotAtWork,
    Plan,
    ServiceError,
    State,
    Status,
)
from dcmstore.service.windows_machine import Machine, Record, this_machine
from dcmstore.service.windows_words import STATES, by_ini, endpoints, in_words, left, why_stopped
from dcmstore.settings import Settings

PATIENCE = 30.0  # seconds without a sign of life, as Windows itself waits
PAUSE = 0.2  # seconds between two looks
GONE_PATIENCE = 5.0  # seconds until a deleted service is gone

_GOES_ON = (
    f"Windows starts it again and again, at least every {max(windows_setup.RESTARTS)} seconds; "
    "`dcmstore service delete` ends that"
)


class WindowsManager:
    """The service of dcmstore on this machine. Whoever may not change it can still look, and have plans shown."""

    def __init__(self, machine: Machine | None = None) -> None:
        self._machine = machine or this_machine()
        self._advapi = self._machine.advapi

    # --- plans ------------------------------------------------------------------------------------

    def install(self, configuration: Configuration, options: InstallOptions) -> Plan:
        """Where it is installed already, it gets what its ini needs since then: rights, and the firewall's rule.

        What its ini does not need any more is taken from it only when it is stopped: else it is at work with just that.
        """
        machine = self._machine
        ini, account = os.path.abspath(configuration.path), windows_rights.account_named(options.account)
        wanted = Setup(machine.program.command_line(ini), account, DISPLAY_NAME)
        before, record = self._found(), self._record()
        actions: list[Action] = []
        if before is None:
            actions += windows_setup.creation(machine, wanted)
            done = (
                f"installed: it runs as {account} and starts with the machine; `dcmstore service start` starts it now"
            )
            is_at_work = False
        else:
            windows_setup.require_same(before, wanted, with_account=bool(options.account))
            account = before.account
            done = "it was installed already, and has what its ini needs now"
            is_at_work = self._progress().state != winsvc.SERVICE_STOPPED
        wanted_record = self._wanted_record(configuration, with_firewall=options.firewall or bool(record.ports))
        after = record | wanted_record if is_at_work else wanted_record
        actions += windows_setup.renewal(machine, record, after)
        roots = {root.value: folder for root, folder in wiring.roots_of(configuration.settings).items()}
        advice = [
            *windows_setup.kept(after, wanted_record),
            *map(str, windows_rights.remote_roots(roots, account, machine.is_remote)),
        ]
        if not actions:
            raise ServiceError("\n".join([f"already installed, for {ini}", *advice]))
        if is_at_work:
            done += "; it runs by the ini that it has read: `dcmstore reload` lets it read this one"
        return Plan(tuple(actions), "\n".join([done, *advice]))

    def start(self) -> Plan:
        ini = self._require_ours()
        if self._progress().state == winsvc.SERVICE_RUNNING:
            raise ServiceError("; ".join(["already running", *by_ini(ini)]))
        configuration = config.read(ini)  # a mistake in it is told here, not found in the log
        outdated = self._outdated(configuration)
        start = functools.partial(self._start, configuration, outdated)
        return self._plan(f"StartServiceW {SERVICE_NAME}, and wait until it is running", start, outdated)

    def stop(self) -> Plan:
        self._require_ours()
        progress = self._progress()
        if progress.state == winsvc.SERVICE_STOPPED:
            reason = self._why_stopped(progress)
            raise ServiceError(f"already stopped: {reason}; {_GOES_ON}" if reason else "already stopped")
        return Plan((self._stopping(),), manager.STOPPED)

    def delete(self) -> Plan:
        ini = self._require_ours()
        is_stopped = self._progress().state == winsvc.SERVICE_STOPPED
        actions = [
            *([] if is_stopped else [self._stopping()]),
            *windows_setup.removal(self._machine, self._record()),
            Action("wait until it is gone", self._wait_until_gone),
        ]
        return Plan(tuple(actions), "\n".join(left(ini)))

    def reload(self) -> Plan:
        ini = self._require_ours()
        if self._progress().state != winsvc.SERVICE_RUNNING:
            raise NotAtWork(manager.NOT_RUNNING)
        configuration = manager.to_be_reloaded(ini)
        outdated = self._outdated(configuration)
        reload = functools.partial(self._reload, configuration, outdated)
        return self._plan(f"ControlService {SERVICE_NAME}, SERVICE_CONTROL_PARAMCHANGE", reload, outdated)

    def _plan(self, text: str, do: Callable[[], str], notes: list[str]) -> Plan:
        return Plan((self._action(text, do),), "\n".join(notes))

    def _action(self, text: str, do: Callable[[], str]) -> Action:
        def in_our_words() -> str:
            with in_words(self._machine.words_of):
                return do()

        return Action(text, in_our_words)

    def _stopping(self) -> Action:
        return self._action(
            f"ControlService {SERVICE_NAME}, SERVICE_CONTROL_STOP, and wait until it is stopped", self._stop
        )

    # --- looks ------------------------------------------------------------------------------------

    def query(self) -> Status:
        setup = self._found()
        if setup is None:
            return Status(State.NOT_INSTALLED)
        ini, progress = windows_setup.ini_of(setup), self._progress()
        facts = [] if ini else [f"not dcmstore's: {setup.command_line}"]
        facts += list(self._facts(progress, ini))
        facts.append(f"runs as {setup.account}")
        return Status(STATES.get(progress.state, State.STOPPED), ini, tuple(facts))

    def _facts(self, progress: Progress, ini: Path | None) -> Iterator[str]:
        if progress.state == winsvc.SERVICE_RUNNING and ini:
            yield from by_ini(ini)
        if progress.process:
            since = self._machine.since(progress.process)
            yield f"process {progress.process}" + (f", since {since}" if since else "")
        if progress.state == winsvc.SERVICE_STOPPED and (reason := self._why_stopped(progress)):
            yield f"{reason}; {wiring.LOG_NAME} beside the ini says more. {_GOES_ON}"

    def outdated(self) -> list[str]:
        return self._outdated(config.read(self._require_ours()))

    def _found(self) -> Setup | None:
        """How it is installed, if it is."""
        with in_words(self._machine.words_of):
            try:
                return self._advapi.setup(SERVICE_NAME)
            except CallError as error:
                if error.code != winsvc.ERROR_SERVICE_DOES_NOT_EXIST:
                    raise
                return None

    def _progress(self) -> Progress:
        with in_words(self._machine.words_of):
            return self._advapi.progress(SERVICE_NAME)

    def _record(self) -> Record:
        with in_words(self._machine.words_of):
            return self._machine.records.read()

    def _wanted_record(self, configuration: Configuration, *, with_firewall: bool) -> Record:
        machine = self._machine
        grants = windows_rights.grants(configuration, machine.program.folders, machine.is_remote)
        opened = windows_rights.ports_of(configuration.settings) if with_firewall else ""
        shutdown = windows_setup.shutdown_seconds(configuration.settings)
        return Record(tuple((grant.path, grant.rights) for grant in grants), opened, shutdown)

    def _outdated(self, configuration: Configuration) -> list[str]:
        """What to do when the ini needs more than `install` has seen to."""
        record = self._record()
        if record.covers(self._wanted_record(configuration, with_firewall=bool(record.ports))):
            return []
        return [
            "since the service was installed, its ini has other folders, files or ports, or a longer stop-timeout: "
            "`dcmstore service install` once more sees to them"
        ]

    def _why_stopped(self, progress: Progress) -> str:
        return why_stopped(progress, self._machine.words_of)

    def _require_installed(self) -> Setup:
        setup = self._found()
        if setup is None:
            raise NotAtWork(manager.NOT_INSTALLED)
        return setup

    def _require_ours(self) -> Path:
        """The ini of the installed service."""
        setup = self._require_installed()
        ini = windows_setup.ini_of(setup)
        if ini is None:
            raise ServiceError(windows_setup.foreign(setup))
        return ini

    # --- what plans do ----------------------------------------------------------------------------

    def _start(self, configuration: Configuration, notes: list[str]) -> str:
        log = LogEnd(configuration.path.parent / wiring.LOG_NAME)
        if self._progress().state == winsvc.SERVICE_STOP_PENDING:
            self._wait(winsvc.SERVICE_STOPPED)
        try:
            self._advapi.start(SERVICE_NAME)
        except CallError as error:
            if error.code != winsvc.ERROR_SERVICE_ALREADY_RUNNING:  # Windows was quicker, after a failure
                raise
        progress = self._wait(winsvc.SERVICE_RUNNING, winsvc.SERVICE_STOPPED)
        if progress.state == winsvc.SERVICE_STOPPED:
            reasons = self._why_not_started(progress, configuration.settings, log)
            raise ServiceError("\n".join([*reasons, *notes, _GOES_ON]))
        return f"running: {endpoints(configuration.settings)}"

    def _why_not_started(self, progress: Progress, settings: Settings, log: LogEnd) -> Iterator[str]:
        failure = log.newest("receiver.failed")
        if failure:
            _, facts = failure
            yield "; ".join([f"did not start: {facts.get('reason')}", *filter(None, [facts.get("what_to_do")])])
        else:
            reason = self._why_stopped(progress) or "it ended at once"
            no_log = "" if settings.logfile else ". With logfile= 1 the log says why"
            yield f"did not start: {reason}; `dcmstore check` looks for what is missing{no_log}"
            for endpoint in endpoints_of(settings):
                if owner := ports.owner_of(endpoint.port):
                    yield f"port {endpoint.port} is taken by {owner}"

    def _stop(self) -> str:
        if self._wait(*STATES.keys() - {winsvc.SERVICE_START_PENDING}).state == winsvc.SERVICE_RUNNING:
            try:
                self._advapi.control(SERVICE_NAME, winsvc.SERVICE_CONTROL_STOP, winsvc.SERVICE_STOP)
            except CallError as error:
                if error.code != winsvc.ERROR_SERVICE_NOT_ACTIVE:  # it has just ended by itself
                    raise
        self._wait(winsvc.SERVICE_STOPPED)
        return ""

    def _reload(self, configuration: Configuration, notes: list[str]) -> str:
        log = LogEnd(configuration.path.parent / wiring.LOG_NAME)
        self._advapi.control(SERVICE_NAME, winsvc.SERVICE_CONTROL_PARAMCHANGE, winsvc.SERVICE_PAUSE_CONTINUE)
        deadline = self._machine.clock() + manager.RELOAD_PATIENCE
        while self._machine.clock() < deadline:
            if answer := log.newest("config.reloaded", "config.not_reloaded"):
                event, facts = answer
                if event == "config.not_reloaded":
                    refused = f"not reloaded: {facts.get('reason')}; {facts.get('in_force')} stay in force"
                    raise ServiceError("\n".join([refused, *notes]))
                return f"reloaded; changed: {facts.get('changed')}"
            self._machine.pause(PAUSE)
        return manager.NO_ANSWER

    def _wait(self, *ends: int) -> Progress:
        """Until it is in one of these states, as long as it gives signs of life. Raises ServiceError."""
        seen, deadline = None, 0.0
        while True:
            progress = self._progress()
            if progress.state in ends:
                return progress
            if progress != seen:
                seen, deadline = progress, self._machine.clock() + PATIENCE
            elif self._machine.clock() >= deadline:
                state = STATES[progress.state].value
                raise ServiceError(
                    f"{state} for {PATIENCE:g} seconds without a sign of life; see {wiring.LOG_NAME}, or end the "
                    f"process {progress.process} in the Task Manager"
                )
            self._machine.pause(PAUSE)

    def _wait_until_gone(self) -> str:
        deadline = self._machine.clock() + GONE_PATIENCE
        while self._found() is not None:
            if self._machine.clock() >= deadline:
                return "Windows deletes it as soon as no window shows it any more: close Services and the Task Manager"
            self._machine.pause(PAUSE)
        return ""
