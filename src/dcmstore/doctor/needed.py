"""settings -> whether the machine has what `run` needs, the port aside; `dcmstore check` tells the same."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dcmstore import follow_up, index, needs, profile, values, wiring
from dcmstore.audit.sinks import LOCAL_LOG
from dcmstore.audit.syslog import THIS_SYSTEM
from dcmstore.config import Configuration
from dcmstore.doctor.findings import Finding, Kind, fail, note, ok
from dcmstore.errors import ConfigurationError, DcmStoreError, reason_of
from dcmstore.forwarding import peers
from dcmstore.hooks import checking
from dcmstore.hosts import host_rule
from dcmstore.profile import Profile
from dcmstore.settings import KEYS, Settings, shown
from dcmstore.storage import names
from dcmstore.storage.filing import Root
from dcmstore.storage.space import MEGABYTE
from dcmstore.tls import context

if TYPE_CHECKING:
    from dcmstore.sqlite import SqliteFile

GIGABYTE = 1024 * MEGABYTE
LOW_SPACE = GIGABYTE  # bytes left to use, below which it is time to make room
GLANCE_PATIENCE = 3.0  # seconds to wait for another process that is writing
MOST_THREADS = 16  # `num_threads` of the original

_About: TypeAlias = Callable[[str, object, str], str]  # field, value, text -> a line that names where it stands

_SR_SUB = {
    False: "every structured report goes into RDSR-DIR",
    True: "every structured report goes with the images",
}


def findings(configuration: Configuration, in_force: Profile | None) -> Iterator[Finding]:
    settings = configuration.settings
    for text in (*configuration.warnings, *notes(configuration), *(in_force.warnings if in_force else ())):
        yield note(text)
    yield ok(_what_is_accepted(in_force))
    if wiring.wants_dicomdir(settings):
        yield from _dicomdir_findings()
    for root, folder in wiring.roots_of(settings).items():
        yield _root_finding(configuration, root, folder)
    yield from map(fail, needs.file_problems(configuration))
    for look in _WIRED:
        try:
            with configuration.locating():
                found = list(look(configuration))
        except ConfigurationError as error:
            found = [fail(str(error))]
        yield from found
    if (allowed := needs.open_files_allowed()) is not None:
        is_fine, text = needs.open_files_finding(settings, allowed)
        yield Finding(Kind.OK if is_fine else Kind.FAIL, text)


def _dicomdir_findings() -> Iterator[Finding]:
    from dcmstore import dicomdir  # and with it pydicom, which nobody else needs

    try:
        dicomdir.require()
    except ConfigurationError as error:
        yield fail(str(error))


def _index_findings(configuration: Configuration) -> Iterator[Finding]:
    """The files that what follows a store needs."""
    if not configuration.settings.index:
        return
    index.require("index= 1")
    from dcmstore.index.database import Database  # and with it SQLAlchemy, which receivers without an index do without
    from dcmstore.jobs.queue import Queue

    asked_by = "`dcmstore list` and `dcmstore verify` ask it"
    yield _file_finding(configuration, "index", wiring.index_path_of(configuration), Database, asked_by)
    asked_by = "`dcmstore queue` and `dcmstore hooks` show what waits in it"
    yield _file_finding(configuration, "queue", wiring.queue_path_of(configuration), Queue, asked_by)


def _file_finding(
    configuration: Configuration, name: str, path: Path, open_file: "Callable[..., SqliteFile]", asked_by: str
) -> Finding:
    if problem := needs.file_problem(configuration, "index= 1", path):
        return fail(problem)
    if not path.exists() or not path.stat().st_size:
        return ok(f"{name} {path} is made when the receiver starts")
    try:
        open_file(str(path), may_write=False, patience=GLANCE_PATIENCE, is_glance=True).close()
    except DcmStoreError as trouble:
        return fail(f"{name} {trouble}")
    return ok(f"{name} {path} can be read and written: {asked_by}")


def _follow_up_findings(configuration: Configuration) -> Iterator[Finding]:
    settings = configuration.settings
    wiring.require_index(configuration)
    mistakes = list(follow_up.mistakes(configuration))
    yield from map(fail, mistakes)
    if not mistakes:
        yield from _forward_findings(configuration)
    hooks = list(follow_up.hooks_of(configuration))
    for where, _, hook in hooks:
        yield from (fail(f"{where}: {text}") for text in checking.lacks(hook, needs.unwritable))
        yield from (note(f"{where}: {text}") for text in checking.notes(hook, settings.webhook_secret))
    if problem := checking.secret_problem((hook for _, _, hook in hooks), settings.webhook_secret):
        yield fail(configuration.located(problem))


def _commitment_findings(configuration: Configuration) -> Iterator[Finding]:
    if configuration.settings.workers > 1:
        wiring.require_new_association(configuration.settings)
    return iter(())


def _forward_findings(configuration: Configuration) -> Iterator[Finding]:
    """What only shows when names are looked up, for which no start waits."""
    settings = configuration.settings
    known = peers.by_ae_title(settings.peers)
    for line, where in configuration.each("forward_to"):
        peer = peers.forward_of(line, known).peer
        if problem := _problem_with_name(peer.host):
            text = f"{where}: {peer.host} can't be looked up now ({problem}), and what is for it waits"
            yield note(text, "see to the name, or enter the address")
        elif needs.leads_back(settings, peer.host, peer.port, looks_up=True):
            yield fail(f"{where}: {follow_up.RETURNS.format(peer)}")


def _tls_findings(configuration: Configuration) -> Iterator[Finding]:
    tls_settings = wiring.tls_settings_of(configuration.settings)
    if tls_settings is None:
        return
    context.context_of(tls_settings)
    end = context.end_of(tls_settings)
    yield ok(f"tls-certificate {tls_settings.certificate} and its key can be used, until {end:%Y-%m-%d}")
    for text in context.notes_of(tls_settings):
        yield note(configuration.located(text))


def _access_findings(configuration: Configuration) -> Iterator[Finding]:
    settings = configuration.settings
    access = wiring.access_of(settings)
    if access.users is not None:
        count = len(access.users.names)
        text = f"users {settings.users}: {count} {'user' if count == 1 else 'users'}"
        who = "nobody may send" if settings.require_user else "who names a user is rejected"
        yield ok(text) if count else note(f"{text}: {who}", "`dcmstore user add NAME` adds one")
    hosts = dict.fromkeys(settings.allowed_hosts, "allowed_hosts")
    hosts |= {host: "allowed_ae" for _, host in map(values.split_ae, settings.allowed_ae) if host}
    for host, field_name in hosts.items():
        if isinstance(name := host_rule(host), str) and (problem := _problem_with_name(name)):
            key = KEYS[field_name].name
            text = f"{key}= {host}: this name can't be looked up now ({problem}), and its host is turned away"
            yield note(configuration.located(text), "see to the name, or enter the address")


def _problem_with_name(host: str) -> str:
    """Why a host has no address, or nothing."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        return reason_of(error)
    return ""


