"""a verb -> what systemd is asked to do for it: a unit file, and calls of systemctl."""

import contextlib
import functools
import os
import re
import shlex
import site
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dcmstore
from dcmstore import config, needs, wiring
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.service import manager, rights, unit
from dcmstore.service.manager import Action, InstallOptions, NotAtWork, Plan, ServiceError, State, Status
from dcmstore.service.programs import journal_end, journal_since, output_of
from dcmstore.service.rights import Account
from dcmstore.service.unit import UNIT_NAME, Program, Record

UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")  # is there when systemd runs the machine (sd_booted(3))
DEFAULT_USER = "dcmstore"
USER_ALLOWED = "a lower-case letter or _, then up to 30 of a-z, 0-9, _ and -"

RELOAD_PAUSE = 0.1  # seconds between two looks at the journal

_STATES = {
    "active": State.RUNNING,
    "reloading": State.RUNNING,
    "activating": State.STARTING,
    "deactivating": State.STOPPING,
}
_SHOWN = (
    *("ActiveState", "SubState", "StatusText", "UnitFileState", "NRestarts", "ActiveEnterTimestamp", "Result"),
    "NeedDaemonReload",
)

# No root folder lies there: it would be given to the service, and what install advises would change the owner of all.
_SYSTEM_FOLDERS = ("/", "/home", "/root", "/usr", "/var")
_SYSTEM_TREES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys"),
    *("/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin"),
)

# Where the journal says best why a service failed: the receiver, Python, systemd itself.
_REASONS = (
    r"(?m)^(?:ERROR +|dcmstore: )(.+)$",
    r"(?m)^((?:\w+Error|\S+python\S*): .+)$",
    r"(?m)^\S+: (Failed .+)$",
)
_NO_SYSTEMD = (
    "systemd does not run this machine; let its own service manager start `dcmstore run --config PATH`, "
    "or use the container of packaging/container"
)
_RELOADED = r"(?m)^(?:INFO +config\.reloaded|ERROR +config\.not_reloaded) (.+)$"


