"""Settings -> what the layers below take: folders, policies, a store, a log, what keeps the DICOMDIRs."""

import contextlib
import errno
import ntpath
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dcmstore import commitment, jobs, logs, rules, uids, users, values
from dcmstore.access import Access
from dcmstore.audit.messages import Reporter
from dcmstore.audit.sinks import AuditFile, Sink, Syslog
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.events import FolderUpdater
from dcmstore.hosts import HostRule, host_rule
from dcmstore.settings import Settings
from dcmstore.storage import files
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.space import MEGABYTE, SizeLimits
from dcmstore.storage.store import Duplicates, Store
from dcmstore.tls.context import TlsSettings
from dcmstore.tls.renewal import Renewal
from dcmstore.ul.negotiation import Policy

if TYPE_CHECKING:
    from dcmstore.index.database import Database
    from dcmstore.index.entries import Root as IndexedRoot
    from dcmstore.index.indexer import Follower, Indexer

LOG_NAME = "DcmStore.log"
AUDIT_NAME = "DcmStore.audit"
JOURNAL_NAME = "DcmStore.dicomdir"  # DICOMDIRs that are still to be written
IMPORT_JOURNAL_NAME = "DcmStore-import.dicomdir"  # those of an import beside the receiver
INDEX_NAME = "DcmStore.index"
INDEX_PATIENCE = 5.0  # seconds to enter what is noted at the end; what is left, the next start finds
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a disk or a quota says that has no room
ROOT_KEYS = {Root.IMAGES: rules.IMAGES, Root.DOSE_REPORTS: rules.DOSE_REPORTS}
_COMMITMENT = {commitment.SOP_CLASS: (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)}
ROOT_FIELDS = {Root.IMAGES: "img_dir", Root.DOSE_REPORTS: "rdsr_dir"}

# In front of a path, they tell Windows to take it as it is and of any length, else it stops at 260 characters.
_LONG, _LONG_UNC = "\\\\?\\", "\\\\?\\UNC\\"


def roots_of(settings: Settings) -> dict[Root, Path]:
    return {root: getattr(settings, field_name) for root, field_name in ROOT_FIELDS.items()}


def filing_policy_of(settings: Settings) -> FilingPolicy:
    return FilingPolicy(
        folder_tree=settings.folder_tree,
        order_by_patient_id=settings.order_by_patient_id,
        order_by_study=settings.order_by_study,
        order_by_series=settings.order_by_series,
        rdsr_tree=settings.rdsr_tree,
        sr_sub=settings.sr_sub,
        image_name_index=settings.image_name_index,
        media_names=settings.dicomdir,
        split_collisions=settings.split_collisions,
    )


def apply_permissions(settings: Settings) -> None:
    """From now on files and folders of this process are made with the permissions of the ini."""
    os.umask(settings.permissions.umask)


def store_of(settings: Settings) -> Store:
    to_system = long_path if files.IS_WINDOWS else str
    return Store(
        {root: to_system(os.fspath(folder)) for root, folder in roots_of(settings).items()},
        filing_policy_of(settings),
        durable=settings.durable,
        duplicates=Duplicates(settings.duplicates),
        limits=SizeLimits(settings.max_object_size * MEGABYTE, settings.min_free_space * MEGABYTE),
    )


def negotiation_policy_of(settings: Settings, profile: Mapping[str, tuple[str, ...]] | None) -> Policy:
    """`profile` is what alone is accepted, as Policy has it."""
    return Policy(
        ae_title=settings.local_ae,
        max_length_received=settings.max_pdu,
        check_called_ae_title=settings.check_called_ae,
        accept_unknown=settings.accept_unknown,
        prefer_syntax=settings.prefer_syntax,
        profile=profile,
        others={} if settings.storage_commitment == "off" else _COMMITMENT,
    )


def access_of(settings: Settings) -> Access:
    """Who may send. Raises ConfigurationError when the users that it takes can't be known."""
    if settings.require_user and settings.users is None:
        advice = "set users= to a file that `dcmstore user add NAME` writes"
        raise ConfigurationError(f"require-user= 1: there are no users; {advice}")
    ae_titles: dict[str, tuple[HostRule, ...]] = {}
    for ae_title, host in map(values.split_ae, settings.allowed_ae):
        known = ae_titles.get(ae_title)
        anywhere = not host or known == ()  # `CT1` beside `CT1@host` allows it everywhere
        ae_titles[ae_title] = () if anywhere else (*(known or ()), host_rule(host))
    return Access(
        hosts=tuple(map(host_rule, settings.allowed_hosts)),
        ae_titles=ae_titles,
        certificates=dict(values.split_ae(item, ":") for item in settings.tls_names),
        users=_users_of(settings),
        requires_user=settings.require_user,
    )


def _users_of(settings: Settings) -> users.Users | None:
    if settings.users is None:
        return None
    try:
        return users.read(settings.users)
    except ConfigurationError as error:
        raise ConfigurationError(f"users= {error}") from None


