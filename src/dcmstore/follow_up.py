"""settings -> what follows a store in a receiver with an index: studies, jobs, and those that do them.

Everything here is behind the acknowledgement. The index's thread makes jobs of what came, `runner` has them done.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from dcmstore import commitment, hooks, needs, wiring
from dcmstore.afterwards import Afterwards, Planner
from dcmstore.commitment.checking import Checker
from dcmstore.commitment.handler import CommitmentHandler
from dcmstore.commitment.line import Lines
from dcmstore.commitment.promises import Promises
from dcmstore.commitment.reporting import Reporter, Way
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError
from dcmstore.events import process_of
from dcmstore.forwarding import peers, planning
from dcmstore.forwarding.sending import ForwardHandler
from dcmstore.hooks import checking
from dcmstore.hooks import lines as hook_lines
from dcmstore.hooks import planning as hook_planning
from dcmstore.hooks.command import CommandHandler
from dcmstore.hooks.copying import CopyHandler
from dcmstore.hooks.lines import Hook
from dcmstore.hooks.webhook import WebhookHandler
from dcmstore.jobs.runner import Runner
from dcmstore.jobs.work import Facts, Handler, Job
from dcmstore.logs import Log
from dcmstore.services.commitment import CommitmentService
from dcmstore.settings import Settings
from dcmstore.storage import files
from dcmstore.studies.associations import Associations
from dcmstore.ul import negotiation
from dcmstore.values import NotAllowed

if TYPE_CHECKING:
    from dcmstore.index.indexer import Indexer
    from dcmstore.studies.tracker import Tracker

CLOSE_WAIT = 10.0  # seconds that jobs in hand get to end; what does not is done again
_LEVELS = {"queue.failed": "error", "job.dead": "error", "job.fault": "error", "job.failed": "warning"}
_LEVELS |= {"queue.damaged": "error", "job.not_made": "error"}
_LEVELS |= {"job.done": "debug", "commitment.failed": "warning", "forward.warned": "warning"}

RETURNS = "{} is this receiver itself, which would get again what it sends; allowed is the address of another AE"
_EVENTS = {"on_stored": hooks.STORED, "on_study_complete": hooks.STUDY_COMPLETE}  # the fields that have hooks

_InForce: TypeAlias = Callable[[], Settings]


class _Closing(Handler, Protocol):
    """A handler that lets go of what it has in hand."""

    def close(self) -> None: ...


class FollowUp:
    """What follows a store; `index` is told of each. `start` it when the receiver listens."""

    def __init__(
        self,
        configuration: Configuration,
        log: Log,
        settings_in_force: _InForce,
        sop_classes: Callable[[], Mapping[str, tuple[str, ...]] | None],
        resources: contextlib.ExitStack,
        has_heard_all: Callable[[], bool],
    ) -> None:
        """`sop_classes` are those that a profile alone accepts. `resources` ends it. Raises ConfigurationError.

        `has_heard_all` says whether `index` was told of all that was stored up to now, also by other processes.
        """
        self._log = log
        self._settings = settings_in_force
        self._sop_classes = sop_classes
        self._configuration = configuration
        self._has_heard_all = has_heard_all
        self._stopping = threading.Event()
        self._path = str(wiring.queue_path_of(configuration))
        self._like = os.path.dirname(self._path)
        self._associations = Associations()
        self._afterwards = self._made_afterwards()
        self.index: Indexer = resources.enter_context(
            wiring.indexer(configuration, log, settings_in_force, follower=self._afterwards)
        )
        self.commitment, handler = self._made_commitment()
        self._handlers = self._made_handlers(configuration.settings)
        all_handlers: dict[str, Handler] = {**self._handlers, commitment.JOB_KIND: handler}
        self._runner = Runner(self._path, all_handlers, self._report, like=self._like)
        resources.callback(self._end_jobs)  # before the index: what it still makes is done at the next start

    def start(self) -> None:
        """Harmless when it has been called before."""
        self.index.start()
        self._runner.start()

    def wake(self) -> None:
        """Another process has put jobs into the queue. For any thread; never waits."""
        self._runner.wake()

    def ended_all(self, process: int) -> None:
        """Those of a process that is gone."""
        self._associations.ended_of(lambda association: process_of(association) == process)

    def _end_jobs(self) -> None:
        self._runner.close(CLOSE_WAIT, self._let_go)

    def _let_go(self) -> None:
        self._stopping.set()
        for handler in self._handlers.values():
            handler.close()

    def _report(self, event: str, /, **facts: object) -> None:
        getattr(self._log, _LEVELS.get(event, "info"))(event, **facts)

    # --- what is made ----------------------------------------------------------------------------

    def _made_afterwards(self) -> Afterwards:
        return Afterwards(
            self._path,
            self._like,
            self._associations,
            self._new_tracker,
            lambda: self._settings().study_quiet,
            partial(planners_of, self._settings),
            self._root_key,
            lambda: self._runner.wake(),
            lambda: self._runner.doubt(),
            lambda: self._runner.is_doubted,
            self._report,
        )

    def _new_tracker(self) -> Tracker:
        from dcmstore.studies.tracker import Tracker

        return Tracker(self._settings().study_quiet, self._root_key, self._associations)

    def _made_handlers(self, settings: Settings) -> dict[str, _Closing]:
        as_system = wiring.long_path if files.IS_WINDOWS else str
        return {
            hooks.COMMAND: CommandHandler(settings.hook_timeout, shows_patient=lambda: self._settings().log_patient),
            hooks.WEBHOOK: WebhookHandler(settings.webhook_secret),
            hooks.COPY: CopyHandler(as_system),
            planning.KIND: ForwardHandler(
                lambda: self._settings().local_ae,
                lambda: peers.by_ae_title(self._settings().peers),
                self._report,
                system_path=as_system,
            ),
        }

    def _made_commitment(self) -> tuple[CommitmentService, CommitmentHandler]:
        lines = Lines()
        reporter = Reporter(
            lambda: self._settings().local_ae,
            lambda: Way.of(self._settings().storage_commitment),
            lambda ae_title: peers.by_ae_title(self._settings().peers).get(ae_title),
            lines,
        )
        promises = Promises(self._path, self._like, self.wake, lambda: self._runner.doubt())
        service = CommitmentService(promises.add, reporter.obstacle, lines)
        checker = Checker(
            lambda: wiring.index_database(self._configuration),
            lambda: wiring.index_roots(self._settings()),
            lambda: self._has_heard_all() and self.index.has_all,
            self._supports,
            self._stopping,
        )
        return service, CommitmentHandler(checker, reporter, self._report, self._committed)

    def _committed(self, studies: Mapping[tuple[str, str], Collection[str]]) -> None:
        """Commitment was asked for these instances; what was asked for is a word on how many a study has."""
        from dcmstore.jobs.queue import Queue
        from dcmstore.studies import rows

        with contextlib.closing(Queue(self._path, like=self._like)) as queue, queue.transaction() as connection:
            for key, sop_instance_uids in studies.items():
                rows.committed(connection, key, sop_instance_uids)

    def _supports(self, sop_class: str) -> bool:
        policy = wiring.negotiation_policy_of(self._settings(), self._sop_classes())
        return negotiation.is_supported(sop_class, policy)

    def _root_key(self, folder: str) -> str:
        named = {os.fspath(path): root for root, path in wiring.roots_of(self._settings()).items()}
        return wiring.ROOT_KEYS.get(named[folder], "") if folder in named else ""


def planners_of(settings_in_force: _InForce) -> Sequence[Planner]:
    """What makes jobs by these settings."""
    settings = settings_in_force()
    forwards = peers.forwards_of(settings.forward_to, peers.by_ae_title(settings.peers))
    by_event = {
        event: list(map(hook_lines.parse, getattr(settings, field_name))) for field_name, event in _EVENTS.items()
    }

    def plan_hooks(facts: Facts) -> Iterable[Job]:
        return hook_planning.jobs_for(by_event.get(str(facts["event"]), []), facts)

    return plan_hooks, partial(planning.jobs_for, forwards)


def hooks_of(configuration: Configuration) -> Iterator[tuple[str, str, Hook]]:
    """Where each hook stands, as errors about it begin, its event, and itself."""
    for field_name, event in _EVENTS.items():
        for line, where in configuration.each(field_name):
            yield where, event, hook_lines.parse(line)


def mistakes(configuration: Configuration) -> Iterator[str]:
    """What is wrong with lines that could never do anything, each with its place and what is allowed."""
    settings = configuration.settings
    known = peers.by_ae_title(settings.peers)
    for line, where in configuration.each("forward_to"):
        try:
            peer = peers.forward_of(line, known).peer
        except NotAllowed as error:
            yield f"{where}: {error}"
            continue
        if needs.leads_back(settings, peer.host, peer.port):
            yield f"{where}: {RETURNS.format(peer)}"
    for where, event, hook in hooks_of(configuration):
        for text in checking.mistakes(hook, event, wiring.roots_of(settings).values()):
            yield f"{where}: {text}"


def require(configuration: Configuration) -> None:
    """Raise ConfigurationError where what is wanted behind a store could never be done."""
    settings = configuration.settings
    wiring.require_index(configuration)
    for text in mistakes(configuration):
        raise ConfigurationError(text)
    if settings.workers > 1:
        wiring.require_new_association(settings)