class SystemdManager:
    """The unit of dcmstore on this machine. Whoever may not change it can still look, and have plans shown."""

    def __init__(self, units: Path = UNITS, booted: Path = BOOTED) -> None:
        self._path = units / UNIT_NAME
        self._booted = booted

    # --- plans ------------------------------------------------------------------------------------

    def install(self, configuration: Configuration, options: InstallOptions) -> Plan:
        """Also renews a unit that was written for other settings, or by another dcmstore.

        The unit carries the record of what is changed, so it is written before anything is.
        """
        self._require_systemd()
        if options.firewall:
            port = configuration.settings.port
            raise ConfigurationError(
                "--firewall: the firewall is not dcmstore's on Linux: open the port with its own tool, such as "
                f"`sudo ufw allow {port}/tcp` or `sudo firewall-cmd --permanent --add-port={port}/tcp`"
            )
        before = self._record()
        _require_same_ini(before, configuration)
        _require_own_roots(configuration)
        account = Account.named(_user(options.account, before))
        if options.account and account.uid == 0:
            raise ConfigurationError(
                f"--account {account.name}: who breaks into a receiver with the rights of root has the machine; leave "
                "--account out, and install makes a user of its own"
            )
        program = Program.present()
        _require_for_all()
        try:
            needed = rights.missing(configuration, program, account)
        except OSError as error:
            raise ServiceError(f"can't look at {error.filename}: {reason_of(error)}; use sudo") from None
        record = Record(
            ini=str(configuration.path.absolute()),
            user=account.name,
            made_user=account.uid is None or (before is not None and before.made_user),
            were=(*(before.were if before else ()), *needed.were),
        )
        shown, writing = self._show(), self._writing(unit.text(configuration, program, self._release(), record))
        actions = [
            *writing,
            *([self._granting(*rights.useradd(account))] if account.uid is None else []),
            *(self._granting(*words) for words in needed.commands),
        ]
        if writing or shown["NeedDaemonReload"] == "yes":
            actions.append(self._call("systemctl", "daemon-reload"))
        if shown["UnitFileState"] != "enabled":
            actions.append(self._call("systemctl", "enable", UNIT_NAME))
        if not actions:
            raise ServiceError("\n".join([f"already installed, for {record.ini}", *needed.advice]))
        lacking = [f"installed, but the user {record.user} can't receive before this is done:", *needed.advice]
        return Plan(
            tuple(actions),
            "\n".join(self._installed(record, account, is_new=before is None, works=not needed.advice)),
            "\n".join(lacking) if needed.advice else "",
        )

    def start(self) -> Plan:
        record, shown = self._require_installed(), self._show()
        if _state(shown) is State.RUNNING:
            raise ServiceError(f"already running: {shown['StatusText']}")
        configuration = config.read(Path(record.ini))  # a mistake in it is told here, not found in the journal
        outdated = self._outdated(configuration, record)
        start = functools.partial(self._start, outdated)
        return Plan((self._action(f"systemctl start {UNIT_NAME}", start),), "\n".join(outdated))

    def stop(self) -> Plan:
        self._require_installed()
        shown = self._show()
        if _state(shown) is State.STOPPED and not _is_retrying(shown):
            raise ServiceError("already stopped")
        return Plan((self._call("systemctl", "stop", UNIT_NAME),), manager.STOPPED)

    def delete(self) -> Plan:
        """The unit carries the record of what is undone, so it goes last: what failed is done by the next try."""
        record, shown = self._require_installed(), self._show()
        actions = [self._call("systemctl", "stop", UNIT_NAME)] if shown["ActiveState"] != "inactive" else []
        actions += [
            self._action(f"systemctl reset-failed {UNIT_NAME}", _forget_failure),
            self._call("systemctl", "disable", UNIT_NAME),
            *(self._call(*words, without="see to its rights yourself") for words in rights.undo(record)),
        ]
        account = Account.named(record.user)
        if record.made_user and account.uid is not None:
            actions += [self._call(*words) for words in rights.userdel(record.user)]
        actions += [
            self._action(f"remove {self._path}", self._remove),
            self._call("systemctl", "daemon-reload"),
        ]
        return Plan(tuple(actions), "\n".join(self._left(record, account)))

    def reload(self) -> Plan:
        record = self._require_installed()
        if _state(self._show()) is not State.RUNNING:
            raise NotAtWork(manager.NOT_RUNNING)
        configuration = manager.to_be_reloaded(Path(record.ini))
        outdated = self._outdated(configuration, record)
        reload = functools.partial(self._reload, outdated)
        return Plan((self._action(f"systemctl reload {UNIT_NAME}", reload),), "\n".join(outdated))

    # --- looks ------------------------------------------------------------------------------------

    def query(self) -> Status:
        if not self._path.exists():
            return Status(State.NOT_INSTALLED, facts=() if self._booted.is_dir() else (_NO_SYSTEMD,))
        self._require_systemd()
        record, shown = self._record(), self._show()
        facts = [shown["StatusText"]] if shown["StatusText"] else []
        if shown["ActiveEnterTimestamp"] and _state(shown) is State.RUNNING:
            facts.append(f"since {shown['ActiveEnterTimestamp']}")
        if shown["NRestarts"] not in ("", "0"):
            facts.append(f"starts after a failure: {shown['NRestarts']}")
        if _is_retrying(shown) or shown["ActiveState"] == "failed":
            facts.append(f"it failed: {shown['Result']}; `journalctl -u {UNIT_NAME}` says why")
        if record:
            facts.append(f"runs as {record.user}")
        if shown["UnitFileState"] != "enabled":
            facts.append(f"does not start with the machine: sudo systemctl enable {UNIT_NAME}")
        return Status(_state(shown), Path(record.ini) if record else None, tuple(facts))

    def outdated(self) -> list[str]:
        record = self._require_installed()
        return self._outdated(config.read(Path(record.ini)), record)

    def _show(self) -> dict[str, str]:
        shown = output_of("systemctl", "show", UNIT_NAME, f"--property={','.join(_SHOWN)}")
        return {**dict.fromkeys(_SHOWN, ""), **dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)}

    def _record(self) -> Record | None:
        """Raises ServiceError when a unit of that name is there that is not ours."""
        if not self._path.exists():
            return None
        record = unit.record_of(self._path.read_text(encoding="utf-8"))
        if record is None:
            raise ServiceError(f"{self._path} was not written by dcmstore; remove it, or rename it")
        return record

    def _require_systemd(self) -> None:
        if not self._booted.is_dir():
            raise NotAtWork(_NO_SYSTEMD)

    def _require_installed(self) -> Record:
        self._require_systemd()
        record = self._record()
        if record is None:
            raise NotAtWork(manager.NOT_INSTALLED)
        return record

    @staticmethod
    def _release() -> int:
        match = re.match(r"systemd (\d+)", output_of("systemctl", "--version"))
        return int(match[1]) if match else 0

    # --- words ------------------------------------------------------------------------------------

    def _installed(self, record: Record, account: Account, *, is_new: bool, works: bool) -> list[str]:
        if not is_new:
            return ["renewed; it counts from the next start of the service: `dcmstore service stop`, then `start`"]
        reader = shlex.join(["sudo", "usermod", "-aG", account.group, "NAME"])
        installed = (
            f"installed: it runs as the user {record.user} and starts with the machine; "
            "`dcmstore service start` starts it now"
        )
        return [
            *([installed] if works else []),
            f"what it receives is for the group {account.group}; a person who reads it needs that group: {reader}",
        ]

    def _outdated(self, configuration: Configuration, record: Record) -> list[str]:
        """What a unit does not follow by itself: a folder that it does not let in, a port that it may not take."""
        wanted = unit.text(configuration, Program.present(), self._release(), record)
        if wanted == self._path.read_text(encoding="utf-8"):
            return []
        return [
            f"{self._path} was written for other settings or by another dcmstore: `dcmstore service install` "
            "renews it, then stop and start the service"
        ]

    def _left(self, record: Record, account: Account) -> list[str]:
        words = [f"deleted; {record.ini}, the log and all that was received stay"]
        if record.made_user and account.uid is not None:
            words.append(
                f"the user {record.user} is gone, and what it received bears its number {account.uid}: "
                "sudo chown -R NAME: FOLDER gives it to somebody else"
            )
        drop_ins = self._path.with_name(f"{UNIT_NAME}.d")
        if drop_ins.exists():
            words.append(f"{drop_ins} stays too: dcmstore did not make it")
        return words

    # --- what plans do ----------------------------------------------------------------------------

    def _action(self, shown: str, do: Callable[[], str], without: str = "") -> Action:
        def as_root() -> str:
            if os.geteuid() != 0:
                raise ServiceError(f"only root may do this: sudo {sys.executable} -m dcmstore …")
            return do()

        return Action(shown, as_root, without)

    def _call(self, *words: str, without: str = "") -> Action:
        def call() -> str:
            output_of(*words)
            return ""

        return self._action(shlex.join(words), call, without)

    def _granting(self, *words: str) -> Action:
        """A step of `install` that the record undoes."""

        def call() -> str:
            try:
                output_of(*words)
            except ServiceError as error:
                again = "once that works, `dcmstore service install` goes on; `dcmstore service delete` undoes the rest"
                raise ServiceError(f"{error}; {again}") from None
            return ""

        return self._action(shlex.join(words), call)

    def _writing(self, text: str) -> list[Action]:
        if self._path.exists() and self._path.read_text(encoding="utf-8") == text:
            return []

        def write() -> str:
            try:
                self._path.write_text(text, encoding="utf-8")
                self._path.chmod(0o644)
            except OSError as error:
                raise ServiceError(f"{self._path} can't be written: {reason_of(error)}") from None
            return ""

        return [self._action(f"write {self._path}:\n{text}", write)]

    def _remove(self) -> str:
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise ServiceError(f"{self._path} can't be removed: {reason_of(error)}") from None
        return ""

    def _start(self, outdated: list[str]) -> str:
        cursor = journal_end()
        try:
            output_of("systemctl", "start", UNIT_NAME)
        except ServiceError as error:
            why = f"did not start: {_reason(journal_since(cursor, UNIT_NAME)) or error}"
            again = f"systemd tries again at least every {unit.RESTART_LAST} seconds; `dcmstore service stop` ends that"
            raise ServiceError("\n".join([why, *outdated, again])) from None
        return f"running: {self._show()['StatusText']}"

    def _reload(self, outdated: list[str]) -> str:
        cursor = journal_end()
        output_of("systemctl", "reload", UNIT_NAME)
        deadline = time.monotonic() + manager.RELOAD_PATIENCE
        while time.monotonic() < deadline:
            if match := re.search(_RELOADED, journal_since(cursor, UNIT_NAME)):
                if match[0].startswith("ERROR"):
                    raise ServiceError("\n".join([f"not reloaded: {match[1]}", *outdated]))
                return f"reloaded: {match[1]}"
            time.sleep(RELOAD_PAUSE)
        return manager.NO_ANSWER