def tls_of(settings: Settings, log: logs.Log, *, may_wait: bool = False) -> Renewal | None:
    """What connections to `tls-port` are secured by, or None without one; as Renewal has it.

    Raises ConfigurationError.
    """
    tls_settings = tls_settings_of(settings)
    return Renewal(tls_settings, log, may_wait=may_wait) if tls_settings else None


def tls_settings_of(settings: Settings) -> TlsSettings | None:
    """Raises ConfigurationError for keys that contradict each other."""
    if not settings.tls_port:
        if settings.tls_only:
            raise ConfigurationError("tls-only= 1: allowed is 0, for there is no tls-port; DICOM's own is 2762")
        return None
    if settings.tls_port == settings.port and not settings.tls_only:
        raise ConfigurationError(
            f"tls-port= {settings.tls_port}: is the same as port= {settings.port}; "
            "set one of them to another number, or tls-only= 1"
        )
    if settings.tls_certificate is None:
        raise ConfigurationError(f"tls-port= {settings.tls_port}: needs a tls-certificate, a file in PEM")
    return TlsSettings(
        certificate=settings.tls_certificate,
        key=settings.tls_key,
        ca=settings.tls_ca,
        crl=settings.tls_crl,
        client=settings.tls_client,
        profile=settings.tls_profile,
        names=dict(values.split_ae(item, ":") for item in settings.tls_names),
    )


def log_path_of(configuration: Configuration) -> Path | None:
    return _beside(configuration, LOG_NAME) if configuration.settings.logfile else None


def audit_path_of(configuration: Configuration) -> Path | None:
    return _beside(configuration, AUDIT_NAME) if configuration.settings.audit == "file" else None


def journal_path_of(configuration: Configuration) -> Path | None:
    return _beside(configuration, JOURNAL_NAME) if wants_dicomdir(configuration.settings) else None


def _beside(configuration: Configuration, name: str) -> Path:
    return configuration.path.absolute().parent / name


def unwritable(configuration: Configuration, setting: str, path: Path, error: OSError) -> ConfigurationError:
    """What is wrong with a file beside the ini that a setting, given as `key= value`, asks for."""
    problem = f"{setting}: {path} can't be written: {reason_of(error)}; {advice_on_writing(error)}"
    return ConfigurationError(configuration.located(problem))


def advice_on_writing(error: OSError) -> str:
    """What to do where a file can't be made or written."""
    if error.errno in FULL:
        return "make room on that disk"
    if error.errno == errno.EROFS:
        return "mount that disk for writing, or name another place"
    if isinstance(error, PermissionError):
        return "let the user that runs dcmstore write there, or name another place"
    return "see to that disk or share, or name another place"


def open_log(configuration: Configuration, name: str = LOG_NAME, *, with_console: bool = True) -> logs.Log:
    """The console, and a file beside the ini if it is asked for. Raises ConfigurationError."""
    return logs.Log(log_sinks(configuration, name, with_console=with_console), configuration.settings.log_level)


def log_sinks(configuration: Configuration, name: str = LOG_NAME, *, with_console: bool = True) -> list[logs.Sink]:
    """Where `open_log` writes. Raises ConfigurationError."""
    settings = configuration.settings
    sinks = logs.stderr_sinks() if with_console else []
    if settings.logfile:
        path = _beside(configuration, name)
        try:
            sinks.append(logs.FileSink(path, settings.logfile_size * MEGABYTE, settings.logfile_keep))
        except OSError as error:
            raise unwritable(configuration, "logfile= 1", path, error) from None
    return sinks


def reporter_of(settings: Settings) -> Reporter:
    return Reporter(settings.local_ae, socket.gethostname(), os.getpid())


def audit_sink(configuration: Configuration) -> Sink | None:
    """Where the audit trail goes, or None where it is off. Raises ConfigurationError."""
    settings = configuration.settings
    if settings.audit == "syslog":
        with configuration.locating():
            return Syslog(settings.audit_syslog)
    path = audit_path_of(configuration)
    if path is None:
        return None
    try:
        return AuditFile(path, settings.logfile_size * MEGABYTE, settings.logfile_keep)
    except OSError as error:
        raise unwritable(configuration, "audit= file", path, error) from None


def wants_dicomdir(settings: Settings) -> bool:
    return settings.dicomdir and settings.folder_tree


@contextlib.contextmanager
def dicomdir_updater(
    configuration: Configuration,
    log: logs.Log,
    settings_in_force: Callable[[], Settings],
    journal_name: str = JOURNAL_NAME,
) -> Iterator[FolderUpdater]:
    """What keeps the DICOMDIRs as long as the context lasts; the journal is its own. Raises ConfigurationError."""
    from dcmstore import dicomdir  # and with it pydicom, which nobody else needs

    dicomdir.require()

    def report(event: str, **facts: object) -> None:
        (log.warning if event == "dicomdir.failed" else log.info)(event, **_as_logged(facts, settings_in_force()))

    journal = _beside(configuration, journal_name)
    try:
        updater = dicomdir.Updater(str(journal), report)
    except OSError as error:
        raise unwritable(configuration, "dicomdir= 1", journal, error) from None
    updater.start()
    try:
        yield updater
    finally:
        if updater.close(settings_in_force().stop_timeout):
            journal.unlink(missing_ok=True)