def _audit_findings(configuration: Configuration) -> Iterator[Finding]:
    settings = configuration.settings
    if settings.audit != "syslog":
        return
    sink = wiring.audit_sink(configuration)
    assert sink is not None
    sink.close()
    if settings.audit_syslog == THIS_SYSTEM and not os.path.exists(LOCAL_LOG):
        text = f"audit= syslog: this system has no {LOCAL_LOG}, and the audit trail is lost"
        yield note(configuration.located(text), "start its syslog, name a server in audit-syslog, or set audit= file")


# What `run` makes of the settings, made here as well; each may raise ConfigurationError.
_WIRED: tuple[Callable[[Configuration], Iterator[Finding]], ...] = (
    _tls_findings,
    _access_findings,
    _audit_findings,
    _index_findings,
    _follow_up_findings,
    _commitment_findings,
)


def _root_finding(configuration: Configuration, root: Root, folder: Path) -> Finding:
    if problem := needs.folder_problem(folder):
        return fail(needs.root_message(configuration, root, folder, problem))
    incoming = folder / names.INCOMING
    if os.path.lexists(incoming) and (problem := needs.folder_problem(incoming)):
        return fail(f"{incoming}, where objects under way are, {problem}")
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        problem = f"can't be looked at: {reason_of(error)}"
        return fail(needs.root_message(configuration, root, folder, problem), "see to that disk or share")
    text = f"{root.value} {folder} can be written, {free / GIGABYTE:.1f} GiB free"
    kept_free = _kept_free(configuration.settings, root)
    if free < kept_free:
        least = f"min-free-space= {configuration.settings.min_free_space} MB"
        return fail(text, f"make room: with less than {least}, images are refused with A700")
    if free < kept_free + LOW_SPACE:
        return fail(text, "make room, or the next objects are refused with A700")
    return ok(text)