def _forget_failure() -> str:
    with contextlib.suppress(ServiceError):  # it has not failed, and systemd has nothing of it in memory
        output_of("systemctl", "reset-failed", UNIT_NAME)
    return ""


def _reason(journal: str) -> str:
    found = (re.findall(pattern, journal) for pattern in _REASONS)
    return next((lines[-1] for lines in found if lines), "")


# --- what install refuses -------------------------------------------------------------------------


def _require_same_ini(before: Record | None, configuration: Configuration) -> None:
    wanted = configuration.path.absolute()
    if before and os.path.realpath(before.ini) != os.path.realpath(wanted):
        raise ServiceError(
            f"installed for {before.ini}, not for {wanted}; `dcmstore service delete` first, then install"
        )


def _require_own_roots(configuration: Configuration) -> None:
    """Raises ConfigurationError."""
    for root, folder in wiring.roots_of(configuration.settings).items():
        place = folder.resolve()
        if str(place) in _SYSTEM_FOLDERS or any(place.is_relative_to(tree) for tree in _SYSTEM_TREES):
            problem = "is the system's own; name a folder for what is received alone, such as /srv/dicom/received"
            raise ConfigurationError(needs.root_message(configuration, root, folder, problem))


def _user(wanted: str, before: Record | None) -> str:
    if wanted and not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", wanted):
        raise ConfigurationError(f"user {wanted!r}: allowed is {USER_ALLOWED}")
    if before and wanted not in ("", before.user):
        raise ServiceError(f"installed for the user {before.user}; `dcmstore service delete` first, then install")
    return wanted or (before.user if before else DEFAULT_USER)


def _require_for_all() -> None:
    """`pip install --user` puts a package where only one person's Python looks."""
    place = Path(dcmstore.__file__)
    if place.is_relative_to(site.getusersitepackages()):
        raise ServiceError(
            f"dcmstore is installed for one person only, in {place.parent}; put it where services find it: "
            "sudo python3 -m venv /opt/dcmstore && sudo /opt/dcmstore/bin/pip install dcmstoreservice"
        )


# --- states --------------------------------------------------------------------------------------


def _state(shown: dict[str, str]) -> State:
    if _is_retrying(shown):
        return State.STOPPED
    return _STATES.get(shown["ActiveState"], State.STOPPED)


def _is_retrying(shown: dict[str, str]) -> bool:
    """It failed, and systemd waits for the time of the next start."""
    return shown["SubState"].startswith("auto-restart")
