"""a verb -> a plan: what a service manager is asked to do, shown first or carried out, on Windows and Linux alike."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from dcmstore import config, profile
from dcmstore.config import Configuration
from dcmstore.errors import ConfigurationError, DcmStoreError

DISPLAY_NAME = "Dicom Store Service"
RELOAD_PATIENCE = 10.0  # seconds in which the receiver says what became of a reload

# What is said on every system
NOT_INSTALLED = "not installed; `dcmstore service install` does that"
NOT_RUNNING = "not running; it reads its ini at the next start"
STOPPED = "stopped; what was acknowledged is on disk"
NO_ANSWER = "asked to read its ini again; the log has no answer yet, and shows one at `log-level= info` only"


class ServiceError(DcmStoreError):
    """The service manager said no, or the service did: why, and what to do, in words."""


class NotAtWork(ServiceError):
    """No service of ours runs here that could do it; a receiver without a service still may."""


class State(Enum):
    """What a service is doing."""

    RUNNING = "running"  # it listens, and its folders can be written
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    NOT_INSTALLED = "not installed"


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the service, with the ini that it was installed with; `facts` are for a person to read."""

    state: State
    ini: Path | None = None  # None when it is not installed, or not by us
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """One change to the machine. `text` is exactly what is done: a call, a command line, a file with its text.

    `do` returns a sentence to print, or nothing, and raises ServiceError. When `without` is given, its failure is a
    warning that goes on with these words (what the service is without now); else it ends the plan.
    """

    text: str
    do: Callable[[], str]
    without: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in their order, and what is said when all are done."""

    actions: tuple[Action, ...]
    done: str = ""
    lacking: str = ""  # what is still to be done by hand before it works; then the answer is no


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """What `install` is told beside the ini."""

    account: str = ""  # who the service runs as; empty: the manager's own choice
    firewall: bool = False


class ServiceManager(Protocol):
    """One service of one name on this machine. A method looks, and changes nothing; the plan that it returns does.

    Each raises ServiceError where nothing can be done: already or not installed, already running, no rights.
    """

    def install(self, configuration: Configuration, options: InstallOptions) -> Plan: ...

    def start(self) -> Plan: ...

    def stop(self) -> Plan: ...

    def delete(self) -> Plan:
        """Stops it first. The last words say what stays."""

    def reload(self) -> Plan: ...

    def query(self) -> Status: ...

    def outdated(self) -> list[str]:
        """What the installed service does not follow by itself since its ini or dcmstore changed, a line each.

        Also raises ConfigurationError when its ini can't be read.
        """


def to_be_reloaded(ini: Path) -> Configuration:
    """What a running service would read. Raises ConfigurationError, which says that nothing has changed."""
    try:
        configuration = config.read(ini)
        profile.in_force(configuration)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; the settings from before stay in force") from None
    return configuration


def of_this_system() -> ServiceManager:
    if sys.platform == "win32":
        from dcmstore.service.scm import WindowsManager

        return WindowsManager()
    from dcmstore.service.systemd import SystemdManager

    return SystemdManager()