def _as_logged(facts: Mapping[str, object], settings: Settings) -> dict[str, object]:
    """The master folder bears the patient's name or ID; the log shows it only where it is asked to."""
    shown = facts if settings.log_patient else {**facts, "folder": "*"}
    return {name: as_written(value) if isinstance(value, str) else value for name, value in shown.items()}


# --- the index -----------------------------------------------------------------------------------


def index_path_of(configuration: Configuration) -> Path:
    """Where it is, or would be."""
    return _beside(configuration, INDEX_NAME)


def require_index(configuration: Configuration) -> None:
    """Raise ConfigurationError where something is wanted that needs the index, and there is none."""
    settings = configuration.settings
    if settings.index:
        return
    advice = "needs index= 1, which is 0; set that to 1"
    for field_name in ("on_stored", "on_study_complete", "forward_to"):
        for _, where in configuration.each(field_name):
            raise ConfigurationError(f"{where}: {advice}, or remove this line")
    if settings.storage_commitment != "off":
        text = f"storage-commitment= {settings.storage_commitment}: {advice}, or set it to off"
        raise ConfigurationError(configuration.located(text))


def require_new_association(settings: Settings) -> None:
    """Raise ConfigurationError where reports of commitment may have to go on an association that a worker has."""
    if settings.storage_commitment == "same":
        raise ConfigurationError("storage-commitment= same: allowed is new, or off, while several workers= receive")


def queue_path_of(configuration: Configuration) -> Path:
    """Where the queue of jobs is, or would be."""
    return _beside(configuration, jobs.FILE_NAME)


def index_roots(settings: Settings) -> "list[IndexedRoot]":
    """The root folders as the index has them; one that is in another is walked as its own."""
    from dcmstore.index.entries import Root as IndexedRoot  # which no receiver without an index needs

    to_system = long_path if files.IS_WINDOWS else str
    folders = {os.fspath(folder): to_system(os.fspath(folder)) for folder in roots_of(settings).values()}
    return [
        IndexedRoot(name, system, tuple(other for other in folders.values() if other != system))
        for name, system in folders.items()
    ]


def forget_that_index_is_whole(configuration: Configuration) -> None:
    """What is stored without the index, it will lack: who keeps it next is to look for that."""
    from dcmstore.index import mark

    with contextlib.suppress(OSError):  # in a folder that can't be written, no index is kept either
        mark.of(str(index_path_of(configuration))).take()


@contextlib.contextmanager
def indexer(
    configuration: Configuration,
    log: logs.Log,
    settings_in_force: Callable[[], Settings],
    *,
    follower: "Follower | None" = None,
    keeps_whole: bool = True,
) -> "Iterator[Indexer]":
    """What keeps the index as long as the context lasts, as Indexer has it. Raises ConfigurationError."""
    from dcmstore import index
    from dcmstore.index.indexer import Indexer

    with configuration.locating():
        index.require("index= 1")
    tellers = {"index.failed": log.error, "index.behind": log.warning, "index.unread": log.warning}

    def report(event: str, **facts: object) -> None:
        if event == "index.unread":
            facts["root"] = as_written(str(facts["root"]))
            if not settings_in_force().log_patient:
                # The first folder names the patient, and may be all that there is; a file beside it has a UID.
                facts["path"] = re.sub(r"^(?![0-9.]+\.dcm$)[^/]+", "*", str(facts["path"]))
        tellers.get(event, log.info)(event, **facts)

    made = Indexer(
        str(index_path_of(configuration)),
        lambda: index_roots(settings_in_force()),
        report,
        follower=follower,
        keeps_whole=keeps_whole,
    )
    try:
        yield made
    finally:
        made.close(INDEX_PATIENCE)


@contextlib.contextmanager
def index_database(configuration: Configuration) -> "Iterator[Database]":
    """The index, for reading. Raises IndexTrouble."""
    from dcmstore.index.database import Database

    with contextlib.closing(Database(str(index_path_of(configuration)), may_write=False)) as database:
        yield database


@contextlib.contextmanager
def index_opened(configuration: Configuration) -> "Iterator[Database]":
    """The index, for reading. Raises ConfigurationError, also for what goes wrong with it meanwhile."""
    from dcmstore.index.database import IndexTrouble

    try:
        with index_database(configuration) as database:
            yield database
    except IndexTrouble as trouble:
        raise ConfigurationError(str(trouble)) from None


# --- long paths of Windows -----------------------------------------------------------------------


def long_path(path: str) -> str:
    """An absolute path of Windows with the prefix that lifts its limit of 260 characters; others as they are."""
    if path.startswith((_LONG, "\\\\.\\")):
        return path
    whole = ntpath.abspath(path)  # behind the prefix Windows resolves neither `..` nor slashes
    drive, rest = ntpath.splitdrive(whole)
    if drive.startswith("\\\\"):
        return _LONG_UNC + whole[2:]
    return _LONG + whole if drive and rest.startswith("\\") else path


def as_written(text: str) -> str:
    """A message with its paths as the user knows them: without what `long_path` puts in front."""
    return text.replace(_LONG_UNC, "\\\\").replace(_LONG, "")