def _kept_free(settings: Settings, root: Root) -> int:
    """Bytes that images may not use; dose reports may."""
    return settings.min_free_space * MEGABYTE if root is Root.IMAGES else 0


def notes(configuration: Configuration) -> Iterator[str]:
    """Keys of the file that have no effect beside others, or not the one that they have in the original."""
    settings = configuration.settings

    def about(field_name: str, value: object, text: str) -> str:
        key = configuration.spellings[field_name]
        return f"{configuration.path}, line {configuration.lines[field_name][0]}: {key}= {shown(value)}{text}"

    yield from _without_effect(configuration, about)
    yield from _open_to_doubt(configuration, about)
    is_num_threads = configuration.spellings.get("max_associations") != KEYS["max_associations"].name
    if settings.max_associations > MOST_THREADS and is_num_threads and "max_associations" in configuration.lines:
        text = f": the original stops at {MOST_THREADS}; here it is the number of associations served at once"
        yield about("max_associations", settings.max_associations, text)
    if settings.sr_sub is not None:
        text = "by the original's manual; the comment in the original's ini contradicts it"
        yield about("sr_sub", settings.sr_sub, f": {_SR_SUB[settings.sr_sub]}, {text}")
    has_reports_tree = settings.rdsr_tree and settings.sr_sub is not True
    if settings.rdsr_tree and not has_reports_tree:
        yield about("rdsr_tree", True, " has no effect while SRsub= 1, for nothing goes into RDSR-DIR")
    for field_name in ("image_name_index", "dicomdir"):
        if settings.folder_tree or not getattr(settings, field_name) or field_name in configuration.forced:
            continue
        if has_reports_tree:
            yield about(field_name, True, " only gives names in the tree of RDSR-DIR while folder-tree= 0")
        else:
            yield about(field_name, True, " has no effect while folder-tree= 0")


def _without_effect(configuration: Configuration, about: _About) -> Iterator[str]:
    """Keys that were set to something, and that others leave without a use."""
    settings, defaults = configuration.settings, Settings()
    for field_name in configuration.lines:
        value = getattr(settings, field_name)
        if value == getattr(defaults, field_name):
            continue
        if field_name.startswith("tls_") and not settings.tls_port and field_name != "tls_only":
            yield about(field_name, value, " has no effect while tls-port= 0")
        if field_name == "audit_syslog" and settings.audit != "syslog":
            yield about(field_name, value, f" has no effect while audit= {settings.audit}")
        is_limit = field_name in ("max_associations_per_ae", "max_associations_per_host")
        if is_limit and value > settings.max_associations:
            yield about(field_name, value, f" has no effect above max-associations= {settings.max_associations}")


def _open_to_doubt(configuration: Configuration, about: _About) -> Iterator[str]:
    """Values that are allowed, and that may not mean what was meant."""
    settings = configuration.settings
    for field_name, sign in (("allowed_ae", "@"), ("tls_names", ":")):
        for item in getattr(settings, field_name):
            title, _ = values.split_ae(item, sign)
            if " " in title:
                yield about(field_name, item, ": one AE title with a blank in it; if it is two, put a comma between")
    if settings.permissions & 0o002:
        yield about("permissions", settings.permissions, ": every user of this machine may change what was received")


def _what_is_accepted(in_force: Profile | None) -> str:
    if in_force is None:
        return f"no {profile.FILE_NAME}: every SOP class and transfer syntax"
    others = [name for name in in_force.names if name != in_force.name]
    return (
        f"{in_force.path}, profile {in_force.name} (line {in_force.line}): {len(in_force.sop_classes)} SOP classes"
        + (f"; not in use: {', '.join(others)}" if others else "")
    )
